//! A PostgreSQL that falls silent, dies and comes back.

use crate::{on, user};
use jarvis_store::{Db, DbOptions, Location, StoreError};
use jarvis_testkit::services::Postgres;
use std::time::Duration;

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
