//! What is recorded.

use jarvis_domain::{Generation, GenerationId, Status, Timestamp, UserId};
use std::time::Duration;

/// One moment of a series.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// An answer has ended.
    Answer(AnswerPoint),
    /// A node was looked at.
    Node(NodePoint),
}

/// What an answer cost and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPoint {
    /// When it ended.
    pub at: Timestamp,
    /// Which one.
    pub generation: GenerationId,
    /// Who asked.
    pub user: UserId,
    /// The model.
    pub model: String,
    /// The node that ended it, if known.
    pub node: Option<String>,
    /// How it ended.
    pub status: Status,
    /// Tokens of the prompt; 0 where nobody counted.
    pub prompt_tokens: u64,
    /// Tokens of the answer; 0 where nobody counted.
    pub completion_tokens: u64,
    /// From acceptance to the end.
    pub total: Duration,
    /// From acceptance to the first character, if there was one and it is known.
    pub first_token: Option<Duration>,
}

impl AnswerPoint {
    /// The point of a generation that ended at `at` with `status` and the usage it carries, if it does, at no known node.
    #[must_use]
    pub fn of(
        generation: &Generation,
        status: Status,
        usage: Option<&jarvis_domain::Usage>,
        at: Timestamp,
    ) -> Self {
        let usage = usage.copied();
        Self {
            at,
            generation: generation.id,
            user: generation.user_id,
            model: generation.model.clone(),
            node: None,
            status,
            prompt_tokens: usage.map_or(0, |usage| usage.prompt_tokens),
            completion_tokens: usage.map_or(0, |usage| usage.completion_tokens),
            total: at.since(generation.created_at),
            first_token: usage
                .and_then(|usage| usage.first_token_ms)
                .map(Duration::from_millis),
        }
    }
}

/// How a node looked to one observer.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePoint {
    /// When.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// Who looked: an instance's name.
    pub observer: String,
    /// Whether it answered and may be asked.
    pub up: bool,
    /// Requests it works on for this observer.
    pub active: u32,
    /// Requests that wait for it, with its share of those that wait for any; kept as a whole number.
    pub waiting: f64,
    /// Mean time to the first byte.
    pub response: Duration,
    /// The share of requests that failed, 0 to 1.
    pub error_share: f64,
    /// The health score, 0 to 1.
    pub health: f64,
}

impl From<AnswerPoint> for Point {
    fn from(point: AnswerPoint) -> Self {
        Self::Answer(point)
    }
}

impl From<NodePoint> for Point {
    fn from(point: NodePoint) -> Self {
        Self::Node(point)
    }
}
