//! A connection of either engine, and a transaction on one.

use super::{
    Lock,
    dialect::Text,
    postgres::Lease,
    row::Row,
    timing::Timing,
    value::{Value, args, arguments},
    versions::Counted,
    writes::Writes,
};
use crate::StoreError;
use futures_util::{TryStreamExt as _, stream::BoxStream};
use jarvis_domain::UserId;
use sqlx::{
    Either, Executor as _, Sqlite, SqliteConnection, Transaction, pool::PoolConnection, query_with,
    raw_sql, sqlite::SqliteQueryResult,
};
use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

/// A connection on loan. Each statement has an `operation`, a word for what it is for, under which its time is counted.
pub(crate) struct Conn {
    link: Link,
    timing: Timing,
    /// Where it is for changes: what becomes of them.
    writes: Option<Writes>,
}

pub(super) enum Link {
    Sqlite(PoolConnection<Sqlite>),
    SqliteTx(Transaction<'static, Sqlite>),
    Postgres(Lease),
}

impl Link {
    /// Whether what a statement writes is there when it has ended.
    fn commits_each(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::SqliteTx(_) => false,
            Self::Postgres(lease) => !lease.is_open(),
        }
    }
}

impl From<PoolConnection<Sqlite>> for Link {
    fn from(connection: PoolConnection<Sqlite>) -> Self {
        Self::Sqlite(connection)
    }
}

impl From<Transaction<'static, Sqlite>> for Link {
    fn from(transaction: Transaction<'static, Sqlite>) -> Self {
        Self::SqliteTx(transaction)
    }
}

impl From<Lease> for Link {
    fn from(lease: Lease) -> Self {
        Self::Postgres(lease)
    }
}

/// What a statement did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) rows: Vec<Row>,
    /// Rows written, or given back.
    pub(super) affected: u64,
}

impl Conn {
    pub(super) fn new(link: Link, timing: Timing) -> Self {
        Self {
            link,
            timing,
            writes: None,
        }
    }

    /// It is for changes; what becomes of them is remembered.
    pub(super) fn that_writes(self, writes: Writes) -> Self {
        Self {
            writes: Some(writes),
            ..self
        }
    }

    /// Runs a statement: the number of rows that it wrote.
    pub(crate) async fn execute(
        &mut self,
        operation: &'static str,
        text: impl Into<Text>,
        args: &[Value<'_>],
    ) -> Result<u64, StoreError> {
        let affected = self.run(operation, text.into(), args).await?.affected;
        if affected > 0
            && self.link.commits_each()
            && let Some(writes) = &self.writes
        {
            writes.taken();
        }
        Ok(affected)
    }

    /// The row that a statement gives back, if it does.
    pub(crate) async fn fetch_optional(
        &mut self,
        operation: &'static str,
        text: impl Into<Text>,
        args: &[Value<'_>],
    ) -> Result<Option<Row>, StoreError> {
        let done = self.run(operation, text.into(), args).await?;
        Ok(done.rows.into_iter().next())
    }

    /// All rows that a statement gives back.
    pub(crate) async fn fetch_all(
        &mut self,
        operation: &'static str,
        text: impl Into<Text>,
        args: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        Ok(self.run(operation, text.into(), args).await?.rows)
    }

    /// The one number that a statement asks for.
    pub(crate) async fn scalar(
        &mut self,
        operation: &'static str,
        text: impl Into<Text>,
        args: &[Value<'_>],
    ) -> Result<i64, StoreError> {
        let row = self.fetch_optional(operation, text, args).await?;
        row.ok_or(sqlx::Error::RowNotFound)?.only()
    }

    async fn run(
        &mut self,
        operation: &'static str,
        text: Text,
        args: &[Value<'_>],
    ) -> Result<Done, StoreError> {
        let running = self.timing.begin(operation);
        let done = match &mut self.link {
            Link::Sqlite(connection) => sqlite(connection, text.sqlite, args).await,
            Link::SqliteTx(transaction) => sqlite(transaction, text.sqlite, args).await,
            Link::Postgres(lease) => lease.run(text.postgres, args).await,
        };
        running.end(text);
        if let (Err(error), Some(writes)) = (&done, &self.writes) {
            writes.failed(error);
        }
        done
    }
}

async fn sqlite(
    connection: &mut SqliteConnection,
    text: &'static str,
    args: &[Value<'_>],
) -> Result<Done, StoreError> {
    let query = query_with(text, arguments::<Sqlite>(args)?);
    let stream = connection.fetch_many(query);
    Ok(gather(stream, SqliteQueryResult::rows_affected, Row::Sqlite).await?)
}

/// All that comes of a statement.
pub(super) async fn gather<D, R>(
    mut stream: BoxStream<'_, sqlx::Result<Either<D, R>>>,
    affected: fn(&D) -> u64,
    row: fn(R) -> Row,
) -> sqlx::Result<Done> {
    let mut done = Done::default();
    while let Some(step) = stream.try_next().await? {
        match step {
            Either::Left(count) => done.affected += affected(&count),
            Either::Right(item) => done.rows.push(row(item)),
        }
    }
    Ok(done)
}

/// A writing transaction. What is neither committed nor rolled back is rolled back when it goes; say [`rollback`](Self::rollback)
/// where that is no accident, for it is cheaper.
pub(crate) struct Tx {
    conn: Conn,
    counted: Option<Arc<Counted>>,
    /// The users whose lists show something else afterwards.
    changed: Vec<UserId>,
}

impl Tx {
    /// On a connection that has begun one; `counted` where the users' versions are kept in memory.
    pub(super) fn new(conn: Conn, counted: Option<Arc<Counted>>) -> Self {
        Self {
            conn,
            counted,
            changed: Vec::new(),
        }
    }

    /// Waits until no other transaction holds `lock`, and holds it until this one ends. SQLite has one writing transaction at a
    /// time, so there it is held already.
    pub(crate) async fn lock(&mut self, lock: Lock) -> Result<(), StoreError> {
        if matches!(self.conn.link, Link::Postgres(_)) {
            let text = "SELECT pg_advisory_xact_lock($1)";
            self.execute("lock", text, args![lock.key()]).await?;
        }
        Ok(())
    }

    /// Notes that this transaction changes what [`Db::conversations`](super::Db::conversations) shows this user.
    pub(crate) fn list_changed(&mut self, user: UserId) {
        if !self.changed.contains(&user) {
            self.changed.push(user);
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`StoreError::Unsure`] if the connection was lost while the server confirmed: it may have been kept.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        // In one order, for two transactions may change the same users.
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort();
        if self.counted.is_none() {
            for user in &changed {
                let text = "UPDATE users SET list_version = list_version + 1 WHERE id = $1";
                self.execute("move_list_version", text, args![*user])
                    .await?;
            }
        }
        let running = self.conn.timing.begin("commit");
        let committed = match self.conn.link {
            Link::SqliteTx(transaction) => transaction.commit().await.map_err(StoreError::from),
            Link::Postgres(mut lease) => lease.commit().await,
            Link::Sqlite(_) => Ok(()),
        };
        running.end("COMMIT".into());
        if let Some(writes) = &self.conn.writes {
            match &committed {
                Ok(()) => writes.taken(),
                Err(error) => writes.failed(error),
            }
        }
        committed?;
        if let Some(counted) = &self.counted {
            for user in changed {
                counted.advance(user);
            }
        }
        Ok(())
    }

    /// Undoes it.
    pub(crate) async fn rollback(self) -> Result<(), StoreError> {
        match self.conn.link {
            Link::SqliteTx(transaction) => transaction.rollback().await?,
            Link::Postgres(mut lease) => lease.rollback().await?,
            Link::Sqlite(_) => {}
        }
        Ok(())
    }

    /// Runs a script of statements without values, however long it takes.
    pub(crate) async fn script(&mut self, text: sqlx::SqlStr) -> Result<(), StoreError> {
        match &mut self.conn.link {
            Link::SqliteTx(transaction) => {
                raw_sql(text).execute(&mut **transaction).await?;
            }
            Link::Sqlite(connection) => {
                raw_sql(text).execute(&mut **connection).await?;
            }
            Link::Postgres(lease) => lease.script(text).await?,
        }
        Ok(())
    }

    /// Lets its owner be busy elsewhere between two statements for as long as that takes.
    pub(crate) async fn be_patient(&mut self) -> Result<(), StoreError> {
        if matches!(self.conn.link, Link::Postgres(_)) {
            let text = "SET LOCAL idle_in_transaction_session_timeout = 0";
            self.execute("patience", text, args![]).await?;
        }
        Ok(())
    }

    /// Lets every statement take as long as it takes.
    pub(crate) fn without_deadline(&mut self) {
        if let Link::Postgres(lease) = &mut self.conn.link {
            lease.without_deadline();
        }
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.conn
    }
}
