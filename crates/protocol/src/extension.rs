//! Jarvis's own field in requests and responses of both dialects, by which an interrupted answer goes on elsewhere.

use serde::{Deserialize, Serialize};

/// The `jarvis` field of a chat or generate request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestExtension {
    /// The part of the answer that already exists.
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    pub resume: Option<Continue>,
    /// Ask for the token ids in every record, so that a later seam can be exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_tokens: Option<bool>,
}

/// The answer so far: the prompt is rendered with the assistant's turn open, this is appended verbatim, and
/// only new text is streamed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continue {
    /// The text so far.
    #[serde(default)]
    pub text: String,
    /// The same as the exact tokens of the same model (by digest). They win over `text`, and make the seam
    /// invisible: a text is not always cut into tokens the way the model wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<i32>>,
}

/// The `jarvis` field of a response record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseExtension {
    /// The tokens generated since the last record, in order. Text that is withheld for the moment (half a
    /// character, the possible start of a stop string) may come in a later record than its tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<i32>,
    /// In the last record: how many tokens of the prompt came from the cache and were not computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}
