//! A simulated node.
//!
//! Prefills are made one after the other, loading the model first where it is needed. Then every request that is served
//! decodes at the same pace, which gets slower with each more of them.

use super::{
    NodeShape,
    cache::{Prompts, Residents},
};
use std::collections::VecDeque;

/// How long a node that is down takes to refuse, in seconds.
const REFUSAL: f64 = 0.002;
/// Bytes of a token, where one has to be made of the other.
pub(super) const TOKEN_BYTES: u32 = 4;

/// A request as a node sees it.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) id: usize,
    pub(super) model: usize,
    /// How heavy the model is.
    pub(super) factor: f64,
    pub(super) prompt_bytes: u32,
    pub(super) prefix: Vec<(u64, u32)>,
    pub(super) tokens: u32,
}

/// What became of a request on a node, with the times the node reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Happened {
    FirstByte {
        id: usize,
        cached: u32,
        loaded: bool,
    },
    Done {
        id: usize,
        times: Times,
    },
    /// Lost, with so many tokens made.
    Failed {
        id: usize,
        tokens: u32,
    },
}

/// In seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Times {
    pub(super) load: f64,
    pub(super) prefill: f64,
    pub(super) decode: f64,
    /// Bytes that came out of the cache.
    pub(super) cached: u32,
}

#[derive(Debug)]
struct Prefilling {
    work: Work,
    ends: f64,
    times: Times,
}

#[derive(Debug)]
struct Decoding {
    work: Work,
    /// The node's progress at which it began and will be done.
    began_progress: f64,
    done_progress: f64,
    began: f64,
    times: Times,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) shape: NodeShape,
    waiting: VecDeque<Work>,
    prefilling: Option<Prefilling>,
    decoding: Vec<Decoding>,
    /// Requests refused, and when they hear of it.
    refused: Vec<(f64, usize)>,
    residents: Residents,
    prompts: Prompts,
    /// How far each request has come that has decoded from the begin, in tokens of a model of factor 1; as of `moved`.
    progress: f64,
    moved: f64,
    down: bool,
}

impl Machine {
    /// `loaded`: the models it holds at the start.
    pub(super) fn new(shape: NodeShape, loaded: Vec<usize>) -> Self {
        let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            residents: Residents::new(size(shape.memory), loaded),
            prompts: Prompts::new(size(shape.cached)),
            shape,
            waiting: VecDeque::new(),
            prefilling: None,
            decoding: Vec::new(),
            refused: Vec::new(),
            progress: 0.0,
            moved: 0.0,
            down: false,
        }
    }

    /// How many requests it has.
    pub(super) fn active(&self) -> usize {
        let prefilling = usize::from(self.prefilling.is_some());
        self.waiting.len() + prefilling + self.decoding.len() + self.refused.len()
    }

    /// How many of them it has not begun.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn holds(&self, model: usize) -> bool {
        self.residents.holds(model)
    }

    /// Takes a request at `now`, up to which it has been advanced.
    pub(super) fn take(&mut self, work: Work, now: f64) {
        if self.down {
            self.refused.push((now + REFUSAL, work.id));
        } else {
            self.waiting.push_back(work);
            self.begin_prefill(now);
        }
    }

    /// When something will happen next.
    pub(super) fn next(&self) -> Option<f64> {
        let ends = self.prefilling.iter().map(|prefilling| prefilling.ends);
        let refusals = self.refused.iter().map(|(at, _)| *at);
        let done = self.next_done().map(|left| self.moved + left * self.pace());
        let turns = self.turns().filter(|at| *at > self.moved);
        let all = ends.chain(refusals).chain(done).chain(turns);
        all.min_by(f64::total_cmp).map(|at| at.max(self.moved))
    }

    /// Lets time pass up to `now`, which is no later than [`Self::next`] says.
    pub(super) fn advance(&mut self, now: f64) -> Vec<Happened> {
        let due = self.next_done().map(|left| self.moved + left * self.pace());
        let due = due.is_some_and(|at| at <= now);
        if !self.decoding.is_empty() {
            self.progress += (now - self.moved).max(0.0) / self.pace();
        }
        self.moved = now;
        let mut happened = Vec::new();
        self.refuse(now, &mut happened);
        if due {
            self.end_decodes(now, &mut happened);
        }
        if let Some(prefilling) = self.prefilling.take_if(|prefilling| prefilling.ends <= now) {
            happened.push(self.begin_decode(prefilling, now));
        }
        let down = self
            .shape
            .down
            .iter()
            .any(|span| span.from <= now && now < span.to);
        if down && !self.down {
            self.lose_everything(&mut happened);
        }
        self.down = down;
        self.begin_prefill(now);
        happened
    }

    fn refuse(&mut self, now: f64, happened: &mut Vec<Happened>) {
        self.refused.retain(|&(at, id)| {
            if at <= now {
                happened.push(Happened::Failed { id, tokens: 0 });
            }
            at > now
        });
    }

    /// The least that any request has to go, in progress.
    fn next_done(&self) -> Option<f64> {
        let ends = self.decoding.iter().map(|decoding| decoding.done_progress);
        let first = ends.min_by(f64::total_cmp)?;
        Some((first - self.progress).max(0.0))
    }

    /// The times at which the description changes.
    fn turns(&self) -> impl Iterator<Item = f64> {
        let down = self.shape.down.iter().flat_map(|span| [span.from, span.to]);
        down.chain(self.shape.slow.iter().flat_map(|slow| [slow.from, slow.to]))
    }

    /// Times as long as described, at `now`.
    fn slowness(&self, now: f64) -> f64 {
        let slow = self.shape.slow.iter();
        slow.filter(|slow| slow.from <= now && now < slow.to)
            .map(|slow| slow.factor)
            .product()
    }

    /// Seconds per token, of a model of factor 1, with what is there now.
    fn pace(&self) -> f64 {
        let there = self.decoding.len() + usize::from(self.prefilling.is_some());
        let others = count(there.saturating_sub(1));
        (self.shape.decode + self.shape.slope * others) * self.slowness(self.moved)
    }

    fn end_decodes(&mut self, now: f64, happened: &mut Vec<Happened>) {
        // What is within a thousandth of a token of its end is there: the rest is rounding.
        let progress = self.progress + 0.001;
        self.decoding.retain(|decoding| {
            let done = decoding.done_progress <= progress;
            if done {
                let times = Times {
                    decode: now - decoding.began,
                    ..decoding.times
                };
                let id = decoding.work.id;
                happened.push(Happened::Done { id, times });
            }
            !done
        });
    }

    fn begin_decode(&mut self, prefilling: Prefilling, now: f64) -> Happened {
        let Prefilling { work, times, .. } = prefilling;
        let (id, cached) = (work.id, times.cached);
        self.decoding.push(Decoding {
            began_progress: self.progress,
            done_progress: self.progress + f64::from(work.tokens.max(1)) * work.factor,
            work,
            began: now,
            times,
        });
        let loaded = times.load > 0.0;
        Happened::FirstByte { id, cached, loaded }
    }

    fn begin_prefill(&mut self, now: f64) {
        if self.prefilling.is_some()
            || self.down
            || count(self.decoding.len()) >= f64::from(self.shape.slots)
        {
            return;
        }
        let Some(work) = self.waiting.front() else {
            return;
        };
        let (model, slowness) = (work.model, self.slowness(now));
        let loaded = self.residents.holds(model);
        let decoding = &self.decoding;
        let busy = |held| decoding.iter().any(|decoding| decoding.work.model == held);
        if !self.residents.make_room(model, busy) {
            return; // until a model that is in use no longer is
        }
        let Some(work) = self.waiting.pop_front() else {
            return;
        };
        let cached = self.prompts.compute(model, &work.prefix);
        let bytes = f64::from(work.prompt_bytes.saturating_sub(cached));
        let load = if loaded { 0.0 } else { self.shape.load };
        let times = Times {
            load: load * work.factor * slowness,
            prefill: bytes * self.shape.prefill * work.factor * slowness,
            decode: 0.0,
            cached,
        };
        self.prefilling = Some(Prefilling {
            ends: now + times.load + times.prefill,
            work,
            times,
        });
    }

    fn lose_everything(&mut self, happened: &mut Vec<Happened>) {
        let progress = self.progress;
        for decoding in self.decoding.drain(..) {
            let made = (progress - decoding.began_progress) / decoding.work.factor;
            let tokens = floor(made).min(decoding.work.tokens.saturating_sub(1));
            let id = decoding.work.id;
            happened.push(Happened::Failed { id, tokens });
        }
        let waiting = self.waiting.drain(..);
        for work in waiting.chain(self.prefilling.take().map(|prefilling| prefilling.work)) {
            let id = work.id;
            happened.push(Happened::Failed { id, tokens: 0 });
        }
        self.residents.clear();
        self.prompts.clear();
    }
}

/// A count as a factor.
pub(super) fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn floor(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a conversion that saturates is what is wanted"
    )]
    let floor = value as u32;
    floor
}
