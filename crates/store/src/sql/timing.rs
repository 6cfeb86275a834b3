//! How long statements take: counted by operation, and told when it is too long. What a statement was given is never told.

use super::dialect::Text;
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Timing(Arc<Inner>);

struct Inner {
    slow: Duration,
    slow_queries: Counter,
    /// Looked up once each: the recorder's own registry is not free.
    durations: RwLock<HashMap<&'static str, Histogram>>,
}

/// A statement that runs.
pub(super) struct Running {
    timing: Timing,
    operation: &'static str,
    started: Instant,
}

impl Timing {
    pub(super) fn new(slow: Duration) -> Self {
        describe_histogram!(
            "jarvis_db_query_duration_seconds",
            metrics::Unit::Seconds,
            "Time that statements of the relational store take, by what they are for."
        );
        describe_counter!(
            "jarvis_db_slow_queries_total",
            "Statements that took longer than store.slow_query_seconds."
        );
        Self(Arc::new(Inner {
            slow,
            slow_queries: counter!("jarvis_db_slow_queries_total"),
            durations: RwLock::default(),
        }))
    }

    pub(super) fn begin(&self, operation: &'static str) -> Running {
        Running {
            timing: self.clone(),
            operation,
            started: Instant::now(),
        }
    }

    fn record(&self, operation: &'static str, seconds: f64) {
        let durations = &self.0.durations;
        let known = durations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = known.get(operation) {
            return histogram.record(seconds);
        }
        drop(known);
        let histogram = histogram!("jarvis_db_query_duration_seconds", "operation" => operation);
        histogram.record(seconds);
        durations
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(operation, histogram);
    }
}

impl Running {
    /// Whether it succeeded or not: what failed after a long time was slow too.
    pub(super) fn end(self, text: Text) {
        let took = self.started.elapsed();
        self.timing.record(self.operation, took.as_secs_f64());
        if took >= self.timing.0.slow {
            self.timing.0.slow_queries.increment(1);
            tracing::warn!(
                operation = self.operation,
                seconds = took.as_secs_f64(),
                statement = text.sqlite,
                "a database query was slow"
            );
        }
    }
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timing")
            .field("slow", &self.0.slow)
            .finish_non_exhaustive()
    }
}
