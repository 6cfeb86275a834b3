//! Connections to one PostgreSQL server.
//!
//! A pool of our own, because here a connection must be worth its trust: one whose statement was given up in the middle, or whose
//! server has said that it goes down, is never handed on; a refused connection is told at once instead of being tried until the
//! deadline; and nothing hangs on a server that has fallen silent.

use super::connect::{self, Role};
use crate::{
    DbOptions, Host, PostgresOptions, StoreError,
    sql::{
        conn::{Done, gather},
        row::Row,
        value::{Value, arguments},
    },
};
use sqlx::{
    Connection as _, Executor as _, PgConnection, Postgres, SqlStr,
    postgres::{PgConnectOptions, PgDatabaseError, PgQueryResult, PgSeverity},
    query_with, raw_sql,
};
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

/// A connection that has rested longer than this is asked whether it lives before it is handed out.
const REST: Duration = Duration::from_secs(1);
/// How long it may take to say so; a network forgets connections without a word.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// The connections to one server; shared.
pub(crate) struct Pool {
    host: Host,
    options: PgConnectOptions,
    /// What an operator sets to reach it.
    settings: &'static str,
    /// Of borrowing a connection.
    deadline: Duration,
    statement_deadline: Duration,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    closed: AtomicBool,
}

struct Idle {
    connection: PgConnection,
    since: Instant,
    /// Whether the server was the primary when it was asked.
    writes: bool,
}

impl Pool {
    /// Connects to nothing yet.
    pub(crate) fn new(host: &Host, options: &PostgresOptions, limits: &DbOptions) -> Arc<Self> {
        let places = usize::try_from(options.connections).unwrap_or(usize::MAX);
        Arc::new(Self {
            host: host.clone(),
            options: connect::options(host, options),
            settings: limits.settings,
            deadline: limits.deadline,
            statement_deadline: limits.statement_deadline(),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// Which server.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Borrows a connection, within the deadline.
    ///
    /// # Errors
    /// [`StoreError::NotPrimary`] where one that writes is asked for and the server is a standby, [`StoreError::Deadline`] if all
    /// are lent out, [`StoreError::Silent`] if the server does not speak, and what [`Db::open`](crate::Db::open) says of a server that cannot be used.
    pub(crate) async fn acquire(self: &Arc<Self>, role: Role) -> Result<Lease, StoreError> {
        let until = Instant::now() + self.deadline;
        let place = timeout_at(until, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| StoreError::Deadline)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        timeout_at(until, self.connection(role, place))
            .await
            .map_err(|_| StoreError::Silent {
                host: self.host.clone(),
            })?
    }

    /// One that rests, if it lives, or a new one.
    async fn connection(
        self: &Arc<Self>,
        role: Role,
        place: OwnedSemaphorePermit,
    ) -> Result<Lease, StoreError> {
        if let Some(mut idle) = self.rested() {
            if idle.since.elapsed() <= REST || lives(&mut idle.connection).await {
                if role == Role::Writer && !idle.writes {
                    connect::check_writer(&mut idle.connection, &self.host).await?;
                    idle.writes = true;
                }
                return Ok(self.lease(idle, place));
            }
            self.forget();
        }
        let (connection, writes) =
            connect::connect(&self.options, &self.host, self.settings, role).await?;
        let fresh = Idle {
            connection,
            since: Instant::now(),
            writes,
        };
        Ok(self.lease(fresh, place))
    }

    fn rested(&self) -> Option<Idle> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn lease(self: &Arc<Self>, idle: Idle, place: OwnedSemaphorePermit) -> Lease {
        Lease {
            deadline: self.statement_deadline,
            state: State::Clean,
            lent: Some(idle),
            pool: Arc::clone(self),
            _place: place,
        }
    }

    fn give_back(&self, mut idle: Idle) {
        idle.since = Instant::now();
        let mut resting = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.closed.load(Ordering::Acquire) {
            resting.push(idle);
        }
    }

    /// Forgets the connections that rest: their server is not what it was.
    pub(crate) fn forget(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Lends nothing more and closes what rests; what is lent out is closed when it comes back.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.places.close();
        let resting =
            std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        for idle in resting {
            // A server that is gone needs no farewell.
            let _ = timeout(SIGN_OF_LIFE, idle.connection.close()).await;
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// A connection on loan. It goes back to its pool only if nothing runs on it: no statement that was given up, no transaction. Else
/// it is dropped, and the server, which looks once a second, ends what it had begun for us.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    /// There until it goes back.
    lent: Option<Idle>,
    state: State,
    deadline: Duration,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Clean,
    /// A transaction is open.
    Open,
    /// A statement runs, or was given up, or the connection is lost.
    Busy,
}

impl Lease {
    /// Runs one statement, prepared once per connection.
    pub(crate) async fn run(
        &mut self,
        text: &'static str,
        args: &[Value<'_>],
    ) -> Result<Done, StoreError> {
        let query = query_with(text, arguments::<Postgres>(args)?);
        let deadline = self.deadline;
        let (connection, running) = self.start();
        let stream = connection.fetch_many(query);
        let gathered = gather(stream, PgQueryResult::rows_affected, Row::Postgres);
        let outcome = timeout(deadline, gathered).await;
        self.settle(running, outcome)
    }

    pub(crate) async fn begin(&mut self) -> Result<(), StoreError> {
        self.control("BEGIN", State::Open).await
    }

    /// Whether a transaction is open.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// # Errors
    /// [`StoreError::Unsure`] if the server's word did not come.
    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        self.control("COMMIT", State::Clean)
            .await
            .map_err(|error| match error {
                StoreError::Deadline => StoreError::Unsure(None),
                StoreError::Unavailable(cause) => StoreError::Unsure(Some(cause)),
                refused => refused,
            })
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), StoreError> {
        self.control("ROLLBACK", State::Clean).await
    }

    /// Runs a script of statements without values.
    pub(crate) async fn script(&mut self, text: SqlStr) -> Result<(), StoreError> {
        let deadline = self.deadline;
        let (connection, running) = self.start();
        let outcome = timeout(deadline, raw_sql(text).execute(connection)).await;
        self.settle(running, outcome).map(drop)
    }

    /// For changes of the schema, which take as long as they take.
    pub(crate) fn without_deadline(&mut self) {
        self.deadline = Duration::MAX;
    }

    async fn control(&mut self, text: &'static str, then: State) -> Result<(), StoreError> {
        let deadline = self.deadline;
        let (connection, running) = self.start();
        let outcome = timeout(deadline, raw_sql(text).execute(connection)).await;
        self.settle(running, outcome)?;
        self.state = then;
        Ok(())
    }

    /// From here until [`settle`](Self::settle) the connection is nobody else's, even if the caller is dropped in between.
    fn start(&mut self) -> (&mut PgConnection, State) {
        let before = std::mem::replace(&mut self.state, State::Busy);
        let idle = self.lent.as_mut();
        #[expect(clippy::expect_used, reason = "it is taken out in `drop` alone")]
        let idle = idle.expect("a lease has its connection until it is dropped");
        (&mut idle.connection, before)
    }

    fn settle<T>(
        &mut self,
        before: State,
        outcome: Result<sqlx::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, StoreError> {
        let Ok(outcome) = outcome else {
            return Err(StoreError::Deadline);
        };
        if outcome.as_ref().err().is_none_or(is_an_answer) {
            self.state = before;
        } else {
            // What ended this connection has most likely ended the others.
            self.pool.forget();
        }
        Ok(outcome?)
    }
}

async fn lives(connection: &mut PgConnection) -> bool {
    let alive = timeout(SIGN_OF_LIFE, connection.ping()).await;
    matches!(alive, Ok(Ok(())))
}

/// Whether the server refused a statement and goes on with this connection.
fn is_an_answer(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| error.severity() == PgSeverity::Error),
        _ => false,
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.state == State::Clean
            && let Some(idle) = self.lent.take()
        {
            self.pool.give_back(idle);
        }
    }
}
