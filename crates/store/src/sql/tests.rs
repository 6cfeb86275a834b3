//! What callers cannot see: which server is asked, what happens to a statement that is given up, what is counted.

use super::*;
use futures_util::future::{join_all, maybe_done};
use jarvis_domain::{Conversation, ConversationId, Email, Timestamp};
use jarvis_testkit::services::{Postgres as Server, wait_until};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

async fn open(servers: &[&Server], database: &str, change: impl FnOnce(&mut DbOptions)) -> Db {
    let hosts = servers.iter().map(|server| Host {
        name: "127.0.0.1".into(),
        port: server.port(),
    });
    let mut options = DbOptions::new(Location::Postgres(PostgresOptions {
        hosts: hosts.collect(),
        user: Server::USER.into(),
        password: Some(Server::PASSWORD.into()),
        database: database.into(),
        connections: 4,
    }));
    change(&mut options);
    Db::open(&options).await.unwrap()
}

fn cluster(db: &Db) -> &Cluster {
    match &db.engine {
        Engine::Postgres(cluster, _) => cluster,
        Engine::Sqlite(..) => panic!("PostgreSQL"),
    }
}

/// Waits until this is known of one of the servers.
async fn until(db: &Db, server: usize, state: &str) {
    let reached = async || {
        while !db.servers()[server].1.to_string().starts_with(state) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reached())
        .await
        .unwrap_or_else(|_| panic!("the server is not {state}: {:?}", db.servers()));
}

async fn user(db: &Db) -> UserId {
    let new = NewUser {
        id: UserId::new(),
        email: "enzo@example.org".parse::<Email>().unwrap(),
        password_hash: "$argon2id$".into(),
        created_at: NOW,
    };
    let id = new.id;
    db.register(new, Grant::Open).await.unwrap();
    id
}

fn conversation(user: UserId) -> Conversation {
    Conversation {
        id: ConversationId::new(),
        user_id: user,
        title: "t".into(),
        model: None,
        head: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

#[tokio::test]
async fn writing_goes_on_when_a_full_disk_has_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(&DbOptions::file(directory.path().join("jarvis.db")))
        .await
        .unwrap();
    // What SQLite does by itself when it finds the disk full.
    let mut tx = db.begin_write().await.unwrap();
    tx.execute("test", "ROLLBACK", args![]).await.unwrap();
    drop(tx);
    let mut tx = db.begin_write().await.unwrap();
    tx.execute("test", "CREATE TABLE t (x BIGINT)", args![])
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_standby_is_read_only_while_it_has_all_of_the_users_changes() {
    let primary = Server::start();
    let standby = primary.standby();
    let db = open(&[&primary, &standby], &primary.create_database(), |_| {}).await;
    let enzo = user(&db).await;
    let at_standby = async || {
        let text = "SELECT CASE WHEN pg_is_in_recovery() THEN 1::bigint ELSE 0 END";
        let mut conn = db.reader_for(enzo).await.unwrap();
        conn.scalar("test", text, args![]).await.unwrap() == 1
    };
    let asked = async || {
        while !at_standby().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked())
        .await
        .expect("the standby catches up and is read");
    standby.psql("postgres", "SELECT pg_wal_replay_pause()");
    let paused = "SELECT pg_get_wal_replay_pause_state()";
    wait_until("replay pauses", || {
        standby.psql("postgres", paused) == "paused"
    });
    for n in 1..=3 {
        db.create_conversation(&conversation(enzo)).await.unwrap();
        assert!(!at_standby().await, "it is behind");
        let shown = db.conversations(enzo, 10, None).await.unwrap();
        assert_eq!(shown.len(), n);
    }
    standby.psql("postgres", "SELECT pg_wal_replay_resume()");
    tokio::time::timeout(Duration::from_secs(30), asked())
        .await
        .expect("the standby catches up again");
    drop(standby);
    let shown = db.conversations(enzo, 10, None).await.unwrap();
    assert_eq!(shown.len(), 3, "a standby that is gone is no trouble");
}

#[tokio::test]
async fn a_connection_to_a_standby_that_became_the_primary_writes() {
    let primary = Server::start();
    let standby = primary.standby();
    let db = open(&[&primary, &standby], &primary.create_database(), |_| {}).await;
    standby.catch_up(&primary);
    let second = Arc::clone(&cluster(&db).pools()[1]);
    drop(second.acquire(Role::Reader).await.unwrap());
    let refused = second.acquire(Role::Writer).await.err();
    assert!(
        matches!(refused, Some(StoreError::NotPrimary { .. })),
        "{refused:?}"
    );
    assert!(db.writable_for().is_some());
    drop(primary);
    until(&db, 0, "down").await;
    assert_eq!(db.writable_for(), None);
    standby.psql("postgres", "SELECT pg_promote()");
    let waited = db.reader().await;
    drop(waited.expect("who waits for a writer gets it"));
    user(&db).await;
    assert!(db.writable_for().is_some());
}

#[tokio::test]
async fn while_there_is_no_primary_callers_wait_until_the_deadline() {
    let mut server = Server::start();
    let deadline = |options: &mut DbOptions| options.deadline = Duration::from_millis(100);
    let db = open(&[&server], &server.create_database(), deadline).await;
    server.kill9();
    until(&db, 0, "down").await;
    let error = db.reader().await.err();
    assert!(matches!(error, Some(StoreError::NoPrimary)), "{error:?}");
}

#[tokio::test]
async fn servers_that_do_not_belong_together_are_not_written_to() {
    let (one, other) = (Server::start(), Server::start());
    let database = one.create_database();
    other.psql("postgres", &format!("CREATE DATABASE {database}"));
    let hosts = [&one, &other].map(|server| Host {
        name: "127.0.0.1".into(),
        port: server.port(),
    });
    let options = DbOptions::new(Location::Postgres(PostgresOptions {
        hosts: hosts.into(),
        user: Server::USER.into(),
        password: Some(Server::PASSWORD.into()),
        database: database.clone(),
        connections: 4,
    }));
    let error = Db::open(&options).await.unwrap_err();
    assert!(matches!(error, StoreError::NoPrimary), "{error:?}");
    for server in [&one, &other] {
        let tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
        assert_eq!(server.psql(&database, tables), "0");
    }
}

#[tokio::test]
async fn a_statement_that_is_given_up_ends_at_the_server_too() {
    let server = Server::shared();
    let database = server.create_database();
    let deadline = |options: &mut DbOptions| options.deadline = Duration::from_millis(300);
    let db = open(&[server], &database, deadline).await;
    let mut conn = db.writer().await.unwrap();
    let sleep = conn
        .execute("test", "SELECT pg_sleep(600)", args![])
        .await
        .unwrap_err();
    assert!(matches!(sleep, StoreError::Deadline), "{sleep:?}");
    drop(conn);
    db.ping().await.unwrap();
    let running = format!(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE '%pg_sleep%'"
    );
    wait_until("the server ends it", || {
        server.psql("postgres", &running) == "0"
    });
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_connection_along_and_no_other() {
    let server = Server::shared();
    let db = open(&[server], &server.create_database(), |_| {}).await;
    let enzo = user(&db).await;
    // More than there are connections.
    for _ in 0..12 {
        let mut tx = db.begin_write().await.unwrap();
        let hold = "UPDATE users SET role = 'user' WHERE id = $1";
        tx.execute("test", hold, args![enzo]).await.unwrap();
        let sleep = tx.execute("test", "SELECT pg_sleep(600)", args![]);
        let left = timeout(Duration::from_millis(20), sleep).await;
        assert!(left.is_err());
        drop(tx);
    }
    // The row is free again as soon as the server has noticed.
    let again = db.set_password_hash(enzo, "$argon2id$2").await;
    again.unwrap();
}

#[tokio::test]
async fn many_who_ask_for_versions_at_once_are_all_answered_from_after_they_asked() {
    let server = Server::shared();
    let db = open(&[server], &server.create_database(), |_| {}).await;
    let enzo = user(&db).await;
    let nobody = UserId::new();
    for round in 1..=5 {
        db.create_conversation(&conversation(enzo)).await.unwrap();
        let ask = |n: usize| db.conversations_version(if n < 300 { enzo } else { nobody });
        let versions = join_all((0..600).map(ask)).await;
        for (n, version) in versions.into_iter().enumerate() {
            let expected = if n < 300 { round } else { 0 };
            assert_eq!(version.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn who_leaves_while_asking_for_all_leaves_nobody_behind() {
    let server = Server::shared();
    let db = open(&[server], &server.create_database(), |_| {}).await;
    let enzo = user(&db).await;
    for _ in 0..50 {
        let ask = || Box::pin(maybe_done(db.conversations_version(enzo)));
        let mut asking: Vec<_> = (0..8).map(|_| ask()).collect();
        // All have put their question, and the first asks for all; on a quick server it may be done.
        for one in &mut asking {
            let _ = futures_util::poll!(one.as_mut());
        }
        drop(asking.remove(0));
        join_all(asking.iter_mut().map(Pin::as_mut)).await;
        for mut one in asking {
            assert_eq!(one.as_mut().take_output().unwrap().unwrap(), 0);
        }
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn statements_are_timed_and_slow_ones_told_without_what_they_were_given() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let run = async {
        let server = Server::shared();
        let slow = |options: &mut DbOptions| options.slow = Duration::ZERO;
        let db = open(&[server], &server.create_database(), slow).await;
        let hush: Email = "hush@example.org".parse().unwrap();
        db.credentials(&hush).await.unwrap();
        let twice = db.create_invite(UserId::new(), "hush", NOW, NOW).await;
        assert!(matches!(twice, Err(StoreError::Dangling)), "{twice:?}");
    };
    metrics::with_local_recorder(&recorder, || {
        tracing::subscriber::with_default(subscriber, || runtime.block_on(run));
    });
    let counted = recorder.handle().render();
    let line = |start: &str| counted.lines().find(|line| line.starts_with(start));
    let slow = line("jarvis_db_slow_queries_total ").unwrap();
    assert!(!slow.ends_with(" 0"), "{slow}");
    let one = "jarvis_db_query_duration_seconds_count{operation=\"credentials\"} 1";
    assert_eq!(line(one), Some(one), "{counted}");
    let logged = lines.0.lock().unwrap();
    let logged = String::from_utf8_lossy(&logged);
    assert!(
        logged.contains("a database query was slow") && logged.contains("FROM users WHERE email"),
        "{logged}"
    );
    assert!(!logged.contains("hush"), "{logged}");
}
