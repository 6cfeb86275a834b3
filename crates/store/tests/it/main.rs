//! The stores as their callers see them, on real files and a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod answers;
mod concurrency;
mod conversations;
mod generations;
mod leases;
mod open;
mod outage;
mod redis;
mod sessions;
mod texts;

use futures_util::future::join_all;
use jarvis_domain::{GenerationId, InstanceId, Timestamp, User, UserId};
use jarvis_store::{
    Begin, Db, DbOptions, Grant, Host, Location, NewUser, PostgresOptions, Registered, Start,
};
use jarvis_testkit::services::{PATIENCE, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions as _, postgres::PgConnectOptions, query_scalar, raw_sql};
use tempfile::TempDir;

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_000_000);

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// An empty store of one engine, for one test.
pub(crate) struct Store {
    pub(crate) options: DbOptions,
    _directory: Option<TempDir>,
}

impl Store {
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            options: DbOptions {
                deadline: PATIENCE,
                ..DbOptions::file(directory.path().join("jarvis.db"))
            },
            _directory: Some(directory),
        }
    }

    pub(crate) fn postgres() -> Self {
        let server = Postgres::shared();
        let database = server.create_database();
        Self {
            options: DbOptions {
                deadline: PATIENCE,
                ..DbOptions::new(Location::Postgres(on(server, &database)))
            },
            _directory: None,
        }
    }

    pub(crate) async fn open(&self) -> Db {
        Db::open(&self.options).await.unwrap()
    }

    /// Runs all of `racers` at once. On PostgreSQL nobody touches `table` until every connection waits for it, so that they
    /// meet there for certain; SQLite lets one write at a time.
    pub(crate) async fn race<F: Future>(
        &self,
        table: &'static str,
        racers: impl IntoIterator<Item = F>,
    ) -> Vec<F::Output> {
        let racing = join_all(racers);
        let Location::Postgres(options) = &self.options.location else {
            return racing.await;
        };
        let mut gate = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(options.hosts[0].port)
            .username(&options.user)
            .password(Postgres::PASSWORD)
            .database(&options.database)
            .connect()
            .await
            .unwrap();
        let close = AssertSqlSafe(format!("BEGIN; LOCK TABLE {table}"));
        raw_sql(close).execute(&mut gate).await.unwrap();
        let open = async {
            let waiting = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
            loop {
                let waiting: i64 = query_scalar(waiting).fetch_one(&mut gate).await.unwrap();
                if waiting >= i64::from(options.connections) {
                    break;
                }
            }
            raw_sql("ROLLBACK").execute(&mut gate).await.unwrap();
        };
        tokio::join!(racing, open).0
    }

    /// Runs statements beside Jarvis: the values that came back, a line for a row.
    pub(crate) async fn sql(&self, text: &'static str) -> String {
        match &self.options.location {
            Location::File { path, .. } => {
                let url = format!("sqlite://{}", path.display());
                let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
                let query = sqlx::query_scalar::<_, i64>(text);
                let rows = query.fetch_all(&pool).await.unwrap();
                pool.close().await;
                let lines: Vec<_> = rows.iter().map(ToString::to_string).collect();
                lines.join("\n")
            }
            Location::Postgres(options) => Postgres::shared().psql(&options.database, text),
        }
    }
}

/// How the ordinary user reaches a database of `server`.
pub(crate) fn on(server: &Postgres, database: &str) -> PostgresOptions {
    PostgresOptions {
        hosts: vec![host(server)],
        user: Postgres::USER.into(),
        password: Some(Postgres::PASSWORD.into()),
        database: database.into(),
        connections: 10,
    }
}

pub(crate) fn host(server: &Postgres) -> Host {
    Host {
        name: "127.0.0.1".into(),
        port: server.port(),
    }
}

/// Makes of each function named a test on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::Store::sqlite()).await;
            })+
        }

        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::Store::postgres()).await;
            })+
        }
    };
}
pub(crate) use on_both;

pub(crate) fn new_user(email: &str) -> NewUser {
    NewUser {
        id: UserId::new(),
        email: email.parse().unwrap(),
        password_hash: "$argon2id$".into(),
        created_at: NOW,
    }
}

pub(crate) async fn user(db: &Db, email: &str) -> User {
    match db.register(new_user(email), Grant::Open).await.unwrap() {
        Registered::Made(user) => user,
        other => panic!("{other:?}"),
    }
}

/// What begins a conversation.
pub(crate) fn opening(user: UserId, content: &str) -> Begin {
    Begin {
        id: GenerationId::new(),
        owner: InstanceId::new(),
        user,
        idempotency_key: None,
        start: Start::NewConversation {
            title: "t".into(),
            content: content.into(),
        },
        model: "smollm2:135m".into(),
        now: NOW,
    }
}
