use std::path::Path;

use super::ModelName;
use jarvis_protocol::ollama::{Message, ModelDetails};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What kind of file a model's weights are, and so which runtime computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A GGUF file, computed by llama.cpp.
    Gguf,
    /// Safetensors of a BERT with its `tokenizer.json`, for embeddings.
    Bert,
}

/// One model on disk: `manifests/<name>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name with its tag.
    pub name: String,
    /// What the weights are.
    pub kind: Kind,
    /// Hex sha256 of the weights: the identity of the model.
    pub digest: String,
    /// Bytes of the weights.
    pub size: u64,
    /// Hex sha256 of `tokenizer.json`, where it is a file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// RFC 3339.
    pub modified_at: String,
    /// What a list shows.
    pub details: ModelDetails,
    /// `completion`, `embedding`.
    pub capabilities: Vec<String>,
    /// Replaces the template inside the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// System message of every conversation that has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Default options.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// Turns that every conversation starts with, after the system message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// The licence's name or text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
    /// A small model that only shows that everything works.
    #[serde(default)]
    pub demonstration: bool,
}

impl Manifest {
    /// Why it cannot be what lies at `path`, if it cannot.
    pub(super) fn check(&self, path: &Path) -> Result<(), String> {
        let is_digest = |text: &String| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if let Some(wrong) = std::iter::once(&self.digest)
            .chain(&self.tokenizer)
            .find(|text| !is_digest(text))
        {
            return Err(format!("{wrong:?} is no SHA-256"));
        }
        let own = ModelName::parse(&self.name).map_err(|error| error.to_string())?;
        if path
            .file_name()
            .is_some_and(|file| file != own.file_name().as_str())
        {
            return Err(format!(
                "it describes {own}, whose file is {}",
                own.file_name()
            ));
        }
        Ok(())
    }

    /// Whether it can do something, by Ollama's word for it.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }
}
