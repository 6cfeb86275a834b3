use serde::{Deserialize, Serialize};

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Name with its tag.
    pub id: String,
    /// `model`.
    pub object: String,
    /// When it was last changed, Unix seconds.
    pub created: i64,
    /// `library`, as Ollama says.
    pub owned_by: String,
}

/// `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// The models.
    pub data: Vec<Model>,
}
