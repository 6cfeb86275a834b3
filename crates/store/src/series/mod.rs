//! What is measured over time: what answers cost and how long they took, and how the nodes looked.
//!
//! Nobody waits for it. [`Series::record`] puts a point into a bounded buffer and returns; [`SeriesTask`] writes what has arrived in
//! batches. While the store is away the buffer fills, and what finds no room is dropped and counted; an answer is never held up.
//!
//! The points lie in tables of their own, in the main database or in one by itself. The query texts are the same on every engine;
//! where the extension TimescaleDB is there, [`timescale`] puts it under the same names.

mod point;
mod query;
mod rights;
mod task;
mod timescale;

pub use point::{AnswerPoint, NodePoint, Point};
pub use query::{NodeSpan, Span, Usage, UsageFilter, Width};
pub use rights::require_rights;
pub use task::SeriesTask;

use crate::{Db, DbOptions, StoreError};
use jarvis_domain::sentence;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Where the points go and how long they stay.
#[derive(Debug, Clone)]
pub struct SeriesOptions {
    /// The database.
    pub store: SeriesStore,
    /// Points that may wait to be written; further ones are dropped.
    pub buffer: usize,
    /// How long an answer's point is kept.
    pub keep_answers: Duration,
    /// How long a node's point is kept.
    pub keep_nodes: Duration,
}

/// Which database the points go to.
#[derive(Debug, Clone)]
pub enum SeriesStore {
    /// The main one.
    Main(Db),
    /// One by itself, opened when it can be reached.
    Own(DbOptions),
}

impl SeriesOptions {
    /// The defaults with this store: 400 days of answers, 30 days of nodes.
    #[must_use]
    pub fn new(store: SeriesStore) -> Self {
        Self {
            store,
            buffer: 8192,
            keep_answers: Duration::from_hours(24 * 400),
            keep_nodes: Duration::from_hours(24 * 30),
        }
    }
}

/// Takes points and answers questions about them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Series {
    points: mpsc::Sender<Point>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Set once the store has been opened.
    db: OnceLock<Db>,
    /// In a database of its own.
    apart: bool,
    /// Why the store takes nothing at present.
    trouble: Mutex<Option<StoreError>>,
    dropped: AtomicU64,
}

impl Shared {
    /// The store did not answer: said once, until it does.
    fn fails(&self, error: StoreError) {
        let mut trouble = self.trouble();
        if trouble.is_none() {
            tracing::warn!(
                error = sentence(&error),
                "the store of what is measured does not answer; points wait, and are dropped once there is no room"
            );
        }
        *trouble = Some(error);
    }

    fn works(&self) {
        *self.trouble() = None;
    }

    fn trouble(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_points(&self, count: usize) {
        let count = count as u64;
        self.dropped.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("jarvis_series_points_dropped_total").increment(count);
    }
}

impl Series {
    /// A series and the task that writes it, which the caller runs.
    #[must_use]
    pub fn new(options: SeriesOptions) -> (Self, SeriesTask) {
        let (points, arriving) = mpsc::channel(options.buffer.max(1));
        let shared = Arc::new(Shared {
            db: OnceLock::new(),
            apart: matches!(options.store, SeriesStore::Own(_)),
            trouble: Mutex::default(),
            dropped: AtomicU64::new(0),
        });
        let task = SeriesTask::new(options, arriving, Arc::clone(&shared));
        (Self { points, shared }, task)
    }

    /// Keeps a point, if there is room for it. Never waits.
    pub fn record(&self, point: impl Into<Point>) {
        if self.points.try_send(point.into()).is_err() {
            self.shared.drop_points(1);
        }
    }

    /// Whether the points lie in a database of their own, which may be away while the main one is there.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        self.shared.apart
    }

    /// Why the store took nothing when it was last tried; `None` while it does, and before it was tried.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble().as_ref().map(ToString::to_string)
    }

    /// Points that were dropped since the start, for want of room or because the store could not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// The store, once it could be opened.
    fn db(&self) -> Result<&Db, StoreError> {
        self.shared.db.get().ok_or(StoreError::Deadline)
    }
}
