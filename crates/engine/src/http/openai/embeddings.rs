//! `POST /v1/embeddings`.

use axum::{Json, body::Body};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jarvis_protocol::openai::{
    Embedding, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector,
};

use crate::{
    embed,
    error::EngineError,
    http::{State, body, reply::OpenAiError},
};

pub(super) async fn embeddings(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Json<EmbeddingResponse>, OpenAiError> {
    let request: EmbeddingRequest = body::json(body, inner.options.max_body).await?;
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let reason = format!("encoding_format {other:?}: expected \"float\" or \"base64\"");
            return Err(EngineError::BadRequest(reason).into());
        }
    };
    let texts = match request.input {
        EmbeddingInput::One(text) => vec![text],
        EmbeddingInput::Many(texts) => texts,
    };
    if texts.is_empty() {
        return Err(EngineError::BadRequest("input must not be empty".to_owned()).into());
    }
    let manifest = inner.manifest(&request.model).await?;
    let mut done = inner
        .embedders
        .embed(manifest, texts, true, inner.options.keep_alive)
        .await?;
    embed::shorten(&mut done.vectors, request.dimensions);
    let data = done
        .vectors
        .into_iter()
        .enumerate()
        .map(|(index, vector)| Embedding {
            object: "embedding".to_owned(),
            index,
            embedding: if base64 {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                EmbeddingVector::Base64(STANDARD.encode(bytes))
            } else {
                EmbeddingVector::Float(vector)
            },
        })
        .collect();
    Ok(Json(EmbeddingResponse {
        object: "list".to_owned(),
        data,
        model: request.model,
        usage: EmbeddingUsage {
            prompt_tokens: done.tokens,
            total_tokens: done.tokens,
        },
    }))
}
