//! What the nodes have, as one list.

use super::{Front, refusal::Refusal};
use crate::catalog::full_name;
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json, value::RawValue};
use std::collections::BTreeMap;

/// `GET /api/version`: the oldest of the nodes' versions, so that nobody counts on what one of them lacks.
pub(super) async fn version(State(front): State<Front>) -> Json<Value> {
    let nodes = front.balancer.shared.pool.nodes();
    let offers = nodes.iter().filter_map(|node| node.offer());
    let versions = offers.map(|offer| offer.version.clone());
    let oldest = versions
        .filter(|version| !version.is_empty())
        .min_by_key(|version| {
            let part = |part: &str| part.parse().unwrap_or(0_u64);
            version.split(['.', '-']).map(part).collect::<Vec<_>>()
        });
    Json(json!({"version": oldest.unwrap_or_else(|| "0.0.0".to_owned())}))
}

/// `GET /api/tags`: every model once, as the first node that has it lists it, with the nodes that have it.
pub(super) async fn tags(State(front): State<Front>) -> Json<Value> {
    let catalog = front.balancer.catalog().await;
    let mut raw = BTreeMap::new();
    for node in front.balancer.shared.pool.nodes().iter() {
        for (name, listed) in node.offer().iter().flat_map(|offer| &offer.models) {
            raw.entry(name.clone())
                .or_insert_with(|| as_sent(&listed.sent));
        }
    }
    let models = catalog.models.iter().map(|model| {
        let mut value = raw.remove(&model.name).unwrap_or_default();
        value["nodes"] = json!(model.nodes);
        value["resumes"] = json!(model.way);
        if !model.differing.is_empty() {
            value["differing_nodes"] = json!(model.differing);
        }
        value
    });
    Json(json!({"models": models.collect::<Vec<_>>()}))
}

/// `GET /api/ps`: what is in memory, and where. A model that has just answered must be among them, so the nodes that are up
/// are looked at first; one that is down delays nothing.
pub(super) async fn running(State(front): State<Front>) -> Json<Value> {
    let balancer = &front.balancer;
    balancer.look_at_those_up().await;
    let mut models = Vec::new();
    for node in balancer.shared.pool.nodes().iter() {
        for running in node.offer().iter().flat_map(|offer| offer.loaded.values()) {
            let mut value = as_sent(running);
            value["node"] = json!(node.name);
            models.push(value);
        }
    }
    models.sort_by_key(|model| (model["name"].to_string(), model["node"].to_string()));
    Json(json!({"models": models}))
}

/// An entry with all that its node says in it.
fn as_sent(entry: &RawValue) -> Value {
    serde_json::from_str(entry.get()).unwrap_or_default()
}

/// `GET /v1/models`.
pub(super) async fn models(State(front): State<Front>) -> Json<Value> {
    let catalog = front.balancer.catalog().await;
    let models = catalog.models.iter().map(openai);
    Json(json!({"object": "list", "data": models.collect::<Vec<_>>()}))
}

/// `GET /v1/models/{model}`.
pub(super) async fn model(State(front): State<Front>, Path(name): Path<String>) -> Response {
    let catalog = front.balancer.catalog().await;
    match catalog.model(&full_name(&name)) {
        Some(model) => Json(openai(model)).into_response(),
        None => Refusal::new(StatusCode::NOT_FOUND, format!("model '{name}' not found"))
            .of("/v1/models")
            .into_response(),
    }
}

fn openai(model: &crate::Model) -> Value {
    json!({"id": model.name, "object": "model", "created": 0, "owned_by": "library", "nodes": model.nodes})
}
