//! Making, copying and deleting models: `create`, `blobs`, `copy`, `delete`.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::Path,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use jarvis_protocol::ollama::{
    CopyRequest, CreateProgress, CreateRequest, DeleteRequest, Options, Role,
};
use serde_json::Value;

use super::{State, body, manage::blocking, modelfile, reply::OllamaError, stream::line, wishes};
use crate::{
    catalog::{Catalog, Import, ModelName},
    error::EngineError,
    service,
    template::ChatTemplate,
};

/// Where a new model's weights come from.
enum Source {
    Blob(String),
    File(PathBuf),
    Model(String),
}

pub(super) async fn create(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Response, OllamaError> {
    let request: CreateRequest = body::json(body, inner.options.max_body).await?;
    let streamed = request.stream.unwrap_or(true);
    let name = ModelName::parse(&request.model)?;
    wishes::of_create(&request)?;
    let (source, import) = plan(request)?;
    check(&import, &inner.options.clock)?;
    let catalog = Arc::clone(&inner.catalog);
    let made = name.clone();
    blocking(move || make(&catalog, &made, source, import)).await?;
    inner.forget(name.as_str());
    if !streamed {
        return Ok(Json(progress("success")).into_response());
    }
    let mut lines = BytesMut::new();
    for status in ["parsing GGUF", "writing manifest", "success"] {
        lines.extend_from_slice(&line(&progress(status)));
    }
    let mut response = Response::new(Body::from(lines.freeze()));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(response)
}

fn progress(status: &str) -> CreateProgress {
    CreateProgress {
        status: status.to_owned(),
        ..CreateProgress::default()
    }
}

fn plan(request: CreateRequest) -> Result<(Source, Import), EngineError> {
    let bad = |text: &str| EngineError::BadRequest(text.to_owned());
    let mut import = Import {
        template: request.template,
        system: request.system,
        parameters: request.parameters,
        license: request.license.join("\n"),
        messages: request.messages,
        ..Import::default()
    };
    let mut from = request.from;
    if let Some(text) = &request.modelfile {
        let parsed = modelfile::parse(text)?;
        from = from.or(parsed.from);
        import.template = import.template.or(parsed.template);
        import.system = import.system.or(parsed.system);
        if import.license.is_empty() {
            import.license = parsed.license.join("\n");
        }
        if import.messages.is_empty() {
            import.messages = parsed.messages;
        }
        for (name, value) in parsed.parameters {
            import.parameters.entry(name).or_insert(value);
        }
    }
    let mut files = request.files.into_iter();
    let source = match (files.next(), files.next(), from) {
        (Some(_), Some(_), _) => return Err(bad("only one file can be given: a GGUF")),
        (Some((_, digest)), None, _) => Source::Blob(digest_hex(&digest)?),
        (None, _, Some(from)) if from.starts_with('/') => Source::File(PathBuf::from(from)),
        (None, _, Some(from)) if from.is_empty() => {
            return Err(bad("neither 'from' or 'files' was specified"));
        }
        (None, _, Some(from)) => Source::Model(from),
        (None, _, None) => return Err(bad("neither 'from' or 'files' was specified")),
    };
    Ok((source, import))
}

/// Refuses a template, parameters or messages that would only fail at the first request.
fn check(import: &Import, clock: &jarvis_domain::Clock) -> Result<(), EngineError> {
    if let Some(template) = &import.template {
        ChatTemplate::new(Some(template), String::new(), String::new(), clock.clone()).map_err(
            |error| EngineError::BadRequest(format!("{error}; templates are written in Jinja")),
        )?;
    }
    for message in &import.messages {
        let role = message.role.as_str();
        if !matches!(message.role, Role::System | Role::User | Role::Assistant) {
            return Err(EngineError::BadRequest(format!(
                "messages: role {role:?}: expected \"system\", \"user\" or \"assistant\""
            )));
        }
        if !message.images.is_empty() || !message.tool_calls.is_empty() {
            return Err(EngineError::BadRequest(
                "messages: expected text alone, no images or tool calls".to_owned(),
            ));
        }
    }
    let options: Options = body::value("parameters", Value::Object(import.parameters.clone()))?;
    service::check(&options)
}

fn make(
    catalog: &Catalog,
    name: &ModelName,
    source: Source,
    import: Import,
) -> Result<(), EngineError> {
    match source {
        Source::Blob(digest) => catalog.create_from_blob(name, &digest, import).map(drop),
        Source::File(path) => catalog.import_gguf(name.as_str(), &path, import).map(drop),
        Source::Model(from) => {
            let now = catalog.now();
            catalog.derive(&from, name, |manifest| {
                manifest.details.parent_model.clone_from(&manifest.name);
                manifest.modified_at = now;
                manifest.template = import.template.or(manifest.template.take());
                manifest.system = import.system.or(manifest.system.take());
                manifest.parameters.extend(import.parameters);
                if !import.license.is_empty() {
                    manifest.license = import.license;
                }
                if !import.messages.is_empty() {
                    manifest.messages = import.messages;
                }
            })
        }
    }
}

/// `sha256:…` or `sha256-…` to the hex digits.
fn digest_hex(digest: &str) -> Result<String, EngineError> {
    digest
        .strip_prefix("sha256:")
        .or_else(|| digest.strip_prefix("sha256-"))
        .filter(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
        .map(ToOwned::to_owned)
        .ok_or_else(|| EngineError::BadRequest(format!("invalid digest {digest:?}")))
}

pub(super) async fn head_blob(
    axum::extract::State(inner): State,
    Path(digest): Path<String>,
) -> Result<StatusCode, OllamaError> {
    let path = inner.catalog.blob_path(&digest_hex(&digest)?);
    if blocking(move || Ok(path.exists())).await? {
        Ok(StatusCode::OK)
    } else {
        Err(EngineError::BlobNotFound(digest).into())
    }
}

pub(super) async fn put_blob(
    axum::extract::State(inner): State,
    Path(digest): Path<String>,
    body: Body,
) -> Result<StatusCode, OllamaError> {
    let expected = digest_hex(&digest)?;
    let catalog = Arc::clone(&inner.catalog);
    let (pieces, mut inbox) = tokio::sync::mpsc::channel::<Bytes>(8);
    let writer = blocking(move || {
        let mut upload = catalog.upload()?;
        while let Some(piece) = inbox.blocking_recv() {
            upload.write(&piece)?;
        }
        // A body that broke off has another digest, so nothing of it stays.
        upload.finish(Some(&expected)).map(drop)
    });
    let reader = async move {
        let mut body = body.into_data_stream();
        while let Some(piece) = body.next().await {
            let Ok(piece) = piece else { break };
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
    };
    let (written, ()) = tokio::join!(writer, reader);
    written?;
    Ok(StatusCode::CREATED)
}

pub(super) async fn copy(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<StatusCode, OllamaError> {
    let request: CopyRequest = body::json(body, inner.options.max_body).await?;
    let catalog = Arc::clone(&inner.catalog);
    blocking(move || catalog.copy(&request.source, &request.destination)).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn delete(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<StatusCode, OllamaError> {
    let request: DeleteRequest = body::json(body, inner.options.max_body).await?;
    let catalog = Arc::clone(&inner.catalog);
    let removed = blocking(move || catalog.delete(&request.model)).await?;
    inner.forget(removed.name());
    Ok(StatusCode::OK)
}
