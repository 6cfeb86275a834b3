//! SQLite takes one writer at a time: writes go through a pool of one connection, so they queue here in order instead of failing as
//! busy; reads have connections of their own and never wait for a write.

use super::options::Synchronous;
use crate::StoreError;
use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};

const READERS: u32 = 4;

/// An open file. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pools {
    reader: SqlitePool,
    writer: SqlitePool,
}

impl Pools {
    /// Opens the file; makes it if it is absent.
    pub(super) async fn open(
        path: &Path,
        synchronous: Synchronous,
        deadline: Duration,
    ) -> Result<Self, StoreError> {
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match synchronous {
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
            })
            .foreign_keys(true)
            .busy_timeout(deadline)
            .optimize_on_close(true, None)
            .disable_statement_logging();
        // SQLite itself rolls back what finds the disk full; sqlx then still counts the transaction as open and would begin
        // no other on this connection, so it is replaced.
        let writer = pool(1, deadline)
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(connect.clone())
            .await?;
        let reader = pool(READERS, deadline)
            .connect_with(connect.read_only(true))
            .await?;
        Ok(Self { reader, writer })
    }

    /// Opens the file to look at it: it is not written to. Nobody else may write to it meanwhile.
    pub(super) async fn look(path: &Path, deadline: Duration) -> Result<Self, StoreError> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            // What was written last lies in the log, unless its writer closed the file; then nothing has to be made beside it.
            .immutable(!Path::new(&log).exists())
            .disable_statement_logging();
        let reader = pool(1, deadline).connect_with(connect).await?;
        Ok(Self {
            writer: reader.clone(),
            reader,
        })
    }

    pub(super) async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.reader.acquire().await?)
    }

    pub(super) async fn writer(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.writer.acquire().await?)
    }

    /// Begins a writing transaction, taken at once.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Begins a reading transaction.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.reader.begin().await?)
    }

    pub(super) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

fn pool(connections: u32, deadline: Duration) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(deadline)
        .max_lifetime(None)
        .idle_timeout(None)
}
