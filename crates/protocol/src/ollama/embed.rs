use serde::{Deserialize, Serialize};

use super::{KeepAlive, Options};
use crate::de::null_default;

/// One text or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum EmbedInput {
    /// One text.
    One(String),
    /// Several, answered in the same order.
    Many(Vec<String>),
}

impl Default for EmbedInput {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl EmbedInput {
    /// The texts in order.
    pub fn into_texts(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// `POST /api/embed`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbedRequest {
    /// Name of the model, `:latest` implied.
    #[serde(default, deserialize_with = "null_default")]
    pub model: String,
    /// The texts. None: only load the model.
    #[serde(default, deserialize_with = "null_default")]
    pub input: EmbedInput,
    /// Cut what is longer than the model's window; absent means `true`, `false` makes it an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncate: Option<bool>,
    /// Return only the first so many dimensions, normalised again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<usize>,
    /// How long the model stays loaded afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// Taken for compatibility.
    #[serde(
        default,
        skip_serializing_if = "Options::is_default",
        deserialize_with = "null_default"
    )]
    pub options: Options,
}

/// The answer to [`EmbedRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbedResponse {
    /// The model, as the request named it.
    pub model: String,
    /// One vector of length 1 for each text.
    pub embeddings: Vec<Vec<f32>>,
    /// Nanoseconds in all.
    #[serde(default)]
    pub total_duration: u64,
    /// Nanoseconds of waiting for the model.
    #[serde(default)]
    pub load_duration: u64,
    /// Tokens of all texts.
    #[serde(default)]
    pub prompt_eval_count: u64,
}

/// `POST /api/embeddings`, the older form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingsRequest {
    /// Name of the model, `:latest` implied.
    #[serde(default, deserialize_with = "null_default")]
    pub model: String,
    /// The text.
    #[serde(default, deserialize_with = "null_default")]
    pub prompt: String,
    /// How long the model stays loaded afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
    /// Taken for compatibility.
    #[serde(
        default,
        skip_serializing_if = "Options::is_default",
        deserialize_with = "null_default"
    )]
    pub options: Options,
}

/// The answer to [`EmbeddingsRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingsResponse {
    /// The vector.
    pub embedding: Vec<f64>,
}
