use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;
use tokio::sync::mpsc::UnboundedSender;

use super::shared::Shared;
use crate::{error::EngineError, grammar::Grammar, sampling::SamplingParams};

/// One answer to generate.
pub(crate) struct Job {
    /// What the model is given; not empty and shorter than `window`.
    pub prompt: Vec<LlamaToken>,
    /// How many tokens at the prompt's end are already the answer (a continuation).
    pub answered: usize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Rules the answer keeps to.
    pub grammar: Option<Grammar>,
    /// Strings that end the answer.
    pub stops: Vec<String>,
    /// Most new tokens.
    pub max_tokens: usize,
    /// Most tokens of prompt and answer together.
    pub window: usize,
    /// Whether text events carry their token ids.
    pub report_tokens: bool,
    /// Where the answer goes. When its receiver is gone the slot is freed before the next step.
    /// It has no bound of its own: an answer has at most `window` tokens.
    pub events: UnboundedSender<Event>,
    /// Counts the job as long as it exists.
    #[expect(dead_code, reason = "held for its drop")]
    pub ticket: Ticket,
}

/// What comes back, in order: any number of `Text`, then one of the others.
#[derive(Debug)]
pub(crate) enum Event {
    /// New text, never half a character. With `report_tokens`, the tokens since the last event.
    Text {
        /// The text; not empty unless it carries tokens that have none.
        text: String,
        /// Their ids, if asked for.
        tokens: Vec<i32>,
    },
    /// The answer is complete.
    Done(Outcome),
    /// The answer cannot go on.
    Failed(EngineError),
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// End of turn or a stop string.
    Stop,
    /// Token limit or window.
    Length,
}

/// The figures of a complete answer. Durations in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub finish: Finish,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub prompt_nanos: u64,
    pub eval_tokens: u64,
    pub eval_nanos: u64,
    /// Tokens that came with no text after the last text event.
    pub tokens: Vec<i32>,
    /// Prompt and answer.
    pub context: Vec<i32>,
}

impl Outcome {
    /// Of an answer that has no room left.
    pub(crate) fn full(prompt: &[LlamaToken]) -> Self {
        Self {
            finish: Finish::Length,
            prompt_tokens: prompt.len() as u64,
            cached_tokens: 0,
            prompt_nanos: 0,
            eval_tokens: 0,
            eval_nanos: 0,
            tokens: Vec::new(),
            context: prompt.iter().map(|token| token.0).collect(),
        }
    }
}

/// A place in a model's queue, given back on drop.
pub(crate) struct Ticket(pub(super) Arc<Shared>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
