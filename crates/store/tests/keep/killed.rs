//! A move that is killed (`kill -9`) goes on where it was. The child is this same test binary; it waits after each step for a line
//! on its standard input, so that the parent decides where it dies.

use crate::{Engine, NOW, Store, fixture, told};
use jarvis_store::keep::{KeepError, Part, migrate};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const FROM: &str = "JARVIS_TEST_MOVE_FROM";
const TO: &str = "JARVIS_TEST_MOVE_TO";

struct Mover {
    child: Child,
    go: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Mover {
    fn start(from: &Store, to: &Store) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed::moves_step_by_step",
                "--ignored",
                "--nocapture",
            ])
            .env(FROM, location(from))
            .env(TO, location(to))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let go = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, go, said }
    }

    /// What it says next; `None` at its end.
    fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.said.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, step)) = line.trim_end().split_once("step: ") {
                return Some(step.to_owned());
            }
        }
    }

    fn go(&mut self) {
        self.go.write_all(b"\n").unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it run to its end: what it said, step by step.
    fn finish(mut self) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some(step) = self.next() {
            steps.push(step);
            self.go();
        }
        assert!(self.child.wait().unwrap().success(), "{steps:?}");
        steps
    }
}

/// What a child is told of a store.
fn location(store: &Store) -> String {
    match &store.options.location {
        jarvis_store::Location::File { path, .. } => path.display().to_string(),
        jarvis_store::Location::Postgres(options) => {
            format!("{} {}", options.hosts[0].port, options.database)
        }
    }
}

/// The store of this [`location`].
fn store(text: &str) -> jarvis_store::keep::Place {
    let options = match text.split_once(' ') {
        None => jarvis_store::DbOptions::file(text),
        Some((port, database)) => {
            let options = jarvis_store::PostgresOptions {
                hosts: vec![jarvis_store::Host {
                    name: "127.0.0.1".into(),
                    port: port.parse().unwrap(),
                }],
                user: jarvis_testkit::services::Postgres::USER.into(),
                password: Some(jarvis_testkit::services::Postgres::PASSWORD.into()),
                database: database.into(),
                connections: 4,
            };
            jarvis_store::DbOptions::new(jarvis_store::Location::Postgres(options))
        }
    };
    jarvis_store::keep::Place::new(text.to_owned(), options)
}

#[tokio::test]
#[ignore = "the child that the other tests of this file start"]
async fn moves_step_by_step() {
    let (from, to) = (std::env::var(FROM).unwrap(), std::env::var(TO).unwrap());
    let mut lines = std::io::stdin().lines();
    migrate(&store(&from), &store(&to), None, NOW, |progress| {
        println!(
            "step: {:?} {} {}",
            progress.step, progress.table, progress.rows
        );
        lines.next().unwrap().unwrap();
    })
    .await
    .unwrap_or_else(|error| panic!("{}", told(&error)));
}

fn killed_everywhere(from: &Store, to: &Store) {
    // Each life goes some steps further and is killed there: while it waits, or in the midst of what the last line set off.
    let mut lives = 0;
    let mut reached = String::new();
    for steps in [1, 2, 3, 5, 7, 4, 6, 2, 9, 3] {
        let mut mover = Mover::start(from, to);
        for _ in 1..steps {
            reached = mover.next().unwrap();
            mover.go();
        }
        reached = mover.next().unwrap_or(reached);
        if steps % 2 == 0 {
            mover.go();
        }
        mover.kill();
        lives += 1;
    }
    assert_eq!(lives, 10);
    let rest = Mover::start(from, to).finish();
    assert_ne!(
        rest.first().map(String::as_str),
        Some("Copying users 0"),
        "it went on, after {reached}, and did not begin anew"
    );
    assert!(
        rest.contains(&"Verifying messages 437".to_owned()),
        "{rest:?}"
    );
}

#[tokio::test]
async fn a_killed_move_to_postgres_goes_on() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Postgres));
    fixture::fill(&from).await;
    killed_everywhere(&from, &to);
    assert_eq!(to.number("SELECT COUNT(*) FROM moves").await, 0);
    assert_eq!(to.number("SELECT COUNT(*) FROM messages").await, 437);
    to.open().await.close().await;
}

#[tokio::test]
async fn a_killed_move_to_sqlite_goes_on() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Sqlite));
    fixture::fill(&from).await;
    killed_everywhere(&from, &to);
    assert_eq!(to.number("SELECT COUNT(*) FROM messages").await, 437);
    to.open().await.close().await;
}

#[tokio::test]
async fn a_half_filled_target_takes_nothing_from_elsewhere_and_serves_nobody() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Postgres));
    fixture::fill(&from).await;
    let mut mover = Mover::start(&from, &to);
    mover.next().unwrap();
    mover.go();
    mover.next().unwrap();
    mover.kill();
    let other = Store::new(Engine::Sqlite);
    other.open().await.close().await;
    let error = migrate(&other.place(), &to.place(), None, NOW, |_| ())
        .await
        .unwrap_err();
    assert!(matches!(error, KeepError::OtherMove { .. }), "{error}");
    let error = migrate(
        &store(&location(&from)),
        &to.place(),
        Some(Part::Series),
        NOW,
        |_| (),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, KeepError::OtherPart { .. }), "{error}");
    let error = jarvis_store::Db::open(&to.options).await.unwrap_err();
    assert!(error.to_string().contains("unfinished move"), "{error}");
}
