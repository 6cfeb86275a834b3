use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DoneReason, Format, KeepAlive, Metrics, Options, format};
use crate::{RequestExtension, ResponseExtension, de::null_default};

/// Who speaks. Ollama takes any string; the known ones have names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "snake_case",
    expecting = "expected a role, for example \"user\""
)]
pub enum Role {
    /// The rules of the conversation.
    System,
    /// The person.
    #[default]
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
    /// Any other role; the model's template decides what it means.
    #[serde(untagged)]
    Other(String),
}

impl Role {
    /// The role as the wire and the templates write it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Other(role) => role,
        }
    }
}

/// One turn of a conversation. What Jarvis does not read itself (`tool_calls`, `images`) passes through.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text.
    #[serde(default, deserialize_with = "null_default")]
    pub content: String,
    /// The model's reasoning, where it is reported apart from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Images, base64.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub images: Vec<String>,
    /// Calls the model asks for.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub tool_calls: Vec<Value>,
    /// Which tool a `tool` message answers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<String>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of text alone.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            ..Self::default()
        }
    }
}

/// `POST /api/chat`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRequest {
    /// Name of the model, `:latest` implied.
    #[serde(default, deserialize_with = "null_default")]
    pub model: String,
    /// The conversation, oldest first. Empty: only load the model. A trailing assistant message is continued.
    #[serde(default, deserialize_with = "null_default")]
    pub messages: Vec<Message>,
    /// Absent means `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Constrains the answer.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "format::optional"
    )]
    pub format: Option<Format>,
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
    /// Tools the model may call; handed to the template as they are.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub tools: Vec<Value>,
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

/// One record of the answer to [`ChatRequest`]; the only one when `stream` is `false`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatResponse {
    /// The model, as the request named it.
    pub model: String,
    /// When this record was made.
    pub created_at: String,
    /// The new text.
    pub message: Message,
    /// Whether this is the last record.
    #[serde(default)]
    pub done: bool,
    /// Why, in the last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_reason: Option<DoneReason>,
    /// Figures, in the last record.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Jarvis's own extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jarvis: Option<ResponseExtension>,
}
