//! The two dialects: one file for each resource.

mod body;
mod chat;
mod create;
mod embed;
mod generate;
mod manage;
mod modelfile;
mod openai;
mod reply;
mod stream;
mod wishes;

use std::sync::Arc;

use axum::{
    Json, Router,
    routing::{any, delete, get, head, post},
};
use http::StatusCode;
use jarvis_protocol::ollama::{ErrorBody, VersionResponse};

use crate::Inner;

/// Shared by every handler.
pub(crate) type State = axum::extract::State<Arc<Inner>>;

/// The version of Ollama's API that is spoken, for clients that ask before they use what is new.
const API_VERSION: &str = "0.9.0";

pub(crate) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/", get(async || "Ollama is running"))
        .route("/api/version", get(version))
        .route("/api/tags", get(manage::tags))
        .route("/api/ps", get(manage::ps))
        .route("/api/show", post(manage::show))
        .route("/api/chat", post(chat::chat))
        .route("/api/generate", post(generate::generate))
        .route("/api/embed", post(embed::embed))
        .route("/api/embeddings", post(embed::embeddings))
        .route("/api/create", post(create::create))
        .route("/api/copy", post(create::copy))
        .route("/api/delete", delete(create::delete))
        .route(
            "/api/blobs/{digest}",
            head(create::head_blob).post(create::put_blob),
        )
        .merge(openai::routes())
        .fallback(any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(inner)
}

async fn version() -> Json<VersionResponse> {
    Json(VersionResponse {
        version: API_VERSION.to_owned(),
    })
}

async fn not_found() -> (StatusCode, Json<ErrorBody>) {
    let error = "404 page not found".to_owned();
    (StatusCode::NOT_FOUND, Json(ErrorBody { error }))
}

async fn method_not_allowed() -> (StatusCode, Json<ErrorBody>) {
    let error = "405 method not allowed".to_owned();
    (StatusCode::METHOD_NOT_ALLOWED, Json(ErrorBody { error }))
}
