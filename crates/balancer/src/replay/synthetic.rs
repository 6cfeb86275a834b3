//! Traces that are made up.

use super::{Header, ModelShape, NodeShape, Request, Trace};
use crate::Priority;
use crate::policy::{Chance, mixed};

/// Bytes of a token.
const TOKEN_BYTES: f64 = 4.0;

/// Conversations of several turns, each turn's prompt being all that was said before and a little more, that begin in
/// bursts. All lengths and times vary; the same settings give the same trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// Chance's seed.
    pub seed: u64,
    /// How long conversations go on beginning, in seconds.
    pub seconds: f64,
    /// How many begin per second, on average.
    pub rate: f64,
    /// How many times more than in the quiet begin in a burst; 1: no bursts.
    pub burst: f64,
    /// Mean seconds of a quiet time, and of a burst.
    pub phase: f64,
    /// Mean turns of a conversation.
    pub turns: f64,
    /// Mean seconds between two of its requests.
    pub pause: f64,
    /// Bytes of the longest of the five system prompts that conversations begin with.
    pub system: f64,
    /// Mean bytes of what a person says.
    pub said: f64,
    /// Mean tokens of an answer.
    pub answer: f64,
    /// Models: name, how heavy, and which share of the conversations they get.
    pub models: Vec<(String, f64, f64)>,
    /// The nodes that are described in the trace.
    pub nodes: Vec<NodeShape>,
}

impl Default for Synthetic {
    /// Two models on four mixed nodes, at about two thirds of what they can do.
    fn default() -> Self {
        let node = |name: &str, speed: f64, memory: u32| NodeShape {
            prefill: 0.0001 * speed,
            decode: 0.012 * speed,
            slope: 0.0015 * speed,
            load: 5.0,
            memory,
            ..NodeShape::named(name)
        };
        Self {
            seed: 1,
            seconds: 1800.0,
            rate: 0.25,
            burst: 4.0,
            phase: 30.0,
            turns: 5.0,
            pause: 20.0,
            system: 6000.0,
            said: 600.0,
            answer: 180.0,
            models: vec![
                ("small".to_owned(), 1.0, 0.7),
                ("large".to_owned(), 2.5, 0.3),
            ],
            nodes: vec![
                node("quick", 1.0, 2),
                node("quick-too", 1.0, 1),
                node("middling", 2.0, 1),
                node("slow", 4.0, 1),
            ],
        }
    }
}

impl Synthetic {
    /// The trace.
    pub fn trace(&self) -> Trace {
        let chance = Chance::new(self.seed);
        let mut requests = Vec::new();
        let (mut at, mut turn, mut bursting) = (0.0, 0.0, false);
        // Quiet and burst take the same time, so this rate in the quiet gives the average that was asked for.
        let quiet = 2.0 * self.rate / (1.0 + self.burst);
        let mut conversation = 0;
        while at < self.seconds && quiet > 0.0 {
            let rate = if bursting { quiet * self.burst } else { quiet };
            let next = at + exponential(&chance, 1.0 / rate);
            if next > turn {
                at = turn;
                turn += exponential(&chance, self.phase.max(1.0));
                bursting = !bursting;
                continue;
            }
            at = next;
            if at < self.seconds {
                conversation += 1;
                self.converse(conversation, at, &chance, &mut requests);
            }
        }
        requests.sort_by(|a, b| a.at.total_cmp(&b.at));
        let shape = |(name, factor, _): &(String, f64, f64)| ModelShape {
            name: name.clone(),
            factor: *factor,
        };
        Trace {
            header: Header {
                nodes: self.nodes.clone(),
                models: self.models.iter().map(shape).collect(),
                ..Header::default()
            },
            requests,
            cut: 0,
        }
    }

    fn converse(&self, number: u64, begin: f64, chance: &Chance, to: &mut Vec<Request>) {
        let model = self.model(chance);
        let system = chance.below(5);
        let share = f64::from(u32::try_from(system + 1).unwrap_or(1)) / 5.0;
        let mut bytes = whole(self.system * share);
        let mut hash = mixed(1 + u64::try_from(system).unwrap_or(0));
        let mut prefix = vec![(hash >> 11, bytes)];
        let mut at = begin;
        let mut step = 0;
        loop {
            step += 1;
            bytes += whole(exponential(chance, self.said)).max(1);
            hash = mixed(hash ^ mixed(number << 20 | step));
            prefix.push((hash >> 11, bytes));
            let tokens = whole(exponential(chance, self.answer)).max(1);
            to.push(Request {
                at: microseconds(at),
                model: model.clone(),
                prompt_bytes: bytes,
                prefix: prefix.clone(),
                tokens,
                max_tokens: None,
                user: number,
                priority: Priority::Normal,
                ttft: None,
                total: None,
                waited: None,
                load: None,
                prefill: None,
                decode: None,
            });
            if chance.unit() * self.turns.max(1.0) < 1.0 {
                return;
            }
            bytes += whole(f64::from(tokens) * TOKEN_BYTES);
            hash = mixed(hash ^ mixed(number));
            prefix.push((hash >> 11, bytes));
            at += exponential(chance, self.pause);
        }
    }

    fn model(&self, chance: &Chance) -> String {
        let all: f64 = self.models.iter().map(|(_, _, share)| share).sum();
        let mut left = chance.unit() * all;
        for (name, _, share) in &self.models {
            left -= share;
            if left < 0.0 {
                return name.clone();
            }
        }
        self.models
            .last()
            .map_or_else(|| "model".to_owned(), |(name, _, _)| name.clone())
    }
}

/// Short enough to be read back exactly.
pub(super) fn microseconds(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

fn exponential(chance: &Chance, mean: f64) -> f64 {
    -mean * (1.0 - chance.unit()).ln()
}

fn whole(value: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a conversion that saturates is what is wanted"
    )]
    let whole = value.min(1e8) as u32;
    whole
}
