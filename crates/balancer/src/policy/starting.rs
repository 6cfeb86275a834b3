//! What is believed before anything has been seen: built in, or learnt from the requests of a trace.

use super::{
    Job,
    mind::MOST_MODELS,
    pace::{Measured, Pace, Rates},
    prefix::PrefixMemory,
    speed::Mean,
};
use std::{collections::HashMap, time::Duration};

/// An answer's tokens before any was seen.
const TYPICAL_TOKENS: f64 = 200.0;

/// What a request takes wherever nothing better is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usual {
    pub(super) rates: Rates,
    /// Tokens of an answer.
    pub(super) tokens: f64,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            rates: Rates::BUILT_IN,
            tokens: TYPICAL_TOKENS,
        }
    }
}

/// A model wherever it runs, as learnt.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) pace: Pace,
    tokens: Mean,
}

impl Facts {
    /// What is known now; where that is little, nearly `prior`.
    pub(super) fn usual(&self, prior: &Usual, now: Duration) -> Usual {
        Usual {
            rates: self.pace.rates(&prior.rates, now),
            tokens: self.tokens.value(prior.tokens, now),
        }
    }

    /// `usual` is this as of now.
    pub(super) fn learn(
        &mut self,
        measured: &Measured,
        tokens: Option<u32>,
        max_tokens: Option<u32>,
        usual: &Usual,
        now: Duration,
    ) {
        self.pace.learn(measured, &usual.rates, now);
        let Some(tokens) = tokens else { return };
        // An answer that was cut at the limit might have been longer.
        let cut = max_tokens.is_some_and(|most| tokens >= most);
        let tokens = f64::from(tokens);
        let tokens = if cut {
            tokens.max(usual.tokens)
        } else {
            tokens
        };
        self.tokens.learn(tokens, now);
    }
}

/// What `adaptive` believes of models before it has seen them answer, and comes back to when that was long ago.
#[derive(Debug, Clone, Default)]
pub struct Starting {
    models: HashMap<Box<str>, Usual>,
    /// Of those not named.
    others: Usual,
}

impl Starting {
    pub(super) fn of(&self, model: &str) -> &Usual {
        self.models.get(model).unwrap_or(&self.others)
    }
}

/// A request of the past, and the seconds that its parts took as far as they are known.
#[derive(Debug)]
pub(crate) struct Lesson<'a> {
    pub(crate) job: Job<'a>,
    /// Of the answer.
    pub(crate) tokens: u32,
    /// To the first byte, from when a node was asked.
    pub(crate) ttft: Option<f64>,
    /// To the end, likewise.
    pub(crate) total: Option<f64>,
    pub(crate) load: Option<f64>,
    pub(crate) prefill: Option<f64>,
    pub(crate) decode: Option<f64>,
}

/// Starting values in the making. Which node answered, and what else it was at, is not known: so this finds levels, and the
/// shapes stay as they are built in.
#[derive(Debug, Default)]
pub(crate) struct Training {
    models: HashMap<Box<str>, Facts>,
    all: Facts,
    prefixes: PrefixMemory,
}

impl Training {
    /// However long ago a lesson was: it counts no less for that.
    const NOW: Duration = Duration::ZERO;

    pub(crate) fn learn(&mut self, lesson: &Lesson<'_>) {
        let job = &lesson.job;
        let cached = self.prefixes.find(job, Self::NOW);
        self.prefixes.remember(job);
        let load = lesson.load.unwrap_or(0.0);
        let prefill = lesson.prefill.or_else(|| Some(lesson.ttft? - load));
        let decode = lesson
            .decode
            .or_else(|| Some(lesson.total? - lesson.ttft?))
            .map(|seconds| seconds / f64::from(lesson.tokens.max(1)));
        let measured = Measured {
            start: None,
            prefill: prefill.map(|seconds| {
                let computed = f64::from(job.prompt_bytes) - cached.expected();
                (seconds.max(0.0), computed.max(0.0))
            }),
            decode: decode
                .filter(|_| lesson.tokens > 0)
                .map(|seconds| (seconds, 0.0)),
            load: lesson.load,
        };
        let note = |facts: &mut Facts| {
            let usual = facts.usual(&Usual::default(), Self::NOW);
            let tokens = Some(lesson.tokens);
            facts.learn(&measured, tokens, job.max_tokens, &usual, Self::NOW);
        };
        note(&mut self.all);
        if let Some(facts) = self.models.get_mut(job.model) {
            note(facts);
        } else if self.models.len() < MOST_MODELS {
            note(self.models.entry(job.model.into()).or_default());
        }
    }

    pub(crate) fn values(&self) -> Starting {
        let usual = |facts: &Facts| facts.usual(&Usual::default(), Self::NOW);
        let models = self.models.iter();
        Starting {
            models: models
                .map(|(name, facts)| (name.clone(), usual(facts)))
                .collect(),
            others: usual(&self.all),
        }
    }
}
