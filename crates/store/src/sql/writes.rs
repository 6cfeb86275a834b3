//! Whether the database takes changes, by what became of the last ones: what can be read may have a full disk below it, or be
//! nobody's to write to. Remembered, so that who asks how it stands changes nothing while all is well.

use crate::StoreError;
use jarvis_domain::sentence;
use metrics::{Counter, counter, describe_counter};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Writes(Arc<Inner>);

struct Inner {
    /// The last change was not taken.
    failing: AtomicBool,
    failed: Counter,
}

impl Writes {
    pub(super) fn new() -> Self {
        describe_counter!(
            "jarvis_db_writes_failed_total",
            "Changes that the database did not take because of its own state: away, full, read-only."
        );
        Self(Arc::new(Inner {
            failing: AtomicBool::new(false),
            failed: counter!("jarvis_db_writes_failed_total"),
        }))
    }

    /// Whether the last change was not taken.
    pub(super) fn are_failing(&self) -> bool {
        self.0.failing.load(Ordering::Acquire)
    }

    /// A change was committed.
    pub(super) fn taken(&self) {
        // Looked at first: nearly always there is nothing to change.
        if self.are_failing() && self.0.failing.swap(false, Ordering::AcqRel) {
            tracing::info!("the database takes changes again");
        }
    }

    /// A change was not taken.
    pub(super) fn failed(&self, error: &StoreError) {
        if !is_of_the_store(error) {
            return;
        }
        self.0.failed.increment(1);
        if !self.0.failing.swap(true, Ordering::AcqRel) {
            tracing::error!(error = sentence(error), "the database takes no changes");
        }
    }
}

/// Whether any other change would have fared the same.
fn is_of_the_store(error: &StoreError) -> bool {
    match error {
        StoreError::Conflict(_) => false,
        StoreError::Full | StoreError::Damaged(_) | StoreError::Forbidden(_) => true,
        other => other.is_outage(),
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes")
            .field("failing", &self.are_failing())
            .finish_non_exhaustive()
    }
}
