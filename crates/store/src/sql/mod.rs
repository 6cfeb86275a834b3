//! The relational store. One file per table or tight group of tables; every query text is portable to PostgreSQL.

mod conversations;
mod generations;
mod messages;
mod row;
mod sessions;
mod users;
mod versions;

pub use conversations::ConversationPatch;
pub use generations::{Begin, Begun, Parent, RequestKey, Start};
pub use messages::MessageRow;
pub use sessions::Rotation;
pub use users::{Grant, NewUser, Registered};

use crate::StoreError;
use sqlx::{
    Connection as _, Sqlite, SqlitePool, Transaction,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use versions::Versions;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The newest schema that this program knows.
pub const SCHEMA_VERSION: i64 = 1;

/// How hard a commit is pressed onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// A commit survives the death of the program, not always a power cut (which may take the last ones whole, never half).
    #[default]
    Normal,
    /// A commit survives a power cut, at the price of a disk flush each.
    Full,
}

/// Where the relational store lies and how it behaves.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// The database file; made if absent, its directory is not.
    pub path: PathBuf,
    /// How hard a commit is pressed onto the disk.
    pub synchronous: Synchronous,
}

/// The relational store. Cheap to clone.
///
/// SQLite takes one writer at a time: writes go through a pool of one connection, so they queue here in order instead of
/// failing as busy; reads have connections of their own and never wait for a write.
#[derive(Debug, Clone)]
pub struct Db {
    reader: SqlitePool,
    writer: SqlitePool,
    versions: Arc<Versions>,
}

impl Db {
    const READERS: u32 = 4;
    const DEADLINE: Duration = Duration::from_secs(5);

    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a schema of a later program, [`StoreError::Damaged`] for a file that is no database,
    /// [`StoreError::Full`] without space, else [`StoreError::Unavailable`].
    pub async fn open(options: &DbOptions) -> Result<Self, StoreError> {
        let connect = SqliteConnectOptions::new()
            .filename(&options.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match options.synchronous {
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
            })
            .foreign_keys(true)
            .busy_timeout(Self::DEADLINE)
            .optimize_on_close(true, None);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(Self::DEADLINE)
                .max_lifetime(None)
                .idle_timeout(None)
        };
        // SQLite itself rolls back what finds the disk full; sqlx then still counts the transaction as open and would begin
        // no other on this connection, so it is replaced.
        let writer = pool(1)
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(connect.clone())
            .await?;
        MIGRATIONS.run(&writer).await?;
        let reader = pool(Self::READERS)
            .connect_with(connect.read_only(true))
            .await?;
        Ok(Self {
            reader,
            writer,
            versions: Arc::default(),
        })
    }

    /// Asks the store for a trivial answer: `Ok` when it can be read.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.reader).await?;
        Ok(())
    }

    /// SQLite's own consistency check: the complaints, none when all is well. Reads the whole file.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let lines: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
            .fetch_all(&self.reader)
            .await?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// Waits for running queries, folds the write-ahead log into the file and closes every connection.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Begins a writing transaction: taken at once, so that it cannot fail half-way for another writer's sake.
    async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writing_goes_on_when_a_full_disk_has_room_again() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&DbOptions {
            path: directory.path().join("jarvis.db"),
            synchronous: Synchronous::Normal,
        })
        .await
        .unwrap();
        // What SQLite does by itself when it finds the disk full.
        let mut tx = db.begin_write().await.unwrap();
        sqlx::query("ROLLBACK").execute(&mut *tx).await.unwrap();
        drop(tx);
        let mut tx = db.begin_write().await.unwrap();
        sqlx::query("CREATE TABLE t (x)")
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}
