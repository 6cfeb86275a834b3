//! Started wrongly: one clear sentence on standard error, no panic, an exit code that is not zero.

use crate::process::{Process, run};
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

#[test]
fn doctor_asks_the_nodes_it_is_told_of() {
    let home = tempfile::tempdir().unwrap();
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let engine = Process::start(home.path(), &["engine"]);
    let answering = format!("http://{}", engine.public);
    // A port that no program is given.
    let nowhere = "http://127.0.0.1:1";
    let nodes = ["doctor", "--node", &answering, "--node", nowhere];
    let (status, stdout, _) = run(home.path(), &[&nodes[..], &free].concat());
    assert_eq!(status.code(), Some(1), "{stdout}");
    let line = |start: String| {
        stdout
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap()
    };
    let said = line(format!(
        "WRONG  node {nowhere}: no answer from 127.0.0.1:1 ("
    ));
    assert!(said.contains("Connection refused"), "{said}");
    line(format!(
        "note   node {answering}: answers, but has no models"
    ));
    assert!(engine.stop().success());
}

#[test]
fn a_file_that_is_no_model_is_told_once_why() {
    let home = tempfile::tempdir().unwrap();
    let add = ["model", "add", "missing.gguf", "--name", "new"];
    let said = refused(home.path(), &add);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    fs::write(home.path().join("text.gguf"), "hello").unwrap();
    let add = ["model", "add", "text.gguf", "--name", "new"];
    let said = refused(home.path(), &add);
    assert_eq!(said.matches("not a GGUF file").count(), 1, "{said}");
}

#[test]
fn a_damaged_manifest_is_reported_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let manifests = home.path().join(".local/share/jarvis/models/manifests");
    fs::create_dir_all(&manifests).unwrap();
    let file = manifests.join("mine%3a1.json");
    fs::write(&file, "{\"name\": \"mine:1\"").unwrap();
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (status, stdout, _) = run(home.path(), &[&["doctor"], &free[..]].concat());
    assert_eq!(status.code(), Some(1));
    let wrong = stdout
        .lines()
        .find(|line| line.starts_with("WRONG"))
        .unwrap();
    let (status, listed, _) = run(home.path(), &["model", "list"]);
    assert!(status.success());
    for said in [wrong, &listed] {
        assert!(said.contains(file.to_str().unwrap()), "{said}");
        assert!(said.contains("EOF while parsing"), "{said}");
        assert!(said.contains("`jarvis model remove mine:1`"), "{said}");
    }
    let (status, removed, stderr) = run(home.path(), &["model", "rm", "mine:1"]);
    assert!(status.success(), "{stderr}");
    assert!(
        removed.starts_with("Removed mine:1, which was damaged."),
        "{removed}"
    );
    assert!(!file.exists());
}
