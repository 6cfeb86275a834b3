use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::error::EngineError;

/// Reads a JSON body, whatever its content type says (as Ollama does).
///
/// # Errors
/// Larger than `limit`, empty, malformed, nested too deep, or of the wrong shape.
pub(super) async fn json<T: DeserializeOwned>(body: Body, limit: usize) -> Result<T, EngineError> {
    let bytes = Limited::new(body, limit)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                EngineError::BodyTooLarge { limit }
            } else {
                EngineError::BadRequest(format!("reading the request body: {error}"))
            }
        })?
        .to_bytes();
    if bytes.is_empty() {
        return Err(EngineError::BadRequest("missing request body".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|error| EngineError::BadRequest(error.to_string()))
}
