//! What people have entrusted to an installation is moved, backed up and restored by the commands that operators type.

use crate::process::{Process, run};
use jarvis_testkit::services::Postgres;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
};

/// The status of an answer.
fn post(address: SocketAddr, path: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

const ADA: &str = r#"{"email":"ada@example.org","password":"difference engine no. 2"}"#;

/// An installation without a model server of its own, in the directory `home`.
fn serve(home: &Path, args: &[&str]) -> Process {
    let own = ["serve", "--no-engine", "--node", "http://127.0.0.1:9"];
    Process::start(home, &[&own[..], args].concat())
}

/// Runs it: what it prints, if it succeeds.
fn done(home: &Path, args: &[&str]) -> String {
    let (status, stdout, stderr) = run(home, args);
    assert!(status.success(), "{args:?}: {stdout}{stderr}");
    stdout
}

/// Runs it: the one sentence with which it fails.
fn refused(home: &Path, args: &[&str]) -> String {
    let (status, stdout, stderr) = run(home, args);
    assert_eq!(status.code(), Some(1), "{args:?}: {stdout}{stderr}");
    let last = stderr.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("jarvis: "), "{stderr}");
    last
}

/// The lines of a report that name a table.
fn tables(report: &str) -> Vec<&str> {
    let checksum =
        |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ends_in_one = |line: &&str| line.rsplit(' ').next().is_some_and(checksum);
    report.lines().filter(ends_in_one).collect()
}

#[test]
fn an_installation_goes_to_postgres_and_into_a_backup_and_back() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let file = |name: &str, text: &str| {
        fs::write(home.join(name), text).unwrap();
        home.join(name).display().to_string()
    };
    let running = serve(home, &["--data-dir", "first"]);
    assert_eq!(post(running.public, "/api/v1/auth/register", ADA), 201);
    let passphrase = file("passphrase", "open sesame\n");
    let locked = ["--passphrase-file", &passphrase];

    // A backup while it runs; a move only once it has stopped.
    let backup = ["backup", "first.age", "--data-dir", "first", "--verify"];
    let taken = done(home, &[&backup[..], &locked].concat());
    assert!(taken.contains("read again"), "{taken}");
    assert!(tables(&taken)[0].starts_with("users "), "{taken}");
    let server = Postgres::shared();
    let url = server.url(&server.create_database());
    let password = file("password", Postgres::PASSWORD);
    let from = format!("sqlite://{}", home.join("first/jarvis.db").display());
    let to_postgres = [
        "migrate",
        "data",
        "--from",
        &from,
        "--to",
        &url,
        "--to-password-file",
        &password,
    ];
    let said = refused(home, &to_postgres);
    assert!(said.contains("in use by another Jarvis"), "{said}");
    assert!(running.stop().success());

    let moved = done(home, &to_postgres);
    assert!(!moved.contains(Postgres::PASSWORD), "{moved}");
    assert!(refused(home, &to_postgres).contains("is not empty"));
    let config = file(
        "postgres.toml",
        &format!("[store]\nurl = \"{url}\"\npassword_file = \"{password}\"\n"),
    );
    let on_postgres = ["--config", &config, "--data-dir", "second"];
    let running = serve(home, &on_postgres);
    assert_eq!(post(running.public, "/api/v1/auth/login", ADA), 200);
    assert!(running.stop().success());

    // What was taken on PostgreSQL is restored into a file.
    let backup = [&["backup", "second.age"][..], &on_postgres, &locked].concat();
    done(home, &backup);
    assert!(refused(home, &backup).contains("exists already"));
    let restore = [
        &["restore", "second.age", "--data-dir", "third"][..],
        &locked,
    ]
    .concat();
    let restored = done(home, &restore);
    let compared = done(home, &[&restore[..], &["--verify", "--compare"]].concat());
    assert_eq!(tables(&restored), tables(&compared));
    let running = serve(home, &["--data-dir", "third"]);
    assert_eq!(post(running.public, "/api/v1/auth/login", ADA), 200);
    assert!(running.stop().success());
    assert!(refused(home, &restore).contains("is not empty"));
}

#[test]
fn a_backup_that_cannot_be_opened_leaves_no_trace() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    fs::write(home.join("right"), "open sesame").unwrap();
    fs::write(home.join("wrong"), "open barley").unwrap();
    fs::write(home.join("text"), "no backup at all").unwrap();
    serve(home, &["--data-dir", "first"]).stop();
    done(
        home,
        &[
            "backup",
            "a.age",
            "--data-dir",
            "first",
            "--passphrase-file",
            "right",
        ],
    );
    let whole = fs::read(home.join("a.age")).unwrap();
    fs::write(home.join("cut.age"), &whole[..whole.len() - 20]).unwrap();
    for (file, key, says) in [
        ("a.age", "wrong", "cannot be opened with this passphrase"),
        ("cut.age", "right", "damaged or cut off"),
        ("text", "right", "not an archive"),
        ("absent", "right", "No such file"),
    ] {
        let restore = [
            "restore",
            file,
            "--data-dir",
            "new",
            "--passphrase-file",
            key,
        ];
        let said = refused(home, &restore);
        assert!(said.contains(says), "{file}: {said}");
        assert!(!home.join("new").exists(), "{file}: {said}");
    }
    let said = refused(home, &["backup", "b.age", "--data-dir", "first"]);
    assert!(said.contains("nobody is there to type"), "{said}");
    assert!(!home.join("b.age").exists());
}

#[test]
fn urls_that_lead_nowhere_are_refused_without_their_secrets() {
    let home = tempfile::tempdir().unwrap();
    let to = format!("sqlite://{}", home.path().join("to/jarvis.db").display());
    for (from, says) in [
        ("postgres://me:hunter2@db/jarvis", "--from-password-file"),
        ("mysql://me:hunter2@db/jarvis", "--from is not understood"),
        ("sqlite:///not/there/jarvis.db", "there is no database at"),
    ] {
        let said = refused(
            home.path(),
            &["migrate", "data", "--from", from, "--to", &to],
        );
        assert!(said.contains(says) && !said.contains("hunter2"), "{said}");
        assert!(!home.path().join("to/jarvis.db").exists(), "{said}");
    }
}
