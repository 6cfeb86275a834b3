use serde::{Deserialize, Serialize};

/// Every error of the dialect, also as an event in the middle of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    /// The error.
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For people.
    pub message: String,
    /// `invalid_request_error`, `not_found_error`, `api_error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Which field.
    pub param: Option<String>,
    /// For programs.
    pub code: Option<String>,
}

impl ErrorEnvelope {
    /// The envelope for an HTTP status, with the kind that Ollama's own OpenAI endpoints use for it.
    pub fn for_status(status: u16, message: impl Into<String>) -> Self {
        let kind = match status {
            400..=403 | 405..=428 | 430..=499 => "invalid_request_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            _ => "api_error",
        };
        Self {
            error: ErrorBody {
                message: message.into(),
                kind: kind.to_owned(),
                param: None,
                code: None,
            },
        }
    }
}
