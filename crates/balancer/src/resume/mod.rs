//! Going on with an answer whose node was lost, on another node, without a character lost or repeated.
//!
//! Everything here is pure: bytes in, bytes out. Who forwards an answer pushes what the node sends through a [`Transcript`]
//! and hands on what that releases: whole records only, so that a client never holds half of one. When the node is lost,
//! [`Origin::continuation`] says what to ask of another node that has the same weights, and a [`Splice`] writes the records
//! of that node in the form of the first stream; its output goes through the same transcript, so that the next loss is like
//! the first. Where going on would be wrong, [`Why`] says so and [`failure`] is the record that ends the stream.
//!
//! Thoughts that are over are written back between the tags that the rendered prompt opens; thoughts in progress are not
//! continued.
//!
//! Stop strings hold across the seam: a node keeps back text that may be the beginning of one (Ollama and Jarvis's engine do),
//! so what was sent never ends inside one, and the next node makes the whole of it again.

mod broken;
mod edit;
mod frame;
mod hidden;
mod record;
mod request;
mod splice;
mod text;
mod transcript;
mod translate;
mod unread;
mod way;
mod why;

pub(crate) use broken::{Broken, Cause, Limits};
pub(crate) use request::{Ask, Origin, Step, telling_tokens};
pub(crate) use splice::{Spent, Splice};
pub(crate) use transcript::{End, Transcript};
pub use way::Way;
pub(crate) use way::{Discovery, Next, Ways};
pub(crate) use why::Why;

use bytes::Bytes;
use jarvis_protocol::{ndjson, ollama::ErrorBody, openai::ErrorEnvelope, sse::Event};

/// The four endpoints that stream text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    /// `POST /api/chat`.
    OllamaChat,
    /// `POST /api/generate`.
    OllamaGenerate,
    /// `POST /v1/chat/completions`.
    OpenAiChat,
    /// `POST /v1/completions`.
    OpenAiCompletions,
}

impl Dialect {
    /// The dialect of a path, if answers of it can be followed.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        Some(match path {
            "/api/chat" => Self::OllamaChat,
            "/api/generate" => Self::OllamaGenerate,
            "/v1/chat/completions" => Self::OpenAiChat,
            "/v1/completions" => Self::OpenAiCompletions,
            _ => return None,
        })
    }

    /// Its path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
            Self::OpenAiChat => "/v1/chat/completions",
            Self::OpenAiCompletions => "/v1/completions",
        }
    }

    /// Whether it is one of Ollama's own.
    pub(crate) fn is_ollama(self) -> bool {
        matches!(self, Self::OllamaChat | Self::OllamaGenerate)
    }
}

/// The record that ends a stream that cannot go on. No `done` and no `[DONE]` follows it: the answer is not complete.
pub(crate) fn failure(dialect: Dialect, message: &str) -> Bytes {
    if dialect.is_ollama() {
        let error = message.to_owned();
        return ndjson::encode(&ErrorBody { error }).unwrap_or_default();
    }
    openai_failure(502, message)
}

/// The same in OpenAI's dialect, for any status.
pub(crate) fn openai_failure(status: u16, message: &str) -> Bytes {
    let envelope = ErrorEnvelope::for_status(status, message);
    Event::data(serde_json::to_string(&envelope).unwrap_or_default()).encode()
}

#[cfg(test)]
mod tests;
