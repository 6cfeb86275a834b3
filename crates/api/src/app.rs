//! The backend as a whole: what its parts share, its start and its stop.

use crate::{
    auth::{self, Passwords, Tokens},
    generations::Generations,
    hub::Hub,
    limits::Limiter,
    list_cache::ListCache,
    options::Options,
    problem::Problem,
    router,
};
use axum::Router;
use jarvis_balancer::Balancer;
use jarvis_domain::{Clock, Email, SessionId};
use jarvis_store::{AnswerLog, Db, LogError, StoreError};
use std::{
    net::IpAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why the backend could not start.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The relational store failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// The answer log failed.
    #[error("the answer log failed")]
    Log(#[from] LogError),
    /// Password hashing does not work with these options.
    #[error("passwords cannot be hashed: {0}")]
    Passwords(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// What every part of the backend shares. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// See [`App`].
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) db: Db,
    pub(crate) answers: AnswerLog,
    pub(crate) balancer: Balancer,
    pub(crate) clock: Clock,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    pub(crate) lists: ListCache,
    pub(crate) hub: Hub,
    pub(crate) generations: Generations,
    pub(crate) setup_token: Option<String>,
    /// Every task of the backend.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the backend stops: no new work, running answers are handed over, sockets close.
    pub(crate) stopping: CancellationToken,
    pub(crate) sockets: AtomicUsize,
    has_account: AtomicBool,
}

/// What may be tried how often.
pub(crate) struct Limits {
    pub(crate) address: Limiter<IpAddr>,
    pub(crate) email: Limiter<Email>,
}

impl Shared {
    /// Whether nobody has an account yet.
    pub(crate) async fn needs_setup(&self) -> Result<bool, StoreError> {
        if self.has_account.load(Ordering::Acquire) {
            return Ok(false);
        }
        let none = self.db.count_users().await? == 0;
        if !none {
            self.note_account();
        }
        Ok(none)
    }

    /// There is an account: there will never again be none.
    pub(crate) fn note_account(&self) {
        self.has_account.store(true, Ordering::Release);
    }

    /// Call after a sign-in was revoked in the store: its tokens and sockets end now.
    pub(crate) fn session_revoked(&self, session: SessionId) {
        self.tokens.revoked();
        self.hub.revoked(session);
    }

    /// Runs a write to its end even if the client leaves meanwhile: a commit must never be separated from what follows it.
    pub(crate) async fn shielded<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let task = self.tasks.spawn(work);
        task.await
            .map_err(|error| Problem::internal("a task died", &error))
    }
}

/// A running backend.
#[derive(Clone)]
pub struct Api {
    app: App,
}

impl Api {
    /// Starts the backend: takes up every answer that an earlier process left unfinished, and clears away the files of
    /// those that have ended.
    ///
    /// # Errors
    /// [`ApiError`] when a store fails or passwords cannot be hashed.
    pub async fn start(
        options: Options,
        db: Db,
        answers: AnswerLog,
        balancer: Balancer,
        clock: Clock,
    ) -> Result<Self, ApiError> {
        let tasks = TaskTracker::new();
        let passwords = Passwords::new(options.password_cost, tasks.clone())
            .map_err(|error| ApiError::Passwords(error.to_string()))?;
        let setup_token = auth::setup_token(&options.set_up).map_err(|_| ApiError::Random)?;
        let limits = Limits {
            address: Limiter::new(options.rate_per_address, clock.clone()),
            email: Limiter::new(options.rate_per_email, clock.clone()),
        };
        let app = App(Arc::new(Shared {
            tokens: Tokens::new(&options, db.clone(), clock.clone()),
            passwords,
            limits,
            lists: ListCache::default(),
            hub: Hub::default(),
            generations: Generations::default(),
            setup_token,
            tasks,
            stopping: CancellationToken::new(),
            sockets: AtomicUsize::new(0),
            has_account: AtomicBool::new(false),
            options,
            db,
            answers,
            balancer,
            clock,
        }));
        app.needs_setup().await?;
        crate::generations::take_up(&app).await?;
        Ok(Self { app })
    }

    /// The public routes: `/api/v1/*`, `/ws`, `/api/openapi.json` and `/health`. Serve it with
    /// `ConnectInfo<SocketAddr>` in the requests' extensions, or all clients count as one where tries are limited.
    pub fn router(&self) -> Router {
        router::routes(&self.app)
    }

    /// The token that the first account needs; `None` where it needs none, or there is an account already.
    pub fn setup_token(&self) -> Option<&str> {
        let wanted = !self.app.has_account.load(Ordering::Acquire);
        self.app.setup_token.as_deref().filter(|_| wanted)
    }

    /// How many answers are being made.
    pub fn running_answers(&self) -> usize {
        self.app.generations.count()
    }

    /// How many WebSockets are open.
    pub fn open_sockets(&self) -> usize {
        self.app.sockets.load(Ordering::Relaxed)
    }

    /// Stops: refuses new questions, keeps the text of running answers for the next start, closes sockets with 1001 and
    /// waits for all of it, at most `deadline`. True if everything ended in time.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.app.stopping.cancel();
        self.app.tasks.close();
        tokio::time::timeout(deadline, self.app.tasks.wait())
            .await
            .is_ok()
    }
}
