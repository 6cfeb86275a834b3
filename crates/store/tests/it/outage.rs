//! A PostgreSQL that falls silent, dies and comes back.

use crate::{on, user};
use jarvis_store::{Db, DbOptions, HostState, Location, StoreError};
use jarvis_testkit::services::{PATIENCE, Postgres};
use std::time::Duration;
use tokio::time::{sleep, timeout};

async fn open(server: &Postgres, database: &str) -> Db {
    let options = DbOptions {
        deadline: Duration::from_millis(500),
        ..DbOptions::new(Location::Postgres(on(server, database)))
    };
    Db::open(&options).await.unwrap()
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_deadline_and_used_again_when_it_speaks() {
    let mut server = Postgres::start();
    let database = server.create_database();
    let db = open(&server, &database).await;
    let enzo = user(&db, "enzo@example.org").await;
    server.pause();
    // More than there are connections: none of them may stay taken.
    for _ in 0..12 {
        let error = db.user(enzo.id).await.unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Deadline | StoreError::Silent { .. } | StoreError::NoPrimary
            ),
            "{error:?}"
        );
        assert!(error.is_outage());
    }
    server.resume();
    assert_eq!(db.user(enzo.id).await.unwrap(), Some(enzo));
}

#[tokio::test]
async fn a_killed_server_is_an_outage_and_what_it_acknowledged_is_there_when_it_returns() {
    let mut server = Postgres::start();
    let database = server.create_database();
    let db = open(&server, &database).await;
    let enzo = user(&db, "enzo@example.org").await;
    server.kill9();
    for _ in 0..3 {
        let error = db.user(enzo.id).await.unwrap_err();
        assert!(error.is_outage(), "{error:?}");
    }
    server.restart();
    assert_eq!(db.user(enzo.id).await.unwrap(), Some(enzo));
}

#[tokio::test]
async fn a_change_whose_confirmation_is_lost_is_said_to_be_unsure() {
    let server = Postgres::start();
    let database = server.create_database();
    let db = open(&server, &database).await;
    // The server ends the connection in the middle of the commit.
    server.psql(
        &database,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(9); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER die AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();",
    );
    let new = crate::new_user("enzo@example.org");
    let error = db
        .register(new, jarvis_store::Grant::Open)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unsure(_)), "{error:?}");
    server.psql(&database, "DROP TRIGGER die ON users");
    user(&db, "enzo@example.org").await;
}

#[tokio::test]
async fn who_asks_how_it_stands_learns_at_once_that_no_server_takes_writes() {
    let mut server = Postgres::start();
    let database = server.create_database();
    let options = DbOptions {
        deadline: PATIENCE,
        ..DbOptions::new(Location::Postgres(on(&server, &database)))
    };
    let db = Db::open(&options).await.unwrap();
    db.ping().await.unwrap();
    server.stop();
    server.become_standby();
    server.restart();
    // It is there, it can be read, and nobody writes.
    assert_eq!(server.psql(&database, "SELECT COUNT(*) FROM users"), "0");
    until(&db, |asked| {
        matches!(asked, Err(StoreError::NoPrimary))
            && matches!(db.servers()[0].1, HostState::Detached)
    })
    .await;
    server.psql("postgres", "SELECT pg_promote()");
    until(&db, Result::is_ok).await;
    user(&db, "enzo@example.org").await;
}

#[tokio::test]
async fn a_database_that_takes_no_changes_is_told_until_it_takes_them_again() {
    let server = Postgres::start();
    let database = server.create_database();
    let db = open(&server, &database).await;
    let enzo = user(&db, "enzo@example.org").await;
    let read_only = "ALTER SYSTEM SET default_transaction_read_only =";
    server.psql("postgres", &format!("{read_only} on"));
    server.psql("postgres", "SELECT pg_reload_conf()");
    // Nothing is written only to see whether it could be.
    until_refused(&db).await;
    assert_eq!(db.user(enzo.id).await.unwrap(), Some(enzo.clone()));
    let error = db.ping().await.unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(error, StoreError::Unwritable { .. }) && told.contains("read-only transaction"),
        "{told}"
    );
    server.psql("postgres", &format!("{read_only} off"));
    server.psql("postgres", "SELECT pg_reload_conf()");
    // No other change has to come first.
    until(&db, Result::is_ok).await;
    user(&db, "ada@example.org").await;
}

/// Tries to write until the server has heard that it may not be.
async fn until_refused(db: &Db) {
    let refused = async {
        let mut number = 0;
        loop {
            let new = crate::new_user(&format!("refused{number}@example.org"));
            if db.register(new, jarvis_store::Grant::Open).await.is_err() {
                return;
            }
            number += 1;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
}

async fn until(db: &Db, good: impl Fn(&Result<(), StoreError>) -> bool) {
    let asking = async {
        while !good(&db.ping().await) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap();
}
