//! Moving, archiving, restoring and measuring, on real files and a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod backup;
mod fixture;
mod killed;
mod refused;
mod series;
mod transfer;

use jarvis_domain::Timestamp;
use jarvis_store::{Db, DbOptions, Host, Location, PostgresOptions, keep::Place};
use jarvis_testkit::services::Postgres;
use std::path::Path;
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_795_343_265_123_456);

/// An empty database of one engine, for one test.
pub(crate) struct Store {
    pub(crate) options: DbOptions,
    _directory: Option<TempDir>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

impl Store {
    pub(crate) fn new(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                Self {
                    options: DbOptions::file(directory.path().join("jarvis.db")),
                    _directory: Some(directory),
                }
            }
            Engine::Postgres => {
                let database = Postgres::shared().create_database();
                Self {
                    options: DbOptions::new(Location::Postgres(postgres(&database))),
                    _directory: None,
                }
            }
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place::new(self.name(), self.options.clone())
    }

    pub(crate) fn name(&self) -> String {
        match &self.options.location {
            Location::File { path, .. } => format!("sqlite://{}", path.display()),
            Location::Postgres(options) => Postgres::shared().url(&options.database),
        }
    }

    pub(crate) async fn open(&self) -> Db {
        Db::open(&self.options).await.unwrap()
    }

    /// Runs one statement beside Jarvis, whatever state the database is in.
    pub(crate) async fn execute(&self, sql: &str) {
        match &self.options.location {
            Location::File { path, .. } => {
                let pool = raw(path).await;
                sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
                    .execute(&pool)
                    .await
                    .unwrap();
                pool.close().await;
            }
            Location::Postgres(options) => {
                Postgres::shared().psql(&options.database, sql);
            }
        }
    }

    /// The one text that a statement asks for.
    pub(crate) async fn text(&self, sql: &str) -> String {
        match &self.options.location {
            Location::File { path, .. } => {
                let pool = raw(path).await;
                let text = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
                    .fetch_one(&pool)
                    .await
                    .unwrap();
                pool.close().await;
                text
            }
            Location::Postgres(options) => Postgres::shared().psql(&options.database, sql),
        }
    }

    /// The one number that a statement asks for.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        match &self.options.location {
            Location::File { path, .. } => {
                let pool = raw(path).await;
                let number = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned()))
                    .fetch_one(&pool)
                    .await
                    .unwrap();
                pool.close().await;
                number
            }
            Location::Postgres(options) => Postgres::shared()
                .psql(&options.database, sql)
                .parse()
                .unwrap(),
        }
    }
}

pub(crate) async fn raw(path: &Path) -> sqlx::SqlitePool {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(false);
    sqlx::SqlitePool::connect_with(options).await.unwrap()
}

/// How the ordinary user reaches a database of the shared server.
pub(crate) fn postgres(database: &str) -> PostgresOptions {
    PostgresOptions {
        hosts: vec![Host {
            name: "127.0.0.1".into(),
            port: Postgres::shared().port(),
        }],
        user: Postgres::USER.into(),
        password: Some(Postgres::PASSWORD.into()),
        database: database.into(),
        connections: 4,
    }
}

/// An error with all its causes, as a user reads it.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
