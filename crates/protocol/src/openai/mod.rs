//! The OpenAI API as far as Jarvis serves it. Times are Unix seconds.

mod chat;
mod completions;
mod embeddings;
mod error;
mod models;

pub use chat::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatMessage, ChatRequest, Content,
    ContentPart, Delta, JsonSchema, ResponseFormat,
};
pub use completions::{Completion, CompletionChoice, CompletionRequest, Prompt};
pub use embeddings::{
    Embedding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector,
};
pub use error::{ErrorBody, ErrorEnvelope};
pub use models::{Model, ModelList};

use serde::{Deserialize, Serialize};

/// The `data` of the event that ends a stream.
pub const DONE: &str = "[DONE]";

/// Tokens used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl Usage {
    /// The sum is made here.
    pub fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
        }
    }
}

/// What a stream shall carry besides text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOptions {
    /// A last chunk without choices that carries [`Usage`].
    #[serde(default, deserialize_with = "crate::de::null_default")]
    pub include_usage: bool,
}
