//! Which node a request goes to.
//!
//! A [`Policy`] is pure: it is told the time, what is asked ([`Job`]) and how the nodes stand ([`View`]), and names one of
//! them. It never waits, opens nothing and reads no clock, so the simulation in `replay` runs the very same functions as
//! production. Whatever the strategy, it also learns from what happened, so that switching to `adaptive` starts informed.
//!
//! What holds for every strategy:
//! - a node without a free slot is never taken, and a node of weight 0 never chosen;
//! - errors count against a node (see [`View::reliability`]): one that fails at once looks bad, not idle;
//! - equals are taken at random or in turn, so that simultaneous requests do not herd.

mod adaptive;
mod chance;
mod least_connections;
mod mind;
mod pace;
mod prefix;
mod queue_length;
mod round_robin;
mod running;
mod speed;
mod starting;
mod strategy;
#[cfg(test)]
mod tests;
mod weighted_response_time;

pub(crate) use chance::{Chance, mixed};
pub use starting::Starting;
pub(crate) use starting::{Lesson, Training};
pub use strategy::{Strategy, UnknownStrategy};

use mind::Mind;
use round_robin::RoundRobin;
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

/// However often a node fails, it is not held more than 1 / this times worse than its times say.
const LEAST_RELIABILITY: f64 = 0.02;

/// What a failure costs whoever asked, in seconds: a retry, and the budget for it.
const FAILURE: f64 = 1.0;

/// How a node stands at the moment of choosing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Names the node for as long as it exists; never given to another.
    pub(crate) node: u64,
    /// How much of the load it should get, relative to the others; 0: none.
    pub(crate) weight: u32,
    /// How many requests it serves at once; `None`: not known, it keeps its own queue.
    pub(crate) slots: Option<u32>,
    /// How many requests it serves now, the one to be placed not counted.
    pub(crate) active: u32,
    /// How many wait ahead of the one to be placed: for this node in particular, plus its share of the common queue.
    pub(crate) queued: f64,
    /// Mean time to first byte of its successes in the last 60 s, in seconds; `None`: there were none.
    pub(crate) response_time: Option<f64>,
    /// Failures among its answers of the last 60 s, 0 to 1.
    pub(crate) error_rate: f64,
    /// The model that is asked for is in its memory.
    pub(crate) loaded: bool,
}

impl View {
    /// It has a slot to give.
    fn free(&self) -> bool {
        self.weight > 0 && self.slots.is_none_or(|slots| self.active < slots)
    }

    /// The share of requests it can be expected to answer.
    fn reliability(&self) -> f64 {
        if self.error_rate.is_nan() {
            return 1.0;
        }
        (1.0 - self.error_rate).clamp(LEAST_RELIABILITY, 1.0)
    }

    /// Seconds to an answer from a node that takes `seconds` when it answers, if what fails is asked again. However
    /// quick a failure is, it costs.
    fn with_failures(&self, seconds: f64) -> f64 {
        let reliability = self.reliability();
        (seconds + (1.0 - reliability) * FAILURE) / reliability
    }
}

/// One step of a prompt's hash chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Hash of everything up to here.
    pub(crate) hash: u64,
    /// How many bytes of the prompt that is.
    pub(crate) bytes: u32,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    /// The model's name.
    pub(crate) model: &'a str,
    /// The whole prompt, in bytes.
    pub(crate) prompt_bytes: u32,
    /// Its hash chain over messages, shortest prefix first.
    pub(crate) prefix: &'a [Link],
    /// The longest answer that is wanted, in tokens.
    pub(crate) max_tokens: Option<u32>,
}

/// Where a request should go; the number is an index into the views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This node has a free slot: take it.
    Take(usize),
    /// This node has none, and is still expected to be done earlier than any that has. Only `adaptive` says so, and only
    /// while another node could be taken.
    WaitFor(usize),
}

/// What was expected of a request when it was given to a node. Give it back with [`Policy::finished`], however the request ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Guess {
    id: u64,
    node: u64,
    /// Seconds to the first byte.
    pub(crate) ttft: f64,
    /// Seconds to the end.
    pub(crate) total: f64,
    /// How much of the prompt the node probably had in its cache.
    pub(crate) cached_bytes: u32,
}

/// What became of a request. What is not known is `None` and teaches nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcome {
    /// It was answered. Of a failure nothing is learnt about speed. A client that left before the end is no failure of
    /// the node: `ok` with every count `None`.
    pub(crate) ok: bool,
    /// Tokens of the answer.
    pub(crate) tokens: Option<u32>,
    /// Tokens of the prompt.
    pub(crate) prompt_tokens: Option<u32>,
    /// Those of them that came out of the node's cache.
    pub(crate) prompt_cached: Option<u32>,
    /// Seconds the model took to load (Ollama's `load_duration`).
    pub(crate) load_seconds: Option<f64>,
    /// Seconds the prompt took (Ollama's `prompt_eval_duration`).
    pub(crate) prompt_seconds: Option<f64>,
    /// Seconds the answer's tokens took (Ollama's `eval_duration`).
    pub(crate) decode_seconds: Option<f64>,
}

/// Chooses nodes by a strategy that can be changed at any time.
#[derive(Debug)]
pub(crate) struct Policy {
    strategy: AtomicU8,
    chance: Chance,
    turns: Mutex<RoundRobin>,
    mind: Mutex<Mind>,
}

impl Policy {
    /// Chance comes from `seed` alone.
    pub(crate) fn new(strategy: Strategy, seed: u64) -> Self {
        Self {
            strategy: AtomicU8::new(strategy.number()),
            chance: Chance::new(seed),
            turns: Mutex::default(),
            mind: Mutex::default(),
        }
    }

    /// With these beliefs instead of those that are built in.
    pub(crate) fn believing(self, starting: Starting) -> Self {
        Self {
            mind: Mutex::new(Mind::new(starting)),
            ..self
        }
    }

    /// What it goes by now.
    pub(crate) fn strategy(&self) -> Strategy {
        Strategy::numbered(self.strategy.load(Ordering::Relaxed))
    }

    /// Goes by `strategy` from now on. What was learnt is kept.
    pub(crate) fn switch(&self, strategy: Strategy) {
        self.strategy.store(strategy.number(), Ordering::Relaxed);
    }

    /// The node for `job`, or `None` if none has a free slot. `views` are the nodes that have the model and may be asked;
    /// those without a free slot belong in it too. `now` is the time since the start.
    pub(crate) fn choose(&self, job: &Job<'_>, views: &[View], now: Duration) -> Option<Choice> {
        let taken = match self.strategy() {
            Strategy::RoundRobin => lock(&self.turns).choose(views),
            Strategy::LeastConnections => least_connections::choose(views, &self.chance),
            Strategy::WeightedResponseTime => weighted_response_time::choose(views, &self.chance),
            Strategy::QueueLength => queue_length::choose(views, &self.chance),
            Strategy::Adaptive => {
                return adaptive::choose(&lock(&self.mind), job, views, now, &self.chance);
            }
        };
        taken.map(Choice::Take)
    }

    /// `job` was given to the node of `view`, as it stood when it was chosen. The work counts from this moment.
    pub(crate) fn started(&self, job: &Job<'_>, view: &View, now: Duration) -> Guess {
        lock(&self.mind).started(job, view, now)
    }

    /// Its first byte has come.
    pub(crate) fn first_byte(&self, guess: &Guess, now: Duration) {
        lock(&self.mind).first_byte(guess, now);
    }

    /// It has ended.
    #[expect(clippy::needless_pass_by_value, reason = "a request ends once")]
    pub(crate) fn finished(&self, guess: Guess, outcome: Outcome, now: Duration) {
        lock(&self.mind).finished(&guess, &outcome, now);
    }

    /// Drops everything known of a node that was removed.
    pub(crate) fn forget(&self, node: u64) {
        lock(&self.turns).forget(node);
        lock(&self.mind).forget(node);
    }
}

/// A poisoned lock only means that a test panicked elsewhere: what is learnt is never half written in a harmful way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The free node of least cost; among those at most `slack` (a share) dearer, one at random.
fn cheapest(
    views: &[View],
    chance: &Chance,
    slack: f64,
    cost: impl Fn(&View) -> f64,
) -> Option<usize> {
    let costs = || {
        let free = views.iter().enumerate().filter(|(_, view)| view.free());
        free.map(|(index, view)| (index, cost(view)))
    };
    let least = costs().map(|(_, cost)| cost).min_by(f64::total_cmp)?;
    let near = || costs().filter(|(_, cost)| *cost <= least * (1.0 + slack));
    near()
        .nth(chance.below(near().count()))
        .map(|(index, _)| index)
}

/// A count as a factor.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
