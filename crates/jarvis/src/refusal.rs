//! What a listener says itself, before or instead of its role: in the shape that programs at that path expect.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use jarvis_protocol::{ollama::ErrorBody, openai::ErrorEnvelope};
use serde_json::json;

/// How programs at a path expect to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A problem document, below `/api/v1/`.
    Problem,
    /// Ollama's error, below `/api/` and `/admin/`.
    Ollama,
    /// OpenAI's error, below `/v1/`.
    OpenAi,
    /// Plain text, for people.
    Text,
}

impl Shape {
    pub(crate) fn of(path: &str) -> Self {
        let below = |root: &str| path.starts_with(root);
        if below("/api/v1/") {
            Self::Problem
        } else if below("/api/") || below("/admin/") {
            Self::Ollama
        } else if below("/v1/") {
            Self::OpenAi
        } else {
            Self::Text
        }
    }

    /// An answer that says `why`; `code` is the problem's.
    pub(crate) fn refusal(self, status: StatusCode, code: &str, why: &str) -> Response {
        match self {
            Self::Problem => {
                let body = Json(json!({
                    "type": "about:blank",
                    "title": status.canonical_reason(),
                    "status": status.as_u16(),
                    "code": code,
                    "detail": why,
                }));
                let kind = [(header::CONTENT_TYPE, "application/problem+json")];
                (status, kind, body).into_response()
            }
            Self::Ollama => {
                let error = why.to_owned();
                (status, Json(ErrorBody { error })).into_response()
            }
            Self::OpenAi => {
                let body = ErrorEnvelope::for_status(status.as_u16(), why);
                (status, Json(body)).into_response()
            }
            Self::Text => (status, format!("{why}\n")).into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    async fn said(path: &str) -> (String, Vec<u8>) {
        let refused = Shape::of(path).refusal(StatusCode::FORBIDDEN, "foreign_origin", "no");
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let kind = refused.headers()[header::CONTENT_TYPE].to_str().unwrap();
        let kind = kind.to_owned();
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        (kind, body.to_vec())
    }

    #[tokio::test]
    async fn each_path_has_the_shape_that_its_programs_read() {
        let (kind, body) = said("/").await;
        assert_eq!(
            (kind.as_str(), &*body),
            ("text/plain; charset=utf-8", &b"no\n"[..])
        );
        for (path, kind, pointer) in [
            ("/api/v1/me", "application/problem+json", "/detail"),
            ("/api/chat", "application/json", "/error"),
            ("/admin/state", "application/json", "/error"),
            ("/v1/models", "application/json", "/error/message"),
        ] {
            let (told, body) = said(path).await;
            assert_eq!(told, kind, "{path}");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body.pointer(pointer).unwrap(), "no", "{path}");
        }
    }
}
