//! The relational store. One file per table or tight group of tables; they say what they want in one text for both engines and do
//! not know which one runs.
//!
//! | file | what |
//! |---|---|
//! | `conn` | a connection, a transaction, and how statements run on them |
//! | `value`, `row` | values in, columns out |
//! | `dialect` | the few words that differ |
//! | `leases` | who makes which answer, and what its owner keeps |
//! | `sqlite`, `postgres/` | where connections come from |
//! | `migrations`, `options`, `timing` | the schema, what can be set, what is counted |
//! | `writes` | whether changes are taken |

mod conn;
mod conversations;
pub(crate) mod dialect;
mod generations;
mod leases;
mod messages;
mod migrations;
mod options;
mod postgres;
mod row;
mod sessions;
mod sqlite;
mod timing;
mod users;
pub(crate) mod value;
mod versions;
mod writes;

pub use conversations::ConversationPatch;
pub use generations::{Begin, Begun, Parent, RequestKey, Start};
pub use leases::{Checkpoint, Claimed, Look, Owned};
pub use messages::MessageRow;
pub use migrations::{PlannedMigration, SCHEMA_VERSION};
pub use options::{DbOptions, Host, Location, PostgresOptions, Synchronous};
pub use postgres::HostState;
pub use sessions::Rotation;
pub use users::{Grant, Invite, NewUser, Registered};

pub(crate) use conn::{Conn, Tx};
pub(crate) use dialect::{Text, sql};
pub(crate) use row::Row;
pub(crate) use value::{Value, args};

use crate::StoreError;
use conn::Link;
use jarvis_domain::{UserId, sentence};
use postgres::{Cluster, Role};
use std::{sync::Arc, time::Duration};
use timing::Timing;
use tokio::time::timeout;
use versions::{Asked, Counted};
use writes::Writes;

/// The relational store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    engine: Engine,
    timing: Timing,
    writes: Writes,
}

#[derive(Debug, Clone)]
enum Engine {
    Sqlite(sqlite::Pools, Arc<Counted>),
    Postgres(Cluster, Arc<Asked>),
}

/// What only one transaction may do at a time, beyond what the locks of rows guard.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lock {
    /// Changing the schema.
    Schema,
    /// Making the first account.
    FirstAccount,
    /// Filling an empty database from elsewhere.
    Move,
    /// Trying whether a change is taken.
    Trial,
}

impl Lock {
    /// A number that no other program on the same database is likely to use.
    fn key(self) -> i64 {
        let ours = i64::from_be_bytes(*b"\0jarvis\0");
        ours + match self {
            Self::Schema => 1,
            Self::FirstAccount => 2,
            Self::Move => 3,
            Self::Trial => 4,
        }
    }
}

/// What a look at a database finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Every migration in order, and whether it has been applied.
    pub plan: Vec<PlannedMigration>,
    /// What SQLite's own check complains about; nothing when all is well. PostgreSQL has none to ask for.
    pub complaints: Vec<String>,
}

/// Refuses a database that rows are still being moved into.
pub(crate) async fn require_whole(conn: &mut Conn) -> Result<(), StoreError> {
    let text = "SELECT source FROM moves";
    match conn.fetch_optional("open", text, args![]).await? {
        Some(row) => Err(StoreError::HalfMoved {
            source_place: row.text("source")?,
        }),
        None => Ok(()),
    }
}

impl Db {
    /// How long a standby may take to say whether it is up to date before the primary is asked.
    const STANDBY_PATIENCE: Duration = Duration::from_millis(200);

    /// How long a small change may take where the last one was not taken: those who ask how the store is wait no longer than a
    /// second for all of it.
    const TRIAL_PATIENCE: Duration = Duration::from_millis(500);

    /// Opens the database and brings its schema up to date; any number of instances may do so at once on PostgreSQL.
    ///
    /// # Errors
    /// Before anything is changed: [`StoreError::Newer`] for a schema of a later program that this one may not work on,
    /// [`StoreError::Changed`] for one of another text than this program's; of a file: [`StoreError::Damaged`] if it is no database,
    /// [`StoreError::Full`] without space; of a server: [`StoreError::Unreachable`], [`StoreError::SignIn`],
    /// [`StoreError::NoDatabase`], [`StoreError::TooOld`], [`StoreError::NoPrimary`]. [`StoreError::Migration`] if a step could not
    /// be applied, with [`StoreError::Forbidden`] below it if the user may not: none is then. [`StoreError::HalfMoved`] while rows are
    /// being moved into it. Else [`StoreError::Unavailable`].
    pub async fn open(options: &DbOptions) -> Result<Self, StoreError> {
        let db = Self::open_unfinished(options).await?;
        require_whole(&mut db.writer().await?).await?;
        Ok(db)
    }

    /// As [`open`](Self::open), also where rows are still being moved in.
    pub(crate) async fn open_unfinished(options: &DbOptions) -> Result<Self, StoreError> {
        let db = Self::connect(options).await?;
        if migrations::needed(&mut db.writer().await?).await? {
            migrations::run(db.begin_write().await?).await?;
        }
        Ok(db)
    }

    /// What [`open`](Self::open) would do to the schema, and what has been done: every migration in order. Changes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open) before anything is changed.
    pub async fn migration_plan(options: &DbOptions) -> Result<Vec<PlannedMigration>, StoreError> {
        if matches!(&options.location, Location::File { path, .. } if !path.exists()) {
            return migrations::plan(None).await;
        }
        let db = Self::connect(options).await?;
        let mut conn = db.reader().await?;
        let plan = migrations::plan(Some(&mut conn)).await;
        drop(conn);
        db.close().await;
        plan
    }

    /// Looks at a database as it is, changes nothing, and has SQLite check its file. Nobody else may write to a file meanwhile.
    ///
    /// # Errors
    /// As [`open`](Self::open) before anything is changed; also where rows are still being moved in.
    pub async fn examine(options: &DbOptions) -> Result<Examined, StoreError> {
        let db = match &options.location {
            Location::File { path, .. } => {
                let pools = sqlite::Pools::look(path, options.statement_deadline()).await?;
                Self {
                    engine: Engine::Sqlite(pools, Arc::default()),
                    timing: Timing::new(options.slow),
                    writes: Writes::new(),
                }
            }
            Location::Postgres(_) => Self::connect(options).await?,
        };
        let examined = db.examined().await;
        db.close().await;
        examined
    }

    /// Whether [`open`](Self::open) would change the schema.
    pub(crate) async fn is_behind(conn: &mut Conn) -> Result<bool, StoreError> {
        migrations::needed(conn).await
    }

    async fn examined(&self) -> Result<Examined, StoreError> {
        let mut conn = self.reader().await?;
        let plan = migrations::plan(Some(&mut conn)).await?;
        if migrations::has_table(&mut conn, "moves").await? {
            require_whole(&mut conn).await?;
        }
        drop(conn);
        Ok(Examined {
            plan,
            complaints: self.integrity().await?,
        })
    }

    /// The database as it is.
    pub(crate) async fn connect(options: &DbOptions) -> Result<Self, StoreError> {
        let engine = match &options.location {
            Location::File { path, synchronous } => {
                let pools =
                    sqlite::Pools::open(path, *synchronous, options.statement_deadline()).await?;
                Engine::Sqlite(pools, Arc::default())
            }
            Location::Postgres(postgres) => {
                Engine::Postgres(Cluster::open(postgres, options).await?, Arc::default())
            }
        };
        Ok(Self {
            engine,
            timing: Timing::new(options.slow),
            writes: Writes::new(),
        })
    }

    /// Whether it can be read and written now; a failover is not waited for. Asked by a trivial read and, only while the last
    /// change was not taken, by a small change that nobody sees.
    ///
    /// # Errors
    /// [`StoreError::NoPrimary`] at once where no server takes writes, [`StoreError::Unwritable`] where the small change fails
    /// too, else why it cannot be read.
    pub async fn ping(&self) -> Result<(), StoreError> {
        if self.writable_for().is_none() {
            return Err(StoreError::NoPrimary);
        }
        let mut conn = self.reader().await?;
        conn.scalar("ping", "SELECT CAST(1 AS BIGINT)", args![])
            .await?;
        drop(conn);
        if !self.writes.are_failing() {
            return Ok(());
        }
        let tried = timeout(Self::TRIAL_PATIENCE, self.try_to_write()).await;
        tried.unwrap_or(Err(StoreError::Deadline)).map_err(|error| {
            let why = match &error {
                // Its own words would say that the database does not answer.
                StoreError::Unavailable(cause) => cause.to_string(),
                other => sentence(other),
            };
            StoreError::Unwritable { why }
        })
    }

    async fn try_to_write(&self) -> Result<(), StoreError> {
        let mut tx = self.begin_write().await?;
        // A commit that waits for a standby holds its lock, and its server does not see that the client has gone: the trials to
        // come wait behind that one and leave no connection behind.
        tx.lock(Lock::Trial).await?;
        leases::try_out(&mut tx).await?;
        tx.commit().await
    }

    /// SQLite's own consistency check: the complaints, none when all is well. Reads the whole file. PostgreSQL has none to ask for.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let Engine::Sqlite(..) = self.engine else {
            return Ok(Vec::new());
        };
        let mut conn = self.reader().await?;
        let rows = conn
            .fetch_all("integrity", "PRAGMA integrity_check", args![])
            .await?;
        let lines = rows.iter().map(|row| row.text("integrity_check"));
        lines
            .filter(|line| !matches!(line, Ok(line) if line == "ok"))
            .collect()
    }

    /// How long the database has taken writes without a gap, as far as this process saw; `None` while it does not. Who takes over
    /// another's work waits until this is one full lease, in which the other could have renewed its own. A file has no gaps.
    pub fn writable_for(&self) -> Option<Duration> {
        match &self.engine {
            Engine::Sqlite(..) => Some(Duration::MAX),
            Engine::Postgres(cluster, _) => Some(cluster.topology().writer?.since.elapsed()),
        }
    }

    /// Every PostgreSQL server of the list, and what is known of it. A file has none.
    pub fn servers(&self) -> Vec<(Host, HostState)> {
        match &self.engine {
            Engine::Sqlite(..) => Vec::new(),
            Engine::Postgres(cluster, _) => cluster.servers(),
        }
    }

    /// Closes every connection; SQLite waits for running queries and folds the write-ahead log into the file.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite(pools, _) => pools.close().await,
            Engine::Postgres(cluster, _) => cluster.close().await,
        }
    }

    /// A connection for reading what must be as it is now.
    pub(crate) async fn reader(&self) -> Result<Conn, StoreError> {
        match &self.engine {
            Engine::Sqlite(pools, _) => Ok(self.conn(pools.reader().await?)),
            Engine::Postgres(cluster, _) => Ok(self.conn(cluster.writer().await?)),
        }
    }

    /// A connection for reading what only this user changes: to a standby, if there is one that has all of the user's
    /// acknowledged changes, whichever instance made them.
    async fn reader_for(&self, user: UserId) -> Result<Conn, StoreError> {
        if let Engine::Postgres(cluster, _) = &self.engine
            && let Some(standby) = cluster.standby()
        {
            let needed = self.conversations_version(user).await?;
            let asked = async {
                let mut conn = self.conn(standby.acquire(Role::Reader).await?);
                let has = versions::one(&mut conn, user).await?;
                Ok::<_, StoreError>((has >= needed).then_some(conn))
            };
            // One that is behind, away or silent is no trouble of the caller's.
            if let Ok(Ok(Some(conn))) = timeout(Self::STANDBY_PATIENCE, asked).await {
                return Ok(conn);
            }
        }
        self.reader().await
    }

    /// A connection for writing by single statements.
    pub(crate) async fn writer(&self) -> Result<Conn, StoreError> {
        let link = match &self.engine {
            Engine::Sqlite(pools, _) => pools.writer().await.map(Link::from),
            Engine::Postgres(cluster, _) => cluster.writer().await.map(Link::from),
        };
        self.writing(link)
    }

    /// What becomes of changes on this connection is remembered.
    fn writing(&self, link: Result<Link, StoreError>) -> Result<Conn, StoreError> {
        let link = link.inspect_err(|error| self.writes.failed(error))?;
        Ok(self.conn(link).that_writes(self.writes.clone()))
    }

    fn conn(&self, link: impl Into<Link>) -> Conn {
        Conn::new(link.into(), self.timing.clone())
    }

    /// Begins a writing transaction. On PostgreSQL it sees what others have committed before each of its statements; what must not
    /// move under it, it locks: a row by writing it, anything else by [`Tx::lock`].
    pub(crate) async fn begin_write(&self) -> Result<Tx, StoreError> {
        let (link, counted) = match &self.engine {
            Engine::Sqlite(pools, versions) => {
                let begun = pools.begin().await.map(Link::from);
                (begun, Some(Arc::clone(versions)))
            }
            Engine::Postgres(cluster, _) => (cluster.begin().await.map(Link::from), None),
        };
        Ok(Tx::new(self.writing(link)?, counted))
    }
}

impl Db {
    /// Begins a transaction that sees everything as it is when it first looks, whatever others write meanwhile. End it by
    /// [`Tx::rollback`].
    pub(crate) async fn begin_snapshot(&self) -> Result<Tx, StoreError> {
        match &self.engine {
            Engine::Sqlite(pools, _) => Ok(Tx::new(self.conn(pools.snapshot().await?), None)),
            Engine::Postgres(cluster, _) => {
                let mut tx = Tx::new(self.conn(cluster.begin().await?), None);
                let view = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
                tx.execute("snapshot", view, args![]).await?;
                tx.be_patient().await?;
                Ok(tx)
            }
        }
    }

    /// Whether it is PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.engine, Engine::Postgres(..))
    }
}

/// Runs `attempt` again, a few times, where its transaction was undone for another one's sake.
async fn again<T, F>(attempt: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    const TIMES: u32 = 3;
    for _ in 1..TIMES {
        match attempt().await {
            Err(StoreError::Conflict(_)) => {}
            outcome => return outcome,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests;
