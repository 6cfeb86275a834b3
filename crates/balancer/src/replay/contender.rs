//! What is compared: our strategies, and two others that are widely used, made after their descriptions.

use super::Options;
use crate::policy::{Chance, Choice, Guess, Job, Outcome, Policy, Strategy, UnknownStrategy, View};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
    time::Duration,
};

/// Who chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// One of ours.
    Ours(Strategy),
    /// Of two nodes drawn at random, the one with fewer requests; it queues there.
    PowerOfTwo,
    /// The node that was given the longest common prefix, if that is more than 0.3 of the prompt, else the one that was
    /// given least; when the busiest has over 64 requests more than the idlest and over 1.5 times as many, the idlest.
    /// It queues there. So the routers of SGLang and vLLM describe their default.
    CacheAware,
}

/// Nobody is called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; to compare with, also power_of_two and cache_aware")]
pub struct UnknownContender(#[from] UnknownStrategy);

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours(strategy) => strategy.name(),
            Self::PowerOfTwo => "power_of_two",
            Self::CacheAware => "cache_aware",
        })
    }
}

impl FromStr for Contender {
    type Err = UnknownContender;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "power_of_two" => Ok(Self::PowerOfTwo),
            "cache_aware" => Ok(Self::CacheAware),
            name => Ok(Self::Ours(name.parse()?)),
        }
    }
}

/// A contender at work.
#[derive(Debug)]
pub(super) enum Chooser {
    Ours(Box<Policy>),
    PowerOfTwo(Chance),
    CacheAware(Records),
}

impl Chooser {
    pub(super) fn new(contender: Contender, options: &Options) -> Self {
        let seed = options.seed;
        match contender {
            Contender::Ours(strategy) => {
                let policy = Policy::new(strategy, seed).believing(options.starting.clone());
                Self::Ours(Box::new(policy))
            }
            Contender::PowerOfTwo => Self::PowerOfTwo(Chance::new(seed)),
            Contender::CacheAware => Self::CacheAware(Records::default()),
        }
    }

    /// It never takes a node without a free slot: what finds none waits in the common queue.
    pub(super) fn queues(&self) -> bool {
        matches!(self, Self::Ours(_))
    }

    pub(super) fn choose(&self, job: &Job<'_>, views: &[View], now: Duration) -> Option<Choice> {
        match self {
            Self::Ours(policy) => policy.choose(job, views, now),
            Self::PowerOfTwo(chance) => power_of_two(views, chance).map(Choice::Take),
            Self::CacheAware(records) => records.choose(job, views).map(Choice::Take),
        }
    }

    pub(super) fn started(&mut self, job: &Job<'_>, view: &View, now: Duration) -> Option<Guess> {
        match self {
            Self::Ours(policy) => return Some(policy.started(job, view, now)),
            Self::PowerOfTwo(_) => {}
            Self::CacheAware(records) => records.add(job, view.node),
        }
        None
    }

    pub(super) fn first_byte(&self, guess: Option<&Guess>, now: Duration) {
        if let (Self::Ours(policy), Some(guess)) = (self, guess) {
            policy.first_byte(guess, now);
        }
    }

    pub(super) fn finished(&self, guess: Option<Guess>, outcome: Outcome, now: Duration) {
        if let (Self::Ours(policy), Some(guess)) = (self, guess) {
            policy.finished(guess, outcome, now);
        }
    }
}

fn power_of_two(views: &[View], chance: &Chance) -> Option<usize> {
    let first = chance.below(views.len());
    let step = 1 + chance.below(views.len().saturating_sub(1));
    let second = (first + step).checked_rem(views.len())?;
    let active = |index: usize| views.get(index).map_or(u32::MAX, |view| view.active);
    Some(if active(second) < active(first) {
        second
    } else {
        first
    })
}

/// What each node was given.
#[derive(Debug, Default)]
pub(super) struct Records {
    nodes: HashMap<u64, Record>,
}

#[derive(Debug, Default)]
struct Record {
    links: HashSet<u64>,
    bytes: u64,
}

impl Records {
    fn choose(&self, job: &Job<'_>, views: &[View]) -> Option<usize> {
        let active = || views.iter().map(|view| view.active);
        let (least, most) = (active().min()?, active().max()?);
        if most - least > 64 && f64::from(most) > 1.5 * f64::from(least) {
            return views.iter().position(|view| view.active == least);
        }
        let matched = |view: &View| self.matched(job, view.node);
        let best = (0..views.len()).max_by_key(|&index| views.get(index).map(matched))?;
        let share = views.get(best).map_or(0, matched);
        if f64::from(share) > 0.3 * f64::from(job.prompt_bytes) {
            return Some(best);
        }
        let held = |view: &View| self.nodes.get(&view.node).map_or(0, |record| record.bytes);
        (0..views.len()).min_by_key(|&index| views.get(index).map(held))
    }

    fn matched(&self, job: &Job<'_>, node: u64) -> u32 {
        let Some(record) = self.nodes.get(&node) else {
            return 0;
        };
        let mut links = job.prefix.iter().rev();
        links
            .find(|link| record.links.contains(&link.hash))
            .map_or(0, |link| link.bytes)
    }

    fn add(&mut self, job: &Job<'_>, node: u64) {
        let matched = self.matched(job, node);
        let record = self.nodes.entry(node).or_default();
        record.bytes += u64::from(job.prompt_bytes.saturating_sub(matched));
        record.links.extend(job.prefix.iter().map(|link| link.hash));
    }
}
