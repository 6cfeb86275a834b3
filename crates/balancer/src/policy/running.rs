//! What a node is doing for us now, and how long it will take.

use super::{number, prefix::Hit};
use crate::quick::QuickMap;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Requests remembered per node. One that is never reported as finished is dropped when as many newer ones have begun.
pub(super) const MOST_RUNS: usize = 16_384;

/// One request under way, and what was expected of it.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) model: Arc<str>,
    pub(super) began: Duration,
    /// When its first byte came.
    pub(super) first: Option<Duration>,
    pub(super) prompt_bytes: u32,
    pub(super) hit: Hit,
    pub(super) max_tokens: Option<u32>,
    /// Others on the node when it began.
    pub(super) others: f64,
    /// The model was not loaded.
    pub(super) cold: bool,
    /// Expected seconds of prefill, of the prefills before it, and in all.
    pub(super) prefill: f64,
    pub(super) backlog: f64,
    pub(super) total: f64,
    /// The node's busy time when decoding began, see [`Running::busy`].
    pub(super) busy_at_first: f64,
}

/// The requests of one node.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// By number, the oldest first.
    runs: BTreeMap<u64, Run>,
    /// Seconds of prefill given to the node and not known to be done, as of `prefill_at`.
    prefill: f64,
    prefill_at: Duration,
    /// How many have had no first byte.
    unready: usize,
    /// Requests × seconds, up to `busy_at`: two readings give the mean number of requests between them.
    busy: f64,
    busy_at: Duration,
    /// Models being loaded, and when they are expected.
    loading: QuickMap<Arc<str>, Duration>,
}

impl Running {
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Seconds until the prefills that were given to it are done.
    pub(super) fn backlog(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.prefill_at).as_secs_f64();
        (self.prefill - passed).max(0.0)
    }

    /// Seconds until `model` is loaded, if a request has already made the node load it.
    pub(super) fn loading(&self, model: &str, now: Duration) -> Option<f64> {
        let ready = self.loading.get(model)?;
        Some(ready.saturating_sub(now).as_secs_f64())
    }

    pub(super) fn start(&mut self, id: u64, mut run: Run, cold: f64, now: Duration) {
        self.keep_time(now);
        if run.cold && !self.loading.contains_key(&run.model) {
            let ready = now + Duration::try_from_secs_f64(cold).unwrap_or_default();
            self.loading.insert(Arc::clone(&run.model), ready);
        }
        self.prefill = self.backlog(now) + run.prefill;
        self.prefill_at = now;
        self.unready += 1;
        run.busy_at_first = self.busy;
        self.runs.insert(id, run);
        if self.runs.len() > MOST_RUNS
            && let Some(oldest) = self.runs.keys().next().copied()
        {
            self.take(oldest, now);
        }
    }

    pub(super) fn first_byte(&mut self, id: u64, now: Duration) {
        self.keep_time(now);
        let busy = self.busy;
        let Some(run) = self.runs.get_mut(&id) else {
            return;
        };
        if run.first.is_none() {
            run.first = Some(now);
            run.busy_at_first = busy;
            let model = Arc::clone(&run.model);
            self.ready(&model, now);
        }
    }

    /// One that was expected to be in prefill is no longer.
    fn ready(&mut self, model: &str, now: Duration) {
        self.loading.remove(model);
        self.unready = self.unready.saturating_sub(1);
        if self.unready == 0 {
            self.prefill = 0.0;
            self.prefill_at = now;
        }
    }

    /// Removes a request; with it the mean number of others while it was decoding.
    pub(super) fn take(&mut self, id: u64, now: Duration) -> Option<(Run, f64)> {
        self.keep_time(now);
        let run = self.runs.remove(&id)?;
        if run.first.is_none() {
            self.prefill = (self.backlog(now) - run.prefill).max(0.0);
            self.prefill_at = now;
            self.ready(&run.model, now);
        }
        let since = run.first.unwrap_or(run.began);
        let seconds = now.saturating_sub(since).as_secs_f64();
        let mean = (self.busy - run.busy_at_first) / seconds.max(f64::MIN_POSITIVE);
        let others = if seconds > 0.0 {
            (mean - 1.0).max(0.0)
        } else {
            run.others
        };
        Some((run, others))
    }

    fn keep_time(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.busy_at).as_secs_f64();
        self.busy += passed * number(self.runs.len());
        self.busy_at = self.busy_at.max(now);
    }

    /// Seconds until a slot is free for one that has `ahead` others waiting before it, if `unknown` requests are under
    /// way that we know nothing of, each taking `typical` seconds in all.
    pub(super) fn until_free(
        &self,
        ahead: usize,
        unknown: usize,
        typical: f64,
        now: Duration,
    ) -> f64 {
        let known = self.runs.values().map(|run| remaining(run, now));
        let mut left: Vec<f64> = known
            .chain(std::iter::repeat_n(typical / 2.0, unknown))
            .collect();
        left.sort_by(f64::total_cmp);
        let slots = left.len().max(1);
        let round = number(ahead / slots) * typical;
        left.get(ahead % slots).copied().unwrap_or(0.0) + round
    }
}

/// Seconds until a request ends. One that is overdue is expected to take a quarter of its age more.
fn remaining(run: &Run, now: Duration) -> f64 {
    let age = now.saturating_sub(run.began).as_secs_f64();
    (run.total - age).max(age / 4.0)
}
