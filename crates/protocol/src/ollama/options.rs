use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::de::{lenient_int, null_default, one_or_many};

/// The `options` of a request; what is absent takes the model's, then the server's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Context window, tokens.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient_int"
    )]
    pub num_ctx: Option<i64>,
    /// Most tokens to generate; negative: no limit but the window.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient_int"
    )]
    pub num_predict: Option<i64>,
    /// Tokens kept from the start of the prompt when the window is shifted.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient_int"
    )]
    pub num_keep: Option<i64>,
    /// Seed of the sampler; negative: a new one each time.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient_int"
    )]
    pub seed: Option<i64>,
    /// 0 always takes the likeliest token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Keep the `top_k` likeliest tokens; 0 or less: all.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient_int"
    )]
    pub top_k: Option<i64>,
    /// Keep the likeliest tokens up to this probability together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Drop tokens below this fraction of the likeliest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Locally typical sampling; 1 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f32>,
    /// How many tokens back a repetition is seen; 0: none, -1: the whole window.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient_int"
    )]
    pub repeat_last_n: Option<i64>,
    /// Penalty of a repetition; 1 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// Penalty for tokens already present; 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Penalty by how often a token is present; 0 is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Strings that end the answer; they are not part of it.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    pub stop: Vec<String>,
    /// Options Jarvis does not read itself, kept for nodes that do.
    #[serde(flatten, deserialize_with = "null_default")]
    pub other: Map<String, Value>,
}

impl Options {
    /// Whether nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
