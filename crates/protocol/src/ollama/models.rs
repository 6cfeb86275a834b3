use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Message;
use crate::de::{null_default, one_or_many};

/// What a model is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDetails {
    /// The model this one was derived from, or nothing.
    #[serde(default, deserialize_with = "null_default")]
    pub parent_model: String,
    /// `gguf` or `safetensors`.
    #[serde(default, deserialize_with = "null_default")]
    pub format: String,
    /// Architecture, for example `llama`.
    #[serde(default, deserialize_with = "null_default")]
    pub family: String,
    /// All architectures in the file.
    #[serde(default, deserialize_with = "null_default")]
    pub families: Vec<String>,
    /// For people, for example `134.52M`.
    #[serde(default, deserialize_with = "null_default")]
    pub parameter_size: String,
    /// For example `Q4_1`.
    #[serde(default, deserialize_with = "null_default")]
    pub quantization_level: String,
}

/// What Jarvis adds to a model in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelExtension {
    /// A small model that only shows that everything works.
    #[serde(default)]
    pub demonstration: bool,
}

/// One model of [`TagsResponse`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Name with its tag.
    pub name: String,
    /// The same.
    #[serde(default, deserialize_with = "null_default")]
    pub model: String,
    /// RFC 3339.
    #[serde(default, deserialize_with = "null_default")]
    pub modified_at: String,
    /// Bytes on disk.
    #[serde(default)]
    pub size: u64,
    /// Hex sha256: same digest, same weights.
    #[serde(default, deserialize_with = "null_default")]
    pub digest: String,
    /// What it is made of.
    #[serde(default, deserialize_with = "null_default")]
    pub details: ModelDetails,
    /// `completion`, `embedding`, …; not every node says.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub capabilities: Vec<String>,
    /// Jarvis's own extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jarvis: Option<ModelExtension>,
}

/// `GET /api/tags`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagsResponse {
    /// Every model on disk.
    #[serde(default, deserialize_with = "null_default")]
    pub models: Vec<ModelInfo>,
}

/// One model of [`PsResponse`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningModel {
    /// Name with its tag.
    pub name: String,
    /// The same.
    #[serde(default, deserialize_with = "null_default")]
    pub model: String,
    /// Bytes in memory.
    #[serde(default)]
    pub size: u64,
    /// Hex sha256.
    #[serde(default, deserialize_with = "null_default")]
    pub digest: String,
    /// What it is made of.
    #[serde(default, deserialize_with = "null_default")]
    pub details: ModelDetails,
    /// When it will be unloaded if nobody asks, RFC 3339.
    #[serde(default, deserialize_with = "null_default")]
    pub expires_at: String,
    /// Bytes on a graphics card.
    #[serde(default)]
    pub size_vram: u64,
    /// Context window it was loaded with, tokens.
    #[serde(default)]
    pub context_length: u64,
}

/// `GET /api/ps`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PsResponse {
    /// Every model in memory.
    #[serde(default, deserialize_with = "null_default")]
    pub models: Vec<RunningModel>,
}

/// `POST /api/show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowRequest {
    /// Name of the model; `name` is the older spelling.
    #[serde(flatten, with = "either_name")]
    pub model: String,
    /// Also list every tensor and long metadata.
    #[serde(default, deserialize_with = "null_default")]
    pub verbose: bool,
}

/// The answer to [`ShowRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShowResponse {
    /// Text of the licence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
    /// A Modelfile that would make this model again.
    #[serde(default)]
    pub modelfile: String,
    /// Default options, one a line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    /// Chat template.
    #[serde(default)]
    pub template: String,
    /// Default system message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// What it is made of.
    #[serde(default)]
    pub details: ModelDetails,
    /// Metadata of the file.
    #[serde(default)]
    pub model_info: Map<String, Value>,
    /// `completion`, `embedding`, …
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Messages every conversation starts with.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub messages: Vec<Message>,
    /// RFC 3339.
    #[serde(default)]
    pub modified_at: String,
}

/// `POST /api/create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// Name of the new model; `name` is the older spelling.
    #[serde(flatten, with = "either_name")]
    pub model: String,
    /// An existing model, or the path of a GGUF on the server's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// File name to `sha256:…` of a blob uploaded before.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_default"
    )]
    pub files: BTreeMap<String, String>,
    /// The older form: text of a Modelfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modelfile: Option<String>,
    /// Chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// System message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Default options.
    #[serde(
        default,
        skip_serializing_if = "Map::is_empty",
        deserialize_with = "null_default"
    )]
    pub parameters: Map<String, Value>,
    /// Texts of licences, or their names.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_many"
    )]
    pub license: Vec<String>,
    /// Messages every conversation starts with.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_default"
    )]
    pub messages: Vec<Message>,
    /// Absent means `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Fields Jarvis does not read itself.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One record of the answer to [`CreateRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateProgress {
    /// What is being done; `success` is the last.
    pub status: String,
    /// Which blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Bytes done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
}

/// `DELETE /api/delete`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Name of the model; `name` is the older spelling.
    #[serde(flatten, with = "either_name")]
    pub model: String,
}

/// `POST /api/copy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRequest {
    /// An existing model.
    #[serde(default, deserialize_with = "null_default")]
    pub source: String,
    /// Its second name.
    #[serde(default, deserialize_with = "null_default")]
    pub destination: String,
}

/// `GET /api/version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionResponse {
    /// Semantic version.
    pub version: String,
}

/// A model's name under `model` or, in older clients, under `name`; Ollama's own client sends both, one of them empty.
mod either_name {
    use crate::de::null_default;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    #[derive(Serialize, Deserialize)]
    struct Spellings {
        #[serde(default, deserialize_with = "null_default")]
        model: String,
        #[serde(default, deserialize_with = "null_default", skip_serializing)]
        name: String,
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        let Spellings { model, name } = Spellings::deserialize(from)
            .map_err(|error| D::Error::custom(format!("model: {error}")))?;
        Ok(if model.is_empty() { name } else { model })
    }

    pub(super) fn serialize<S: Serializer>(model: &str, to: S) -> Result<S::Ok, S::Error> {
        let (model, name) = (model.to_owned(), String::new());
        Spellings { model, name }.serialize(to)
    }
}
