use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use jarvis_protocol::{ollama, openai};

use crate::error::EngineError;

/// An error in Ollama's shape.
pub(super) struct OllamaError(pub EngineError);

impl From<EngineError> for OllamaError {
    fn from(error: EngineError) -> Self {
        Self(error)
    }
}

impl IntoResponse for OllamaError {
    fn into_response(self) -> Response {
        let body = ollama::ErrorBody {
            error: self.0.to_string(),
        };
        with_status(&self.0, Json(body))
    }
}

/// An error in OpenAI's shape.
pub(super) struct OpenAiError(pub EngineError);

impl From<EngineError> for OpenAiError {
    fn from(error: EngineError) -> Self {
        Self(error)
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let mut body =
            openai::ErrorEnvelope::for_status(self.0.status().as_u16(), self.0.to_string());
        if let EngineError::FieldNotSupported { field, .. } = &self.0 {
            body.error.param = Some((*field).to_owned());
            body.error.code = Some("unsupported_parameter".to_owned());
        }
        with_status(&self.0, Json(body))
    }
}

fn with_status(error: &EngineError, body: impl IntoResponse) -> Response {
    let status = error.status();
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::error!(%error, "request failed");
    }
    let mut response = (status, body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
