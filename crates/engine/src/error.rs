use std::path::PathBuf;

use http::StatusCode;
use jarvis_protocol::ollama::SERVER_BUSY;

use crate::{catalog::DamagedManifest, gguf::GgufError};

/// Everything that can go wrong in the engine, in words for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The request cannot be understood or makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// The body is larger than the engine takes.
    #[error("request body too large: more than {limit} bytes")]
    BodyTooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// No such model; the sentence says which exist.
    #[error("model '{name}' not found{}", existing(.known))]
    ModelNotFound {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is something of that name, but nothing to load.
    #[error(transparent)]
    DamagedManifest(#[from] DamagedManifest),
    /// The model cannot do this.
    #[error("\"{model}\" does not support {what}")]
    NotSupported {
        /// Its name.
        model: String,
        /// `chat`, `generate`, `embeddings`, `image input`.
        what: &'static str,
    },
    /// The model cannot do what a field asks for.
    #[error("\"{model}\" does not support {what}{}", asked_by(.what, .field))]
    FieldNotSupported {
        /// Its name.
        model: String,
        /// `tools`, `thinking`, `logprobs`, …
        what: &'static str,
        /// The field of the request.
        field: &'static str,
    },
    /// Every place in the queue is taken.
    #[error("{}", SERVER_BUSY)]
    Busy,
    /// The engine is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// No such blob.
    #[error("blob {0} not found")]
    BlobNotFound(String),
    /// The uploaded bytes are not what their digest says.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was announced.
        expected: String,
        /// What arrived.
        actual: String,
    },
    /// A model file is missing, cut off or of another kind.
    #[error("{path}: {cause}")]
    BadModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Not named as a source: the sentence has it already.
        cause: GgufError,
    },
    /// The model is valid as far as could be seen but could not be loaded.
    #[error("could not load model '{model}': {reason}")]
    Load {
        /// Its name.
        model: String,
        /// Why.
        reason: String,
    },
    /// The model's chat template failed on this conversation.
    #[error("chat template: {0}")]
    Template(String),
    /// A file could not be read or written.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's reason. Not named as a source: the sentence has it already.
        cause: std::io::Error,
    },
    /// An embedded model could not be fetched.
    #[error("{0}")]
    Fetch(String),
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

impl EngineError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |cause| Self::Io { what, cause }
    }

    /// The HTTP status Ollama uses for this.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_)
            | Self::NotSupported { .. }
            | Self::FieldNotSupported { .. }
            | Self::DigestMismatch { .. }
            | Self::BadModelFile { .. }
            | Self::Template(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ModelNotFound { .. } | Self::BlobNotFound(_) => StatusCode::NOT_FOUND,
            Self::Busy | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Io { cause, .. } if cause.kind() == std::io::ErrorKind::StorageFull => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Self::Load { .. }
            | Self::DamagedManifest(_)
            | Self::Io { .. }
            | Self::Fetch(_)
            | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// Names the field, unless the words have it already.
fn asked_by(what: &str, field: &str) -> String {
    if what == field {
        String::new()
    } else {
        format!(" (`{field}`)")
    }
}

fn existing(known: &[String]) -> String {
    if known.is_empty() {
        "; there are no models yet (`jarvis model fetch` fetches the embedded ones)".to_owned()
    } else {
        format!("; these exist: {}", known.join(", "))
    }
}
