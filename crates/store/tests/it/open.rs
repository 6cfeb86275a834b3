use crate::{Store, host, on, on_both, user};
use jarvis_store::{
    Db, DbOptions, Host, Location, PostgresOptions, SCHEMA_VERSION, StoreError, series,
};
use jarvis_testkit::services::{Postgres, free_port};

on_both![
    a_second_opening_finds_what_the_first_wrote,
    a_newer_schema_that_only_adds_is_served,
    a_newer_schema_above_the_floor_is_refused_and_left_alone,
    a_migration_of_another_text_is_refused,
    the_known_version_is_the_newest_migration,
    the_plan_says_what_is_missing_and_changes_nothing,
    a_look_at_an_older_schema_leaves_it_as_it_is,
];

const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (44, 'later', TRUE, '', 0)";

async fn a_second_opening_finds_what_the_first_wrote(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    db.close().await;
    let db = store.open().await;
    assert_eq!(db.user(enzo.id).await.unwrap(), Some(enzo));
    assert_eq!(db.integrity().await.unwrap(), Vec::<String>::new());
}

async fn a_newer_schema_that_only_adds_is_served(store: Store) {
    store.open().await.close().await;
    store.sql(NEWER).await;
    let db = store.open().await;
    user(&db, "enzo@example.org").await;
    let plan = Db::migration_plan(&store.options).await.unwrap();
    let last = plan.last().unwrap();
    assert_eq!((last.version, last.applied), (44, true));
}

async fn a_newer_schema_above_the_floor_is_refused_and_left_alone(store: Store) {
    store.open().await.close().await;
    store.sql(NEWER).await;
    store.sql("UPDATE schema_floor SET version = 44").await;
    let error = Db::open(&store.options).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 44, known } if known == SCHEMA_VERSION),
        "{error:?}"
    );
    assert!(error.to_string().contains("newer program"));
}

async fn a_migration_of_another_text_is_refused(store: Store) {
    store.open().await.close().await;
    store
        .sql("UPDATE _sqlx_migrations SET checksum = '' WHERE version = 1")
        .await;
    let error = Db::open(&store.options).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Changed { version: 1 }),
        "{error:?}"
    );
}

async fn the_known_version_is_the_newest_migration(store: Store) {
    store.open().await.close().await;
    let newest = store.sql("SELECT MAX(version) FROM _sqlx_migrations").await;
    assert_eq!(newest, SCHEMA_VERSION.to_string());
}

async fn a_look_at_an_older_schema_leaves_it_as_it_is(store: Store) {
    store.open().await.close().await;
    let undone =
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)";
    store.sql(undone).await;
    let count = "SELECT COUNT(*) FROM _sqlx_migrations";
    let before = store.sql(count).await;
    let examined = Db::examine(&store.options).await.unwrap();
    let pending: Vec<_> = examined.plan.iter().filter(|step| !step.applied).collect();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].version, SCHEMA_VERSION);
    assert_eq!(examined.complaints, Vec::<String>::new());
    assert_eq!(store.sql(count).await, before);
}

async fn the_plan_says_what_is_missing_and_changes_nothing(store: Store) {
    let plan = Db::migration_plan(&store.options).await.unwrap();
    assert!(
        plan.iter()
            .all(|step| !step.applied && !step.sql.is_empty())
    );
    assert_eq!(plan.last().unwrap().version, SCHEMA_VERSION);
    let again = Db::migration_plan(&store.options).await.unwrap();
    assert_eq!(again, plan);
    store.open().await.close().await;
    let after = Db::migration_plan(&store.options).await.unwrap();
    assert_eq!(after.len(), plan.len());
    assert!(after.iter().all(|step| step.applied));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_as_such() {
    let store = Store::sqlite();
    let Location::File { path, .. } = &store.options.location else {
        panic!("a file");
    };
    std::fs::write(path, vec![b'x'; 8192]).unwrap();
    let error = Db::open(&store.options).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
}

#[tokio::test]
async fn ten_instances_that_start_at_once_migrate_once() {
    let store = Store::postgres();
    let instances = (0..10).map(|_| Db::open(&store.options));
    for opened in futures_util::future::join_all(instances).await {
        opened.unwrap().ping().await.unwrap();
    }
    let steps = store.sql("SELECT COUNT(*) FROM _sqlx_migrations").await;
    let known = Db::migration_plan(&store.options).await.unwrap().len();
    assert_eq!(steps, known.to_string());
}

/// What opening says with `change`d options, and in words.
async fn refusal(change: impl FnOnce(&mut PostgresOptions)) -> (StoreError, String) {
    let server = Postgres::shared();
    let mut options = on(server, &server.create_database());
    change(&mut options);
    let error = Db::open(&DbOptions::new(Location::Postgres(options)))
        .await
        .unwrap_err();
    let sentence = jarvis_domain::sentence(&error);
    assert!(!sentence.contains(Postgres::PASSWORD), "{sentence}");
    assert!(!format!("{error:?}").contains(Postgres::PASSWORD));
    (error, sentence)
}

#[tokio::test]
async fn a_wrong_password_is_named_without_it() {
    let (error, sentence) = refusal(|options| options.password = Some("hush".into())).await;
    assert!(matches!(error, StoreError::SignIn { .. }), "{error:?}");
    assert!(
        sentence.contains("`jarvis`") && sentence.contains("store.password"),
        "{sentence}"
    );
    assert!(!sentence.contains("hush"), "{sentence}");
    let (error, _) = refusal(|options| options.user = "nobody-we-know".into()).await;
    assert!(matches!(error, StoreError::SignIn { .. }), "{error:?}");
}

#[tokio::test]
async fn an_unknown_database_is_named() {
    let (error, sentence) = refusal(|options| options.database = "jarvis_not_made".into()).await;
    assert!(matches!(error, StoreError::NoDatabase { .. }), "{error:?}");
    assert!(sentence.contains("jarvis_not_made"), "{sentence}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let port = free_port();
    let nowhere = Host {
        name: "127.0.0.1".into(),
        port,
    };
    let (error, sentence) = refusal(|options| options.hosts = vec![nowhere]).await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
    assert!(
        sentence.contains(&format!("127.0.0.1:{port}")) && sentence.contains("refused"),
        "{sentence}"
    );
}

#[tokio::test]
async fn a_user_without_rights_is_told_and_changes_nothing() {
    let server = Postgres::shared();
    let database = server.create_database();
    server.psql(
        "postgres",
        &format!("ALTER DATABASE {database} OWNER TO postgres"),
    );
    let options = DbOptions::new(Location::Postgres(on(server, &database)));
    let error = Db::open(&options).await.unwrap_err();
    assert!(
        jarvis_domain::sentence(&error).contains("must own the database"),
        "{error:?}"
    );
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.psql(&database, tables), "0");
}

#[tokio::test]
async fn of_several_servers_the_primary_is_found_and_a_standby_alone_refused() {
    let primary = Postgres::start();
    let standby = primary.standby();
    let database = primary.create_database();
    let open = |hosts| {
        let options = PostgresOptions {
            hosts,
            ..on(&primary, &database)
        };
        async move { Db::open(&DbOptions::new(Location::Postgres(options))).await }
    };
    let db = open(vec![host(&standby), host(&primary)]).await.unwrap();
    user(&db, "enzo@example.org").await;
    standby.catch_up(&primary);
    let error = open(vec![host(&standby)]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoPrimary), "{error:?}");
}

/// Statements of a migration that a program of the time before would stumble over.
fn takes_away(migration: &str) -> Vec<&str> {
    const STUMBLED_OVER: [&str; 6] = [
        "DROP ",
        "RENAME ",
        "ALTER COLUMN",
        "ADD CONSTRAINT",
        "UNIQUE INDEX",
        "TRIGGER",
    ];
    let statements = migration.split(";\n").map(str::trim);
    let stumbles = |text: &&str| {
        let text = text.lines().filter(|line| !line.trim().starts_with("--"));
        let text = text.collect::<Vec<_>>().join("\n");
        let unfilled =
            text.contains("ADD COLUMN") && text.contains("NOT NULL") && !text.contains("DEFAULT");
        unfilled || STUMBLED_OVER.iter().any(|word| text.contains(word))
    };
    statements.filter(stumbles).collect()
}

/// The program before goes on beside a migration, unless the migration says that it may not.
#[tokio::test]
async fn a_migration_that_does_more_than_add_raises_the_floor() {
    let plan = Db::migration_plan(&Store::sqlite().options).await.unwrap();
    // The floor came with the third; nothing was released before.
    for step in plan.iter().filter(|step| step.version > 3) {
        let raises = format!("UPDATE schema_floor SET version = {}", step.version);
        let taken = takes_away(&step.sql);
        assert!(
            taken.is_empty() || step.sql.contains(&raises),
            "{}: {taken:?}",
            step.version
        );
    }
    for wrong in [
        "-- Why.\nALTER TABLE users DROP COLUMN role;\n",
        "ALTER TABLE users RENAME COLUMN role TO kind;\n",
        "ALTER TABLE users ADD COLUMN kind TEXT NOT NULL;\n",
        "CREATE UNIQUE INDEX one ON users (role);\n",
        "CREATE TABLE new (x BIGINT);\nDROP TABLE users;\n",
    ] {
        assert_eq!(takes_away(wrong).len(), 1, "{wrong}");
    }
    let good = "CREATE TABLE new (x BIGINT NOT NULL);\nALTER TABLE users ADD COLUMN kind TEXT NOT NULL DEFAULT '';\n";
    assert_eq!(takes_away(good), [""; 0]);
}

#[tokio::test]
async fn the_series_want_their_rights_before_anything_is_changed() {
    let server = Postgres::shared();
    let database = server.create_database();
    let guest = database.replace("test", "guest");
    assert_ne!(guest, database);
    let owner = on(server, &database);
    let as_guest = DbOptions::new(Location::Postgres(PostgresOptions {
        user: guest.clone(),
        ..owner.clone()
    }));
    server.psql(
        &database,
        &format!(
            "CREATE ROLE {guest} LOGIN PASSWORD '{}'",
            Postgres::PASSWORD
        ),
    );
    let refused = async |what: &str| {
        let error = series::require_rights(&as_guest).await.unwrap_err();
        assert!(matches!(error, StoreError::NoRight { .. }), "{error:?}");
        let sentence = jarvis_domain::sentence(&error);
        for part in [&*guest, &database, what] {
            assert!(sentence.contains(part), "{sentence}");
        }
    };
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'";
    refused("make and change tables").await;
    assert_eq!(server.psql(&database, tables), "0");

    // With the right it passes, before the tables are there and after.
    let grant = |what: &str| server.psql(&database, &format!("GRANT {what} TO {guest}"));
    grant("CREATE ON SCHEMA public");
    series::require_rights(&as_guest).await.unwrap();
    assert_eq!(server.psql(&database, tables), "0");

    // Tables of somebody else: what is missing there cannot be added, and nothing written without rights.
    Db::open(&DbOptions::new(Location::Postgres(owner)))
        .await
        .unwrap()
        .close()
        .await;
    grant("SELECT ON ALL TABLES IN SCHEMA public");
    refused("write to the tables of the series").await;
    grant("INSERT, DELETE ON series_answers, series_nodes");
    series::require_rights(&as_guest).await.unwrap();
    server.psql(
        &database,
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)",
    );
    refused("make and change tables").await;
}
