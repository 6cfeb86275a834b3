use crate::{open, options, user};
use jarvis_store::{Db, SCHEMA_VERSION, StoreError};

#[tokio::test]
async fn a_second_opening_finds_what_the_first_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(directory.path()).await;
    let enzo = user(&db, "enzo@example.org").await;
    db.close().await;
    let db = open(directory.path()).await;
    assert_eq!(db.user(enzo.id).await.unwrap(), Some(enzo));
    assert_eq!(db.integrity().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).await.close().await;
    let url = format!("sqlite://{}", options(directory.path()).path.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES ($1, 'later', TRUE, x'00', 0)")
        .bind(SCHEMA_VERSION + 41)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let error = Db::open(&options(directory.path())).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found, known } if found == SCHEMA_VERSION + 41 && known == SCHEMA_VERSION),
        "{error:?}"
    );
    assert!(error.to_string().contains("newer program"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(options(directory.path()).path, vec![b'x'; 8192]).unwrap();
    let error = Db::open(&options(directory.path())).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
}

#[tokio::test]
async fn the_known_version_is_the_newest_migration() {
    let directory = tempfile::tempdir().unwrap();
    let db = open(directory.path()).await;
    db.close().await;
    let url = format!("sqlite://{}", options(directory.path()).path.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let newest: i64 = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(newest, SCHEMA_VERSION);
}
