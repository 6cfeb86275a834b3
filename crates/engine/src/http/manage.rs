//! What models there are: `tags`, `ps`, `show`.

use std::{fmt::Write as _, sync::Arc, time::Instant};

use axum::{Json, body::Body};
use jarvis_domain::{Clock, Timestamp};
use jarvis_protocol::ollama::{
    ModelExtension, ModelInfo, PsResponse, RunningModel, ShowRequest, ShowResponse, TagsResponse,
};
use serde_json::{Map, Value};

use super::{State, body, reply::OllamaError};
use crate::{
    catalog::{Catalog, Kind, Manifest},
    embed::RunningEncoder,
    error::EngineError,
    gguf::Gguf,
};

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| EngineError::Internal(error.to_string()))?
}

pub(super) async fn tags(
    axum::extract::State(inner): State,
) -> Result<Json<TagsResponse>, OllamaError> {
    let catalog = Arc::clone(&inner.catalog);
    let models = blocking(move || catalog.list()).await?;
    Ok(Json(TagsResponse {
        models: models.into_iter().map(info).collect(),
    }))
}

fn info(manifest: Manifest) -> ModelInfo {
    ModelInfo {
        model: manifest.name.clone(),
        name: manifest.name,
        modified_at: manifest.modified_at,
        size: manifest.size,
        digest: manifest.digest,
        details: manifest.details,
        capabilities: manifest.capabilities,
        jarvis: Some(ModelExtension {
            demonstration: manifest.demonstration,
        }),
    }
}

pub(super) async fn ps(axum::extract::State(inner): State) -> Json<PsResponse> {
    let clock = &inner.options.clock;
    let mut models: Vec<RunningModel> = inner
        .models
        .running()
        .into_iter()
        .map(|model| RunningModel {
            name: model.manifest.name.clone(),
            model: model.manifest.name.clone(),
            size: model.runner.bytes(),
            digest: model.manifest.digest.clone(),
            details: model.manifest.details.clone(),
            expires_at: expiry(clock, model.runner.deadline()).to_string(),
            size_vram: 0,
            context_length: model.runner.window() as u64,
        })
        .collect();
    models.extend(
        inner
            .embedders
            .running()
            .into_iter()
            .map(|running| RunningModel {
                name: running.manifest.name.clone(),
                model: running.manifest.name,
                size: running.manifest.size,
                digest: running.manifest.digest,
                details: running.manifest.details,
                expires_at: expiry(clock, running.deadline).to_string(),
                size_vram: 0,
                context_length: RunningEncoder::WINDOW as u64,
            }),
    );
    models.sort_by(|a, b| a.name.cmp(&b.name));
    Json(PsResponse { models })
}

/// The monotonic deadline on the calendar; for ever is three hundred years away, as with Ollama.
fn expiry(clock: &Clock, deadline: Option<Instant>) -> Timestamp {
    const FOR_EVER: std::time::Duration = std::time::Duration::from_hours(300 * 365 * 24);
    clock.now() + deadline.map_or(FOR_EVER, |at| at.saturating_duration_since(Instant::now()))
}

pub(super) async fn show(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Json<ShowResponse>, OllamaError> {
    let request: ShowRequest = body::json(body, inner.options.max_body).await?;
    let manifest = inner.manifest(&request.model).await?;
    let catalog = Arc::clone(&inner.catalog);
    Ok(Json(blocking(move || describe(&catalog, manifest)).await?))
}

fn describe(catalog: &Catalog, manifest: Manifest) -> Result<ShowResponse, EngineError> {
    let path = catalog.blob_path(&manifest.digest);
    let (mut model_info, own_template) = match manifest.kind {
        Kind::Bert => (Map::new(), None),
        Kind::Gguf => {
            let gguf = Gguf::open(&path).map_err(|cause| EngineError::BadModelFile {
                path: path.clone(),
                cause,
            })?;
            let template = gguf.text("tokenizer.chat_template").map(ToOwned::to_owned);
            let mut metadata = gguf.metadata;
            metadata.insert("general.parameter_count".to_owned(), gguf.parameters.into());
            metadata.remove("tokenizer.chat_template");
            (metadata, template)
        }
    };
    if manifest.kind == Kind::Bert {
        model_info.insert("general.architecture".to_owned(), "bert".into());
    }
    let template = manifest
        .template
        .clone()
        .or(own_template)
        .unwrap_or_default();
    Ok(ShowResponse {
        license: manifest.license.clone(),
        modelfile: modelfile(&manifest, &path.display().to_string(), &template),
        parameters: parameters(&manifest.parameters).join("\n"),
        template,
        system: manifest.system.clone().unwrap_or_default(),
        details: manifest.details,
        model_info,
        messages: manifest.messages,
        capabilities: manifest.capabilities,
        modified_at: manifest.modified_at,
    })
}

fn parameters(parameters: &Map<String, Value>) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in parameters {
        match value {
            Value::Array(values) => {
                lines.extend(values.iter().map(|value| format!("{name:<30} {value}")));
            }
            value => lines.push(format!("{name:<30} {value}")),
        }
    }
    lines
}

fn modelfile(manifest: &Manifest, path: &str, template: &str) -> String {
    let mut text = format!("FROM {path}\n");
    if !template.is_empty() {
        let _ = writeln!(text, "TEMPLATE \"\"\"{template}\"\"\"");
    }
    if let Some(system) = &manifest.system {
        let _ = writeln!(text, "SYSTEM \"\"\"{system}\"\"\"");
    }
    for line in parameters(&manifest.parameters) {
        let _ = writeln!(text, "PARAMETER {line}");
    }
    for message in &manifest.messages {
        let (role, content) = (message.role.as_str(), &message.content);
        let _ = writeln!(text, "MESSAGE {role} \"\"\"{content}\"\"\"");
    }
    if !manifest.license.is_empty() {
        let _ = writeln!(text, "LICENSE \"\"\"{}\"\"\"", manifest.license);
    }
    text
}
