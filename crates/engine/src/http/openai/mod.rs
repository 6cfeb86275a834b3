//! The OpenAI dialect.

mod chat;
mod completions;
mod embeddings;
mod models;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use axum::{
    Router,
    routing::{get, post},
};
use bytes::Bytes;
use jarvis_protocol::{
    ResponseExtension,
    ollama::{DoneReason, Options},
    openai::{DONE, ErrorEnvelope},
    sse::Event,
};
use serde::Serialize;

use crate::{Inner, error::EngineError};

pub(super) fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
}

/// A new id for an answer.
fn id(prefix: &str) -> String {
    format!(
        "{prefix}-{:016x}",
        RandomState::new().build_hasher().finish()
    )
}

/// One event of a stream.
fn event<T: Serialize>(value: &T) -> Bytes {
    match serde_json::to_string(value) {
        Ok(json) => Event::data(json).encode(),
        Err(error) => failure(&EngineError::Internal(error.to_string())),
    }
}

/// The end of a stream.
fn done() -> Bytes {
    Event::data(DONE).encode()
}

/// The event of a broken answer. No `[DONE]` follows: the answer is not complete.
fn failure(error: &EngineError) -> Bytes {
    let envelope = ErrorEnvelope::for_status(error.status().as_u16(), error.to_string());
    Event::data(serde_json::to_string(&envelope).unwrap_or_default()).encode()
}

/// What Jarvis adds to a chunk: there are tokens only if they were asked for.
fn told(tokens: Vec<i32>) -> Option<ResponseExtension> {
    (!tokens.is_empty()).then_some(ResponseExtension {
        tokens,
        cached_tokens: None,
    })
}

fn finish_reason(reason: DoneReason) -> String {
    match reason {
        DoneReason::Length => "length",
        _ => "stop",
    }
    .to_owned()
}

/// The sampling settings both completions share; what is absent takes OpenAI's defaults, not Ollama's.
struct Sampling {
    temperature: Option<f32>,
    top_p: Option<f32>,
    seed: Option<i64>,
    stop: Vec<String>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    max_tokens: Option<u32>,
}

impl Sampling {
    fn into_options(self) -> Options {
        Options {
            temperature: Some(self.temperature.unwrap_or(1.0)),
            top_p: Some(self.top_p.unwrap_or(1.0)),
            seed: self.seed,
            stop: self.stop,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            num_predict: self.max_tokens.map(i64::from),
            repeat_penalty: Some(1.0),
            ..Options::default()
        }
    }
}
