//! What changes a node's models, and what it hears.

use super::{FakeModel, Heard, Shared, lock};
use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, head, post},
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::SeqCst},
};

type Node = State<Arc<Shared>>;

/// The endpoints that change models.
pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/pull", post(pull))
        .route("/api/create", post(create))
        .route("/api/copy", post(copy))
        .route("/api/delete", delete(remove))
        .route("/api/blobs/{digest}", head(has_blob).post(blob))
}

/// Has every request remembered, but for looks at what there is.
pub(super) fn listening(router: Router, shared: &Arc<Shared>) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::clone(shared), hear))
}

async fn hear(State(shared): Node, request: Request, next: Next) -> Response {
    let looks = ["/api/tags", "/api/ps", "/api/version"];
    if looks.contains(&request.uri().path()) {
        shared.looks.fetch_add(1, SeqCst);
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    lock(&shared.heard).push(Heard {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers.clone(),
        body: body.clone(),
    });
    next.run(Request::from_parts(parts, Body::from(body))).await
}

/// The model's name: in the newer field or the older one, which some clients send empty.
pub(super) fn named(body: &Value) -> String {
    let names = [&body["model"], &body["name"]];
    let mut given = names.into_iter().filter_map(Value::as_str);
    let name = given.find(|name| !name.is_empty());
    name.unwrap_or_default().to_owned()
}

fn tagged(name: &str) -> String {
    if name.contains(':') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error}))).into_response()
}

/// Reports progress as it comes, or the last of it alone.
fn progress(body: &Value, records: Vec<Value>) -> Response {
    if body["stream"] == false {
        let last = records.last().cloned().unwrap_or_default();
        let failed = last["error"].is_string();
        let status = if failed {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::OK
        };
        return (status, Json(last)).into_response();
    }
    let lines = records
        .into_iter()
        .map(|record| Ok::<_, Infallible>(Bytes::from(format!("{record}\n"))));
    let body = Body::from_stream(stream::iter(lines).then(async |line| {
        tokio::task::yield_now().await;
        line
    }));
    ([("content-type", "application/x-ndjson")], body).into_response()
}

/// Every name can be pulled but those that begin with `missing`.
async fn pull(State(shared): Node, Json(body): Json<Value>) -> Response {
    let name = named(&body);
    let first = json!({"status": "pulling manifest"});
    if name.starts_with("missing") {
        let error = json!({"error": "pull model manifest: file does not exist"});
        return progress(&body, vec![first, error]);
    }
    let gate = lock(&shared.pulls).clone();
    if let Some(gate) = gate {
        let _held = Held::new(&shared);
        gate.pass().await;
    }
    lock(&shared.models).push(FakeModel::ollama(&tagged(&name)));
    let layer = json!({"status": "pulling 1", "digest": "sha256:1", "total": 10, "completed": 10});
    progress(&body, vec![first, layer, json!({"status": "success"})])
}

/// A pull that waits for its gate, until it is let through or its client leaves.
struct Held(Arc<Shared>);

impl Held {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.held.fetch_add(1, SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, SeqCst);
    }
}

async fn create(State(shared): Node, Json(body): Json<Value>) -> Response {
    let from = body["from"].as_str().unwrap_or_default();
    let found = lock(&shared.models)
        .iter()
        .find(|model| model.is(from))
        .cloned();
    let Some(mut model) = found else {
        return refused(
            StatusCode::BAD_REQUEST,
            "neither 'from' or 'files' was specified",
        );
    };
    model.info.name = tagged(&named(&body));
    lock(&shared.models).push(model);
    progress(
        &body,
        vec![
            json!({"status": "writing manifest"}),
            json!({"status": "success"}),
        ],
    )
}

async fn copy(State(shared): Node, Json(body): Json<Value>) -> Response {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let mut models = lock(&shared.models);
    let found = models.iter().find(|model| model.is(&text("source")));
    let Some(mut model) = found.cloned() else {
        return refused(StatusCode::NOT_FOUND, "model not found");
    };
    model.info.name = tagged(&text("destination"));
    models.push(model);
    StatusCode::OK.into_response()
}

async fn remove(State(shared): Node, Json(body): Json<Value>) -> Response {
    let name = named(&body);
    let mut models = lock(&shared.models);
    let before = models.len();
    models.retain(|model| !model.is(&name));
    if models.len() == before {
        return refused(StatusCode::NOT_FOUND, "model not found");
    }
    StatusCode::OK.into_response()
}

async fn has_blob(State(shared): Node, Path(digest): Path<String>) -> StatusCode {
    if lock(&shared.blobs).contains(&digest) {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    }
}

async fn blob(State(shared): Node, Path(digest): Path<String>) -> StatusCode {
    if lock(&shared.blobs).insert(digest) {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    }
}
