use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

use crate::error::EngineError;

/// Reads a JSON body, whatever its content type says (as Ollama does).
///
/// # Errors
/// Larger than `limit`, empty, malformed, nested too deep, no object, or with a field of the wrong type, which is named.
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
    let mut source = serde_json::Deserializer::from_slice(&bytes);
    // A list would be read as the fields in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        let text = "the request body must be a JSON object, not a list".to_owned();
        return Err(EngineError::BadRequest(text));
    }
    let request = read(&mut source).map_err(EngineError::BadRequest)?;
    source
        .end()
        .map_err(|error| EngineError::BadRequest(error.to_string()))?;
    Ok(request)
}

/// Reads a value that is within another one.
///
/// # Errors
/// Which field is of the wrong type, and what it should be.
pub(super) fn value<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, EngineError> {
    read(value).map_err(|error| EngineError::BadRequest(format!("{name}.{error}")))
}

fn read<'de, T, D>(source: D) -> Result<T, String>
where
    T: Deserialize<'de>,
    D: Deserializer<'de, Error: std::fmt::Display>,
{
    serde_path_to_error::deserialize(source).map_err(|error| error.to_string())
}
