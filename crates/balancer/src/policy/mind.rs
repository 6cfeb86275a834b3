//! What is known of nodes and models, and what follows from it for a request.

use super::{
    Guess, Job, Outcome, View, number,
    pace::{Measured, Pace, Rates},
    prefix::{Hit, PrefixMemory},
    running::{Run, Running},
    starting::{Facts, Starting, Usual},
};
use crate::quick::QuickMap;
use std::{collections::hash_map::Entry, sync::Arc, time::Duration};

/// Models known in all, and of each node; the one unused for longest is forgotten first.
pub(super) const MOST_MODELS: usize = 256;
/// A time longer than this, in seconds, is a mistake.
const LONGEST: f64 = 86_400.0;
/// An answer that came all at once says nothing about its first byte: its tokens took less than this share of the time.
const AT_ONCE: f64 = 0.02;

/// Everything that is learnt. Per node at most [`super::prefix::MOST_LINKS`] links, [`super::running::MOST_RUNS`] requests
/// and [`MOST_MODELS`] models: some 1 MiB, plus about 200 bytes for each request that is under way.
#[derive(Debug, Default)]
pub(super) struct Mind {
    nodes: QuickMap<u64, NodeMind>,
    models: QuickMap<Arc<str>, Facts>,
    starting: Starting,
    next: u64,
}

#[derive(Debug, Default)]
struct NodeMind {
    running: Running,
    prefixes: PrefixMemory,
    paces: QuickMap<Arc<str>, Pace>,
}

/// Where a request's time would go, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Estimate {
    /// For a slot, for prefills ahead, and until the node begins.
    pub(super) wait: f64,
    /// Loading the model.
    pub(super) cold: f64,
    pub(super) prefill: f64,
    pub(super) decode: f64,
    /// What the requests that are there lose by one more: they stand still while its prompt is computed, and each of its
    /// tokens slows theirs.
    pub(super) burden: f64,
    pub(super) hit: Hit,
    /// Of `wait`, the prefills ahead.
    backlog: f64,
    /// Requests that are there.
    others: f64,
}

impl Estimate {
    pub(super) fn ttft(&self) -> f64 {
        self.wait + self.cold + self.prefill
    }

    pub(super) fn total(&self) -> f64 {
        self.ttft() + self.decode
    }
}

impl Mind {
    /// Knows nothing but this.
    pub(super) fn new(starting: Starting) -> Self {
        Self {
            starting,
            ..Self::default()
        }
    }

    /// What is expected of `job` wherever it goes.
    pub(super) fn usual(&self, job: &Job<'_>, now: Duration) -> Usual {
        let prior = self.starting.of(job.model);
        let facts = self.models.get(job.model);
        let usual = facts.map_or(*prior, |facts| facts.usual(prior, now));
        let most = job.max_tokens.map_or(f64::INFINITY, f64::from);
        Usual {
            tokens: usual.tokens.min(most),
            ..usual
        }
    }

    /// What `job`, of which `usual` is expected, would take on the node of `view`.
    pub(super) fn estimate(
        &self,
        job: &Job<'_>,
        usual: &Usual,
        view: &View,
        now: Duration,
    ) -> Estimate {
        let node = self.nodes.get(&view.node);
        let pace = node.and_then(|node| node.paces.get(job.model));
        let rates = pace.map_or(usual.rates, |pace| pace.rates(&usual.rates, now));
        let active = usize::try_from(view.active).unwrap_or(usize::MAX);
        let there = node.map_or(0, |node| node.running.len()).max(active);
        let full = view.slots.is_some_and(|slots| view.active >= slots);
        let others = number(if full { there.saturating_sub(1) } else { there });

        let hit = node.map_or_else(Hit::default, |node| node.prefixes.find(job, now));
        let prefill = rates
            .prefill
            .at((f64::from(job.prompt_bytes) - hit.expected()).max(0.0));
        let tokens = usual.tokens;
        let decode = tokens * rates.decode.at(others);
        let cold = match node {
            _ if view.loaded => 0.0,
            Some(node) => node.running.loading(job.model, now).unwrap_or(rates.load),
            None => rates.load,
        };
        let backlog = node.map_or(0.0, |node| node.running.backlog(now));
        let mut wait = backlog + rates.start.at(others);
        if full {
            let unknown = active.saturating_sub(node.map_or(0, |node| node.running.len()));
            let ahead = whole(view.queued);
            let idle = Running::default();
            let running = node.map_or(&idle, |node| &node.running);
            wait = running
                .until_free(ahead, unknown, prefill + decode, now)
                .max(wait);
        }
        Estimate {
            wait,
            cold,
            prefill,
            decode,
            burden: (tokens * rates.decode.slope + prefill) * others,
            hit,
            backlog,
            others,
        }
    }

    /// Seconds since a request for `model` was last sent to `node`, if one was.
    pub(super) fn untried(&self, node: u64, model: &str, now: Duration) -> Option<f64> {
        let pace = self.nodes.get(&node)?.paces.get(model)?;
        Some(now.saturating_sub(pace.tried).as_secs_f64())
    }

    pub(super) fn started(&mut self, job: &Job<'_>, view: &View, now: Duration) -> Guess {
        let estimate = self.estimate(job, &self.usual(job, now), view, now);
        let id = self.next;
        self.next += 1;
        let model = self.name(job.model, now);
        let node = self.nodes.entry(view.node).or_default();
        let pace = shelve(&mut node.paces, &model, |pace| pace.tried);
        pace.tried = now;
        let run = Run {
            model,
            began: now,
            first: None,
            prompt_bytes: job.prompt_bytes,
            hit: estimate.hit,
            max_tokens: job.max_tokens,
            others: estimate.others,
            cold: !view.loaded,
            prefill: estimate.prefill,
            backlog: estimate.backlog,
            total: estimate.total(),
            busy_at_first: 0.0,
        };
        node.running.start(id, run, estimate.cold, now);
        node.prefixes.remember(job);
        Guess {
            id,
            node: view.node,
            ttft: estimate.ttft(),
            total: estimate.total(),
            cached_bytes: rounded(estimate.hit.expected()),
        }
    }

    pub(super) fn first_byte(&mut self, guess: &Guess, now: Duration) {
        if let Some(node) = self.nodes.get_mut(&guess.node) {
            node.running.first_byte(guess.id, now);
        }
    }

    pub(super) fn finished(&mut self, guess: &Guess, outcome: &Outcome, now: Duration) {
        let Some(node) = self.nodes.get_mut(&guess.node) else {
            return;
        };
        let Some((run, others)) = node.running.take(guess.id, now) else {
            return;
        };
        if !outcome.ok {
            return;
        }
        let Some(facts) = self.models.get_mut(&run.model) else {
            return;
        };
        let common = facts.usual(self.starting.of(&run.model), now);
        let pace = shelve(&mut node.paces, &run.model, |pace| pace.tried);
        let known = pace.prefills(now) >= 3.0;
        let rates = pace.rates(&common.rates, now);
        let measured = measure(&run, outcome, others, &rates, known, now);
        if let Some(share) = measured.kept {
            node.prefixes.learn(run.hit, share, now);
        }
        pace.learn(&measured.times, &rates, now);
        let times = &measured.times;
        facts.learn(times, outcome.tokens, run.max_tokens, &common, now);
    }

    pub(super) fn forget(&mut self, node: u64) {
        self.nodes.remove(&node);
    }

    /// The model's name, shared; marks it as used.
    fn name(&mut self, model: &str, now: Duration) -> Arc<str> {
        let name = self
            .models
            .get_key_value(model)
            .map_or_else(|| Arc::from(model), |(name, _)| Arc::clone(name));
        let facts = shelve(&mut self.models, &name, |facts| facts.pace.tried);
        facts.pace.tried = now;
        name
    }

    #[cfg(test)]
    pub(super) fn knows(&self, node: u64) -> bool {
        self.nodes.contains_key(&node)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        let paces = self.nodes.values().map(|node| node.paces.len()).max();
        (self.models.len(), paces.unwrap_or(0))
    }
}

/// The entry of `key`, made if there is none; then the one used longest ago gives way if there are too many.
fn shelve<'a, T: Default>(
    shelf: &'a mut QuickMap<Arc<str>, T>,
    key: &Arc<str>,
    used: impl Fn(&T) -> Duration,
) -> &'a mut T {
    if shelf.len() >= MOST_MODELS
        && !shelf.contains_key(key)
        && let Some(oldest) = shelf.iter().min_by_key(|(_, value)| used(value))
    {
        let oldest = Arc::clone(oldest.0);
        shelf.remove(&oldest);
    }
    match shelf.entry(Arc::clone(key)) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => entry.insert(T::default()),
    }
}

struct Findings {
    times: Measured,
    /// Share of the expected prefix that was in the cache.
    kept: Option<f64>,
}

/// What a request's end says. `known`: `rates.prefill` has been learnt here.
fn measure(
    run: &Run,
    outcome: &Outcome,
    others: f64,
    rates: &Rates,
    known: bool,
    now: Duration,
) -> Findings {
    let load = outcome.load_seconds.and_then(sensible);
    let total = now.saturating_sub(run.began).as_secs_f64();
    let first = run
        .first
        .map(|first| first.saturating_sub(run.began).as_secs_f64());
    // Without a stream the first byte is nearly the last: it tells of neither part.
    let first = first.filter(|first| total - first > AT_ONCE * total || outcome.tokens == Some(1));

    let prompt = outcome.prompt_seconds.and_then(sensible);
    let spent = first.map(|first| first - load.unwrap_or(0.0));
    let apart = |spent: f64| spent - run.backlog - rates.start.at(run.others);
    let seconds = prompt.or_else(|| spent.filter(|_| !run.cold || load.is_some()).map(apart));
    let (prefill, kept) = prefilled(run, outcome, seconds.map(|s| s.max(0.0)), rates, known);
    let start = spent
        .zip(prompt)
        .map(|(spent, prompt)| ((spent - prompt - run.backlog).max(0.0), run.others));

    let decode = outcome
        .tokens
        .filter(|tokens| *tokens > 0)
        .and_then(|tokens| {
            let seconds = outcome.decode_seconds.and_then(sensible);
            let seconds = seconds.or_else(|| first.map(|first| total - first));
            seconds.map(|seconds| (seconds / f64::from(tokens), others))
        });
    let load = load.or_else(|| {
        let spent = spent.filter(|_| run.cold)?;
        Some(apart(spent) - run.prefill)
    });
    Findings {
        times: Measured {
            start,
            prefill,
            decode,
            load: load.filter(|_| run.cold),
        },
        kept,
    }
}

/// Seconds of prefill and the bytes that were computed in it; and how much of the expected prefix was there.
fn prefilled(
    run: &Run,
    outcome: &Outcome,
    seconds: Option<f64>,
    rates: &Rates,
    known: bool,
) -> (Option<(f64, f64)>, Option<f64>) {
    let (whole, expected) = (f64::from(run.prompt_bytes), f64::from(run.hit.bytes));
    if let (Some(cached), Some(tokens)) = (outcome.prompt_cached, outcome.prompt_tokens)
        && tokens > 0
    {
        let cached = whole * (f64::from(cached) / f64::from(tokens)).min(1.0);
        let kept = (expected > 0.0).then(|| cached / expected);
        return (seconds.map(|seconds| (seconds, whole - cached)), kept);
    }
    let Some(seconds) = seconds else {
        return (None, None);
    };
    if expected <= 0.0 {
        return (Some((seconds, whole)), None);
    }
    // The node does not say: whichever is nearer, all of it there or nothing.
    let (hit, miss) = (rates.prefill.at(whole - expected), rates.prefill.at(whole));
    if !known || miss < 1.2 * hit {
        return (known.then_some((seconds, whole - expected)), None);
    }
    let share = ((miss - seconds) / (miss - hit)).clamp(0.0, 1.0);
    let computed = whole - if share >= 0.5 { expected } else { 0.0 };
    (Some((seconds, computed)), Some(share.round()))
}

/// A time that a node may report.
fn sensible(seconds: f64) -> Option<f64> {
    (0.0..=LONGEST).contains(&seconds).then_some(seconds)
}

fn whole(count: f64) -> usize {
    usize::try_from(rounded(count)).unwrap_or(usize::MAX)
}

/// To the nearest whole number that fits.
fn rounded(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a conversion that saturates is what is wanted"
    )]
    let rounded = value.round() as u32;
    rounded
}
