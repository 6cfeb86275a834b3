//! The backend as a whole: what its parts share, its start and its stop.

use crate::{
    auth::{self, Passwords, Tokens},
    generations::{self, Generations},
    hub::Hub,
    limits::Limits,
    list_cache::ListCache,
    options::Options,
    problem::Problem,
    router,
    status::Status,
};
use axum::Router;
use jarvis_balancer::Balancer;
use jarvis_domain::{Clock, InstanceId, SessionId, UserId, durable::Rules, sentence};
use jarvis_store::{AnswerLog, Bus, Db, LogError, Notice, StoreError};
use serde::Serialize;
use std::{
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
    /// Another instance works on the database, and this one has nothing to share answers with it through.
    #[error(
        "another instance works on this database, and there is no Redis Cluster to share answers through"
    )]
    NotAlone,
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
    /// This run of the backend, among all that work on the database.
    pub(crate) instance: InstanceId,
    pub(crate) rules: Rules,
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
    /// To the other instances.
    pub(crate) bus: Bus,
    pub(crate) generations: Generations,
    pub(crate) setup_token: Option<String>,
    /// Every task of the backend.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the backend stops: no new work, running answers are handed over, sockets close.
    pub(crate) stopping: CancellationToken,
    pub(crate) sockets: AtomicUsize,
    has_account: AtomicBool,
    /// It works beside others with whom it shares no answers.
    crowded: AtomicBool,
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
        if self.is_linked() {
            self.send(Notice::Revoked { session });
        }
    }

    /// Tells every socket of a user, at whichever instance.
    pub(crate) fn tell(&self, user: UserId, frame: &impl Serialize) {
        match serde_json::to_string(frame) {
            // It comes back over the bus.
            Ok(frame) if self.is_linked() => self.send(Notice::Tell { user, frame }),
            Ok(frame) => self.hub.tell(user, frame),
            Err(error) => tracing::error!("a notice could not be written: {error}"),
        }
    }

    /// Whether anybody might hear what a user is told.
    pub(crate) fn may_be_heard(&self, user: UserId) -> bool {
        self.is_linked() || self.hub.is_heard(user)
    }

    /// Whether answers may pass from one instance to another, or their log may be away: whether text takes the long way.
    pub(crate) fn is_shared(&self) -> bool {
        self.db.is_shared() || self.is_linked()
    }

    /// Whether another instance would be one too many: others may use the database, and there is nothing to share answers
    /// through.
    pub(crate) fn must_be_alone(&self) -> bool {
        self.db.is_shared() && !self.is_linked()
    }

    /// Whether others work on the database, seen just now. Who shares answers with them is not crowded.
    pub(crate) fn note_others(&self, there: bool) {
        let crowded = self.must_be_alone() && there;
        if crowded && !self.crowded.swap(true, Ordering::AcqRel) {
            tracing::error!("{}", ApiError::NotAlone);
        }
        if !crowded {
            self.crowded.store(false, Ordering::Release);
        }
    }

    /// What is wrong if it works beside others with whom it shares no answers.
    pub(crate) fn crowd(&self) -> Option<String> {
        let crowded = self.crowded.load(Ordering::Acquire);
        crowded.then(|| ApiError::NotAlone.to_string())
    }

    /// Whether there may be other instances to talk to.
    fn is_linked(&self) -> bool {
        self.answers.redis().is_some()
    }

    fn send(&self, notice: Notice) {
        let bus = self.bus.clone();
        self.tasks.spawn(async move { bus.send(notice).await });
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

/// Passes on what comes over the bus, until the backend stops.
async fn listen(app: App) {
    let mut ear = app.bus.ear();
    loop {
        let notice = tokio::select! {
            notice = ear.next() => notice,
            () = app.stopping.cancelled() => return,
        };
        match notice {
            Some(Notice::Tell { user, frame }) => app.hub.tell(user, frame),
            Some(Notice::Revoked { session }) => {
                app.tokens.revoked();
                app.hub.revoked(session);
            }
            Some(Notice::Stop { generation }) => drop(app.generations.cancel(generation)),
            Some(Notice::Missed) => {
                app.tokens.revoked();
                app.hub.missed();
            }
            None => return,
        }
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
    /// On a database that several may use, but without a Redis Cluster, it first waits until the lease of a predecessor that
    /// was killed has run out.
    ///
    /// # Errors
    /// [`ApiError`] when a store fails, passwords cannot be hashed, or there is an instance too many.
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
        let limits = Limits::new(&options, answers.redis(), &clock);
        let app = App(Arc::new(Shared {
            instance: InstanceId::new(),
            rules: options.rules,
            tokens: Tokens::new(&options, db.clone(), clock.clone()),
            passwords,
            limits,
            lists: ListCache::default(),
            hub: Hub::default(),
            bus: answers.redis().map_or_else(Bus::default, Bus::shared),
            generations: Generations::default(),
            setup_token,
            tasks,
            stopping: CancellationToken::new(),
            sockets: AtomicUsize::new(0),
            has_account: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            options,
            db,
            answers,
            balancer,
            clock,
        }));
        app.needs_setup().await?;
        generations::sweep(&app).await?;
        generations::begin_watch(&app).await?;
        if app.is_linked() {
            app.tasks.spawn(listen(app.clone()));
        }
        if app.is_shared() {
            app.tasks.spawn(generations::keep_watch(app.clone()));
        }
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

    /// What works and what does not: the stores and every node.
    pub async fn status(&self) -> Status {
        Status::of(&self.app).await
    }

    /// How many answers are being made.
    pub fn running_answers(&self) -> usize {
        self.app.generations.count()
    }

    /// How many WebSockets are open.
    pub fn open_sockets(&self) -> usize {
        self.app.sockets.load(Ordering::Relaxed)
    }

    /// Stops: refuses new questions, hands running answers over to other instances or the next start, closes sockets with 1001 and
    /// waits for all of it, at most `deadline`. True if everything ended in time.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.app.stopping.cancel();
        self.app.tasks.close();
        let ended = async {
            self.app.tasks.wait().await;
            // Others may go on at once.
            let given_up = self.app.db.give_up(self.app.instance, &[]).await;
            if let Err(error) = given_up {
                tracing::warn!(error = sentence(&error), "the lease could not be given up");
            }
        };
        tokio::time::timeout(deadline, ended).await.is_ok()
    }
}
