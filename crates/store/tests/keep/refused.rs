//! Bad input: a clear error before anything is changed.

use crate::{Engine, NOW, Store, fixture, postgres, told};
use jarvis_store::{
    Db, DbOptions, Location, SCHEMA_VERSION,
    keep::{KeepError, Part, Place, migrate},
};
use jarvis_testkit::services::Postgres;

async fn refused(from: &Place, to: &Place) -> KeepError {
    migrate(from, to, None, NOW, |_| ()).await.unwrap_err()
}

#[tokio::test]
async fn a_target_with_rows_is_refused_and_left_alone() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let (from, to) = (Store::new(Engine::Sqlite), Store::new(engine));
        fixture::fill(&from).await;
        to.open().await.close().await;
        to.execute("INSERT INTO users (id, email, password_hash, role, created_at) VALUES ('a', 'b', 'c', 'd', 1)")
            .await;
        let error = refused(&from.place(), &to.place()).await;
        assert!(
            matches!(error, KeepError::NotEmpty { table: "users", .. }),
            "{error}"
        );
        assert_eq!(to.number("SELECT COUNT(*) FROM users").await, 1);
        assert_eq!(to.number("SELECT COUNT(*) FROM moves").await, 0);
        to.open().await.close().await;
    }
}

#[tokio::test]
async fn a_database_cannot_be_moved_into_itself() {
    let store = Store::new(Engine::Sqlite);
    fixture::fill(&store).await;
    let error = refused(&store.place(), &store.place()).await;
    assert!(matches!(error, KeepError::NotEmpty { .. }), "{error}");
}

/// A target as a move leaves it that was killed right after its beginning.
async fn begun(from: &Store, engine: Engine, part: &str, at_table: &str) -> Store {
    let to = Store::new(engine);
    to.open().await.close().await;
    let source = from.name();
    to.execute(&format!(
        "INSERT INTO moves (source, part, at_table, started_at) VALUES ('{source}', '{part}', '{at_table}', 1)"
    ))
    .await;
    to
}

#[tokio::test]
async fn another_part_leaves_an_unfinished_move_alone() {
    // Without series, so that nothing but the mark could tell that rows are missing.
    let from = Store::new(Engine::Sqlite);
    fixture::fill(&from).await;
    from.execute("DELETE FROM series_answers").await;
    from.execute("DELETE FROM series_nodes").await;
    let (main, series) = (Some(Part::Main), Some(Part::Series));
    for engine in [Engine::Sqlite, Engine::Postgres] {
        for (part, at_table, others) in [
            ("all", "users", [main, series]),
            ("main", "users", [None, series]),
            ("series", "series_answers", [None, main]),
        ] {
            let to = begun(&from, engine, part, at_table).await;
            for other in others {
                let error = migrate(&from.place(), &to.place(), other, NOW, |_| ())
                    .await
                    .unwrap_err();
                let began = match part {
                    "all" => "began without `--only`".to_owned(),
                    part => format!("began with `--only {part}`"),
                };
                assert!(
                    matches!(&error, KeepError::OtherPart { .. }) && told(&error).contains(&began),
                    "{other:?} into {part}: {error}"
                );
                assert_eq!(to.number("SELECT COUNT(*) FROM moves").await, 1);
                assert_eq!(to.number("SELECT COUNT(*) FROM users").await, 0);
                let error = Db::open(&to.options).await.unwrap_err();
                assert!(error.to_string().contains("unfinished move"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_move_that_an_earlier_program_began_counts_as_one_of_all_tables() {
    let from = Store::new(Engine::Sqlite);
    fixture::fill(&from).await;
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let to = Store::new(engine);
        to.open().await.close().await;
        let mark = format!(
            "INSERT INTO moves VALUES ('{}', 'users', NULL, 1)",
            from.name()
        );
        // As it was before the column was there.
        to.execute("ALTER TABLE moves DROP COLUMN part").await;
        to.execute(&mark).await;
        to.execute("DELETE FROM _sqlx_migrations WHERE version = 6")
            .await;
        Db::open(&to.options).await.unwrap_err();
        let series = Some(Part::Series);
        let refused = migrate(&from.place(), &to.place(), series, NOW, |_| ()).await;
        assert!(
            matches!(refused, Err(KeepError::OtherPart { .. })),
            "{refused:?}"
        );
        migrate(&from.place(), &to.place(), None, NOW, |_| ())
            .await
            .unwrap();
        assert_eq!(to.number("SELECT COUNT(*) FROM users").await, 5);
        to.open().await.close().await;
    }
}

#[tokio::test]
async fn a_source_that_is_not_there_is_named_and_not_made() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Sqlite));
    let error = refused(&from.place(), &to.place()).await;
    assert!(matches!(error, KeepError::Absent { .. }), "{error}");
    assert!(error.to_string().contains("jarvis.db"), "{error}");
    for store in [&from, &to] {
        let Location::File { path, .. } = &store.options.location else {
            unreachable!()
        };
        assert!(!path.exists());
    }
    let empty = Store::new(Engine::Postgres);
    let error = refused(&empty.place(), &to.place()).await;
    assert!(matches!(error, KeepError::Absent { .. }), "{error}");
}

#[tokio::test]
async fn running_instances_are_told_to_stop_first() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let (from, to) = (Store::new(engine), Store::new(Engine::Sqlite));
        from.open().await.close().await;
        let lease = |until: &str| {
            format!(
                "INSERT INTO instances (id, server, since, lease_until) VALUES ('{until}', 0, 0, {until})"
            )
        };
        from.execute(&lease("1")).await;
        from.execute(&lease("9000000000000000")).await;
        let error = refused(&from.place(), &to.place()).await;
        assert!(
            matches!(error, KeepError::InUse { running: 1, .. }),
            "{error}"
        );
        // Whose lease is over does not count.
        from.execute("DELETE FROM instances WHERE lease_until > 1")
            .await;
        migrate(&from.place(), &to.place(), None, NOW, |_| ())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn unfinished_answers_are_not_left_behind_in_their_log() {
    let filled = Store::new(Engine::Sqlite);
    fixture::fill(&filled).await;
    let on_postgres = Store::new(Engine::Postgres);
    migrate(&filled.place(), &on_postgres.place(), None, NOW, |_| ())
        .await
        .unwrap();
    for from in [&filled, &on_postgres] {
        for status in ["queued", "running"] {
            from.execute(&format!(
                "UPDATE generations SET status = '{status}' WHERE id = (SELECT MIN(id) FROM generations)"
            ))
            .await;
            let to = Store::new(Engine::Sqlite);
            for part in [None, Some(Part::Main)] {
                let error = migrate(&from.place(), &to.place(), part, NOW, |_| ())
                    .await
                    .unwrap_err();
                assert!(
                    matches!(error, KeepError::Unfinished { answers: 1, .. }),
                    "{error}"
                );
                assert!(error.to_string().contains("let them end"), "{error}");
                let Location::File { path, .. } = &to.options.location else {
                    unreachable!()
                };
                assert!(!path.exists(), "the target is not even made");
            }
            // What was measured has no part in it.
            migrate(&from.place(), &to.place(), Some(Part::Series), NOW, |_| ())
                .await
                .unwrap();
        }
        from.execute("UPDATE generations SET status = 'done'").await;
        migrate(
            &from.place(),
            &Store::new(Engine::Sqlite).place(),
            None,
            NOW,
            |_| (),
        )
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn other_schemas_are_refused_with_what_to_do() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let (from, to) = (Store::new(engine), Store::new(Engine::Sqlite));
        from.open().await.close().await;
        let newer = format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) SELECT {}, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1",
            SCHEMA_VERSION + 1
        );
        from.execute(&newer).await;
        let error = refused(&from.place(), &to.place()).await;
        assert!(
            matches!(error, KeepError::NewerSchema { found, known, .. } if found == SCHEMA_VERSION + 1 && known == SCHEMA_VERSION),
            "{error}"
        );
        let error = refused(&to.place(), &from.place()).await;
        assert!(matches!(error, KeepError::Absent { .. }), "{error}");
        to.open().await.close().await;
        let error = refused(&to.place(), &from.place()).await;
        assert!(matches!(error, KeepError::NewerSchema { .. }), "{error}");

        from.execute(&format!(
            "DELETE FROM _sqlx_migrations WHERE version >= {SCHEMA_VERSION}"
        ))
        .await;
        let error = refused(&from.place(), &Store::new(Engine::Sqlite).place()).await;
        assert!(
            matches!(error, KeepError::OlderSchema { found, .. } if found == SCHEMA_VERSION - 1),
            "{error}"
        );
        assert!(error.to_string().contains("migrate schema"), "{error}");
        let applied = from.number("SELECT COUNT(*) FROM _sqlx_migrations").await;
        assert_eq!(
            applied,
            SCHEMA_VERSION - 1,
            "it was not brought up to date in passing"
        );
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_without_its_password() {
    let from = Store::new(Engine::Sqlite);
    fixture::fill(&from).await;
    let good = postgres(&Postgres::shared().create_database());
    let mut wrong_password = good.clone();
    wrong_password.password = Some("hunter2".into());
    let mut unreachable = good.clone();
    unreachable.hosts[0].port = jarvis_testkit::services::free_port();
    let mut absent = good.clone();
    absent.database = "not_there".into();
    for (options, says, once) in [
        (
            wrong_password,
            "does not let `jarvis` in; look at the flag",
            "password authentication failed",
        ),
        (unreachable, "cannot be reached", "refused"),
        (absent, "has no database `not_there`", "not_there"),
    ] {
        let options = DbOptions {
            settings: "the flag",
            ..DbOptions::new(Location::Postgres(options))
        };
        let to = Place::new("the target".into(), options);
        let error = refused(&from.place(), &to).await;
        let text = told(&error);
        assert!(
            text.starts_with("the target: ") && text.contains(says),
            "{text}"
        );
        assert_eq!(text.matches(once).count(), 1, "{text}");
        assert!(
            !text.contains("hunter2") && !text.contains(Postgres::PASSWORD),
            "{text}"
        );
    }
}

/// The clock stands still but for those who wait.
#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_says_nothing_is_named_within_the_deadline_of_a_connection() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = postgres("jarvis");
    options.hosts[0].port = silent.local_addr().unwrap().port();
    let host = options.hosts[0].to_string();
    let options = DbOptions::new(Location::Postgres(options));
    let deadline = options.deadline;
    let from = Place::new("the source".into(), options);
    let started = tokio::time::Instant::now();
    let text = told(&refused(&from, &Store::new(Engine::Sqlite).place()).await);
    assert!(
        text.contains(&format!(
            "the database server {host} did not answer in time"
        )),
        "{text}"
    );
    // What a statement is given is longer. A timer rounds up to its next millisecond.
    let waited = started.elapsed();
    assert!(
        waited < deadline + std::time::Duration::from_secs(1),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_user_who_may_not_make_tables_is_told_so() {
    let from = Store::new(Engine::Sqlite);
    fixture::fill(&from).await;
    let server = Postgres::shared();
    let database = server.create_database();
    server.psql(
        "postgres",
        &format!("ALTER DATABASE {database} OWNER TO postgres"),
    );
    let options = DbOptions::new(Location::Postgres(postgres(&database)));
    let error = refused(&from.place(), &Place::new("the target".into(), options)).await;
    let text = told(&error);
    assert!(text.contains("lacks a right"), "{text}");
    assert_eq!(
        server.psql(
            &database,
            "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'"
        ),
        "0"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Sqlite));
    let Location::File { path, .. } = &from.options.location else {
        unreachable!()
    };
    std::fs::write(path, vec![b'x'; 8192]).unwrap();
    let text = told(&refused(&from.place(), &to.place()).await);
    assert!(text.contains("damaged or not a database"), "{text}");
}
