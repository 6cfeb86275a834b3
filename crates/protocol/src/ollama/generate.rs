use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DoneReason, Format, KeepAlive, Metrics, Options, format};
use crate::de::null_default;
use crate::{RequestExtension, ResponseExtension};

/// `POST /api/generate`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    /// Name of the model, `:latest` implied.
    #[serde(default, deserialize_with = "null_default")]
    pub model: String,
    /// The question. Empty: only load the model.
    #[serde(default, deserialize_with = "null_default")]
    pub prompt: String,
    /// Text after the gap, for models that fill in the middle.
    #[serde(
        default,
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_default"
    )]
    pub suffix: String,
    /// Replaces the model's own system message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Replaces the model's own template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Tokens returned by an earlier call, to go on from.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub context: Vec<i32>,
    /// Absent means `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// The prompt is used as it is, without a template.
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "null_default"
    )]
    pub raw: bool,
    /// Constrains the answer.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "format::optional"
    )]
    pub format: Option<Format>,
    /// Images, base64.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub images: Vec<String>,
    /// Sampling and context.
    #[serde(
        default,
        skip_serializing_if = "Options::is_default",
        deserialize_with = "null_default"
    )]
    pub options: Options,
    /// How long the model stays loaded afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// Whether (or how hard) the model shall think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Value>,
    /// Jarvis's own extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jarvis: Option<RequestExtension>,
    /// Fields Jarvis does not read itself.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One record of the answer to [`GenerateRequest`]; the only one when `stream` is `false`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateResponse {
    /// The model, as the request named it.
    pub model: String,
    /// When this record was made.
    pub created_at: String,
    /// The new text.
    #[serde(default)]
    pub response: String,
    /// The model's reasoning, where it is reported apart from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Whether this is the last record.
    #[serde(default)]
    pub done: bool,
    /// Why, in the last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<DoneReason>,
    /// Prompt and answer as tokens, in the last record; to be sent back as `context`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub context: Vec<i32>,
    /// Figures, in the last record.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Jarvis's own extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jarvis: Option<ResponseExtension>,
}
