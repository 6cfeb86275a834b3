//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::{Json, extract::Path};
use jarvis_protocol::openai::{Model, ModelList};

use crate::{
    catalog::Manifest,
    http::{State, manage::blocking, reply::OpenAiError},
};

pub(super) async fn list(
    axum::extract::State(inner): State,
) -> Result<Json<ModelList>, OpenAiError> {
    let catalog = Arc::clone(&inner.catalog);
    let models = blocking(move || catalog.list()).await?;
    Ok(Json(ModelList {
        object: "list".to_owned(),
        data: models.into_iter().map(model).collect(),
    }))
}

pub(super) async fn one(
    axum::extract::State(inner): State,
    Path(id): Path<String>,
) -> Result<Json<Model>, OpenAiError> {
    Ok(Json(model(inner.manifest(&id).await?)))
}

fn model(manifest: Manifest) -> Model {
    Model {
        created: manifest
            .modified_at
            .parse::<jiff::Timestamp>()
            .map_or(0, jiff::Timestamp::as_second),
        id: manifest.name,
        object: "model".to_owned(),
        owned_by: "library".to_owned(),
    }
}
