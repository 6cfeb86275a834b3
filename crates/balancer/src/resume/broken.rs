//! How a node's stream can break.

use super::text::Malformed;
use bytes::Bytes;
use jarvis_protocol::ollama::ErrorBody;
use serde::Deserialize;

/// How much is kept of one answer, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The longest record. A longer one breaks the stream.
    pub(crate) record: usize,
    /// The longest text that can be continued. A longer one is relayed on, but no more kept.
    pub(crate) text: usize,
    /// What is forwarded before it is read. 0: everything is read at once.
    pub(crate) unread: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record: 4 << 20,
            text: 1 << 20,
            unread: 0,
        }
    }
}

/// The node's stream cannot be followed any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Whole records that came before: they belong to the transcript already and must be forwarded first.
    pub(crate) before: Bytes,
    /// What happened.
    pub(crate) cause: Cause,
}

/// Why a stream broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cause {
    /// A record grew over the limit.
    #[error("a record is longer than the limit")]
    TooLong,
    /// A record is not what the dialect allows.
    #[error("a record is malformed")]
    Malformed,
    /// The node ended the answer with an error of its own.
    #[error("the node gave up: {0}")]
    Failed(String),
    /// The stream ended before the answer did.
    #[error("the stream was cut off")]
    Cut,
}

impl From<Malformed> for Cause {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// The words of an error record, whichever its shape.
pub(super) fn message(json: &str) -> String {
    #[derive(Deserialize)]
    struct Loose {
        error: Words,
    }
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    if let Ok(body) = serde_json::from_str::<ErrorBody>(json) {
        return body.error;
    }
    serde_json::from_str::<Loose>(json).map_or_else(
        |_| "no reason given".to_owned(),
        |loose| loose.error.message,
    )
}
