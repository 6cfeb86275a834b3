//! `serve` as a whole, without a model server: start, set-up, lock, stop.

use crate::process::{Process, get, run};
use serde_json::Value;
use std::fs;

const NO_ENGINE: [&str; 4] = ["serve", "--no-engine", "--node", "http://127.0.0.1:9"];

fn data_dir(home: &std::path::Path) -> String {
    home.join("data").display().to_string()
}

#[test]
fn page_interface_and_health_share_one_port() {
    let home = tempfile::tempdir().unwrap();
    let data = data_dir(home.path());
    let serve = Process::start(
        home.path(),
        &[&NO_ENGINE[..], &["--data-dir", &data]].concat(),
    );
    let (status, text) = get(serve.public, "/api/v1/instance");
    assert_eq!(status, 200, "{text}");
    assert!(text.contains(r#""setup_token_required":false"#), "{text}");
    assert!(
        get(serve.public, "/health")
            .1
            .ends_with(r#"{"status":"ok"}"#)
    );
    assert!(get(serve.public, "/c/abc").1.contains("text/html"));
    let (status, text) = get(serve.public, "/api/v1/no-such-thing");
    assert_eq!(status, 404, "{text}");
    assert!(text.contains("application/problem+json"), "{text}");
    assert!(serve.stop().success());
}

#[test]
fn readiness_says_what_is_degraded_and_stays() {
    let home = tempfile::tempdir().unwrap();
    let data = data_dir(home.path());
    let serve = Process::start(
        home.path(),
        &[&NO_ENGINE[..], &["--data-dir", &data]].concat(),
    );
    let (status, text) = get(serve.admin, "/health/ready");
    assert_eq!(status, 200, "{text}");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let said: Value = serde_json::from_str(body).unwrap();
    assert_eq!(said["status"], "degraded", "{said}");
    let parts = said["components"].as_array().unwrap();
    let down: Vec<_> = parts
        .iter()
        .filter(|part| part["status"] == "down")
        .collect();
    assert_eq!(down.len(), 1, "{said}");
    assert!(down[0]["name"].as_str().unwrap().starts_with("node "));
    assert!(serve.stop().success());
}

#[test]
fn a_data_directory_serves_one_process_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let data = data_dir(home.path());
    let args = [&NO_ENGINE[..], &["--data-dir", &data]].concat();
    let first = Process::start(home.path(), &args);
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (status, _, stderr) = run(home.path(), &[&args[..], &free].concat());
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("is in use by another Jarvis"), "{stderr}");
    assert!(first.stop().success());
    let second = Process::start(home.path(), &args);
    assert!(second.stop().success());
}

#[test]
fn a_data_directory_that_is_a_file_is_explained() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("data"), "").unwrap();
    let data = data_dir(home.path());
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let args = [&NO_ENGINE[..], &["--data-dir", &data], &free].concat();
    let (status, _, stderr) = run(home.path(), &args);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("is not a directory"), "{stderr}");
}

#[test]
fn a_database_that_is_none_is_explained() {
    let home = tempfile::tempdir().unwrap();
    let data = data_dir(home.path());
    fs::create_dir(&data).unwrap();
    fs::write(
        home.path().join("data/jarvis.db"),
        "not a database, ".repeat(512),
    )
    .unwrap();
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let args = [&NO_ENGINE[..], &["--data-dir", &data], &free].concat();
    let (status, _, stderr) = run(home.path(), &args);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("damaged or not a database"), "{stderr}");
    let (status, stdout, _) = run(home.path(), &["doctor", "--data-dir", &data]);
    assert_eq!(status.code(), Some(1));
    assert!(stdout.contains("WRONG  database"), "{stdout}");
}

#[test]
fn a_database_of_a_newer_version_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let data = data_dir(home.path());
    let args = [&NO_ENGINE[..], &["--data-dir", &data]].concat();
    assert!(Process::start(home.path(), &args).stop().success());
    let script = "import sqlite3, sys\n\
        db = sqlite3.connect(sys.argv[1])\n\
        db.execute(\"INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (99991231000000, 'from the future', 1, x'00', 0)\")\n\
        db.execute(\"UPDATE schema_floor SET version = 99991231000000\")\n\
        db.commit()\n";
    let outcome = std::process::Command::new("python3")
        .args(["-c", script, &format!("{data}/jarvis.db")])
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
    let free = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (status, _, stderr) = run(home.path(), &[&args[..], &free].concat());
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("use the newer program"), "{stderr}");
}

#[test]
fn the_first_account_of_an_open_listener_needs_the_printed_token() {
    let home = tempfile::tempdir().unwrap();
    let data = data_dir(home.path());
    let serve = Process::start_on(
        home.path(),
        &[&NO_ENGINE[..], &["--data-dir", &data]].concat(),
        "0.0.0.0:0",
    );
    let note = serve.line().unwrap();
    assert!(note.contains("set-up token: "), "{note}");
    let local = ([127, 0, 0, 1], serve.public.port()).into();
    let (_, text) = get(local, "/api/v1/instance");
    assert!(text.contains(r#""setup_token_required":true"#), "{text}");
    assert!(serve.stop().success());
}
