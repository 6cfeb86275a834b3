//! Started wrongly: one clear sentence on standard error, no panic, an exit code that is not zero.

use crate::process::run;
use std::{fs, net::TcpListener};

/// Runs it and gives what it says, having checked that it says it decently.
fn refused(home: &std::path::Path, args: &[&str]) -> String {
    let (status, stdout, stderr) = run(home, args);
    assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
    assert!(stderr.starts_with("jarvis: "), "{stderr}");
    for forbidden in ["panicked", "RUST_BACKTRACE", "stack backtrace", "Os {"] {
        assert!(!stderr.contains(forbidden), "{stderr}");
    }
    stderr
}

#[test]
fn a_taken_port() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(home.path(), &["web", "--listen", &address]);
    assert!(
        said.contains(&format!("{address} is already in use")),
        "{said}"
    );
    assert!(said.contains("--listen"), "{said}");
}

#[test]
fn an_address_of_another_machine() {
    let home = tempfile::tempdir().unwrap();
    let said = refused(home.path(), &["web", "--listen", "192.0.2.1:8080"]);
    assert!(said.contains("is not an address of this machine"), "{said}");
}

#[test]
fn a_mistyped_key() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("jarvis.toml"), "[engine]\nparalel = 2\n").unwrap();
    let said = refused(home.path(), &["serve"]);
    assert!(said.contains("did you mean `engine.parallel`?"), "{said}");
    assert!(said.contains("jarvis.toml"), "{said}");
}

#[test]
fn an_impossible_log_filter() {
    let home = tempfile::tempdir().unwrap();
    let said = refused(home.path(), &["web", "--log", "info,jarvis=loud"]);
    assert!(said.contains("log.filter"), "{said}");
}

#[test]
fn doctor_lists_every_mistake_and_fails() {
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join("jarvis.toml"),
        "[engin]\n[log]\nformat = 1\n",
    )
    .unwrap();
    let (status, stdout, _) = run(home.path(), &["doctor"]);
    assert_eq!(status.code(), Some(1));
    assert_eq!(stdout.matches("WRONG").count(), 2, "{stdout}");
    assert!(stdout.contains("did you mean `[engine]`?"), "{stdout}");
}

#[test]
fn check_and_show_agree_on_what_is_valid() {
    let home = tempfile::tempdir().unwrap();
    let (status, text, _) = run(home.path(), &["config", "check", "--threads", "2"]);
    assert!(status.success(), "{text}");
    let (status, text, _) = run(home.path(), &["config", "show", "--threads", "2"]);
    assert!(status.success());
    assert!(text.contains("threads = 2  # flag --threads"), "{text}");
    let said = refused(home.path(), &["config", "check", "--threads", "0"]);
    assert!(
        said.contains("server.threads: must be from 1 to 1024"),
        "{said}"
    );
}

#[test]
fn files_that_are_no_models() {
    let home = tempfile::tempdir().unwrap();
    let whole = jarvis_testkit::gguf_without_vocabulary();
    for (name, bytes, reason) in [
        (
            "weights.gguf",
            &whole[..],
            "no vocabulary in the file: it is no language model",
        ),
        ("cut.gguf", &whole[..whole.len() - 1], "truncated"),
        ("text.gguf", &b"hello"[..], "not a GGUF file"),
        ("empty.gguf", &b""[..], "not a GGUF file"),
    ] {
        let file = home.path().join(name);
        fs::write(&file, bytes).unwrap();
        let file = file.to_str().unwrap();
        let args = ["model", "add", file, "--name", "bad", "--data-dir", "data"];
        let said = refused(home.path(), &args);
        assert!(said.contains(reason), "{said}");
        assert!(said.contains(name), "{said}");
    }
    let missing = ["model", "add", "none.gguf", "--name", "bad"];
    let said = refused(
        home.path(),
        &[&missing[..], &["--data-dir", "data"]].concat(),
    );
    assert!(said.contains("none.gguf"), "{said}");
    let (status, stdout, _) = run(home.path(), &["model", "list", "--data-dir", "data"]);
    assert!(status.success());
    assert!(stdout.starts_with("No models"), "{stdout}");
    for part in ["blobs", "manifests"] {
        let left = fs::read_dir(home.path().join("data/models").join(part)).unwrap();
        assert_eq!(left.count(), 0, "{part}");
    }
}
