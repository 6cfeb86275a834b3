use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{StreamOptions, Usage};
use crate::{
    RequestExtension, ResponseExtension,
    de::{null_default, one_or_many},
};

/// The prompt: one text, or a list of which Jarvis takes exactly one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum Prompt {
    /// One text.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::One(String::new())
    }
}

/// `POST /v1/completions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CompletionRequest {
    /// Name of the model.
    #[serde(default, deserialize_with = "null_default")]
    pub model: String,
    /// The text to go on from.
    #[serde(default, deserialize_with = "null_default")]
    pub prompt: Prompt,
    /// Absent means `false`.
    #[serde(default, deserialize_with = "null_default")]
    pub stream: bool,
    /// What the stream carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Most tokens to generate; absent means 16, as with OpenAI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Randomness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Seed of the sampler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Strings that end the answer.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    pub stop: Vec<String>,
    /// Penalty by how often a token is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Penalty for tokens already present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Return the prompt before the answer.
    #[serde(default, deserialize_with = "null_default")]
    pub echo: bool,
    /// How many answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Jarvis's own wishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jarvis: Option<RequestExtension>,
    /// Fields Jarvis does not read itself.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The whole answer, or one event of a stream (the shape is the same).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// `cmpl-…`.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// When, Unix seconds.
    pub created: i64,
    /// The model, as the request named it.
    pub model: String,
    /// Digest of what answered.
    pub system_fingerprint: String,
    /// The answers; none in the chunk that carries `usage` alone.
    pub choices: Vec<CompletionChoice>,
    /// Tokens used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What Jarvis adds, if it was asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jarvis: Option<ResponseExtension>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// Which.
    pub index: u32,
    /// The text, or what is new of it.
    pub text: String,
    /// `stop` or `length`.
    pub finish_reason: Option<String>,
}
