//! `POST /api/embed`, and `POST /api/embeddings`, its older form.

use std::time::Instant;

use axum::{Json, body::Body};
use jarvis_protocol::ollama::{EmbedRequest, EmbedResponse, EmbeddingsRequest, EmbeddingsResponse};

use super::{State, body, reply::OllamaError};
use crate::{embed, service::nanos};

pub(super) async fn embed(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Json<EmbedResponse>, OllamaError> {
    let arrived = Instant::now();
    let request: EmbedRequest = body::json(body, inner.options.max_body).await?;
    let manifest = inner.manifest(&request.model).await?;
    let mut done = inner
        .embedders
        .embed(
            manifest,
            request.input.into_texts(),
            request.truncate.unwrap_or(true),
            request.keep_alive.unwrap_or(inner.options.keep_alive),
        )
        .await?;
    embed::shorten(&mut done.vectors, request.dimensions);
    Ok(Json(EmbedResponse {
        model: request.model,
        embeddings: done.vectors,
        total_duration: nanos(arrived.elapsed()),
        load_duration: nanos(done.load),
        prompt_eval_count: done.tokens,
    }))
}

pub(super) async fn embeddings(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Json<EmbeddingsResponse>, OllamaError> {
    let request: EmbeddingsRequest = body::json(body, inner.options.max_body).await?;
    let manifest = inner.manifest(&request.model).await?;
    let texts = if request.prompt.is_empty() {
        Vec::new()
    } else {
        vec![request.prompt]
    };
    let keep_alive = request.keep_alive.unwrap_or(inner.options.keep_alive);
    let done = inner
        .embedders
        .embed(manifest, texts, true, keep_alive)
        .await?;
    let embedding = done.vectors.into_iter().next().unwrap_or_default();
    Ok(Json(EmbeddingsResponse {
        embedding: embedding.into_iter().map(f64::from).collect(),
    }))
}
