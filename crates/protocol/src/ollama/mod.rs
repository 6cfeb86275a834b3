//! The Ollama API. Field names, defaults and leniency follow `api/types.go` of Ollama; times are RFC 3339
//! strings, durations nanoseconds, sizes bytes.

mod chat;
mod embed;
mod format;
mod generate;
mod keep_alive;
mod models;
mod options;

pub use chat::{ChatRequest, ChatResponse, Message, Role};
pub use embed::{EmbedInput, EmbedRequest, EmbedResponse, EmbeddingsRequest, EmbeddingsResponse};
pub use format::Format;
pub use generate::{GenerateRequest, GenerateResponse};
pub use keep_alive::KeepAlive;
pub use models::{
    CopyRequest, CreateProgress, CreateRequest, DeleteRequest, ModelDetails, ModelExtension,
    ModelInfo, PsResponse, RunningModel, ShowRequest, ShowResponse, TagsResponse, VersionResponse,
};
pub use options::Options;

use serde::{Deserialize, Serialize};

/// The text Ollama answers a full queue with, status 503.
pub const SERVER_BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

/// Every error of the dialect, also as a line in the middle of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, for people.
    pub error: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoneReason {
    /// The model ended its turn, or a stop string was met.
    Stop,
    /// `num_predict` or the context window is used up.
    Length,
    /// Nothing was asked: the model was only loaded.
    Load,
    /// Nothing was asked, with `keep_alive` 0: the model was unloaded.
    Unload,
    /// A reason this version does not know.
    #[serde(other)]
    Other,
}

/// The figures of the last record of a stream. Durations in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// From the request's arrival to its end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub total_duration: u64,
    /// Waiting for the model to be in memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub load_duration: u64,
    /// Tokens of the prompt, those taken from the cache included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prompt_eval_count: u64,
    /// Computing what was not in the cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prompt_eval_duration: u64,
    /// Tokens of the answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub eval_count: u64,
    /// Generating the answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub eval_duration: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it by reference"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
