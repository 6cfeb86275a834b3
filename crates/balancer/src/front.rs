//! The balancer over HTTP, in the place of an Ollama: both dialects on one port, and an admin interface on another.

mod access;
mod admin;
mod fan_out;
mod headers;
mod infer;
mod lists;
mod path;
mod refusal;

pub use access::{Access, ParseSecretError};

use crate::Balancer;
use axum::{
    Json, Router,
    extract::State,
    middleware,
    routing::{any, delete, get, post},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the handlers answer from.
#[derive(Clone)]
pub(crate) struct Front {
    balancer: Balancer,
    access: Arc<Access>,
}

impl Balancer {
    /// The public interface: what an Ollama answers, over all nodes.
    pub fn router(&self, access: Access) -> Router {
        let front = Front {
            balancer: self.clone(),
            access: Arc::new(access),
        };
        let managing = Router::new()
            .route("/api/pull", post(fan_out::to_all))
            .route("/api/push", post(fan_out::to_having))
            .route("/api/create", post(fan_out::to_all))
            .route("/api/copy", post(fan_out::to_having))
            .route("/api/delete", delete(fan_out::to_having))
            .route("/api/blobs/{digest}", any(fan_out::to_all))
            .route_layer(middleware::from_fn_with_state(
                front.clone(),
                access::administrators,
            ));
        Router::new()
            .route("/", get(async || "Ollama is running"))
            .route("/health", get(health))
            .route("/api/version", get(lists::version))
            .route("/api/tags", get(lists::tags))
            .route("/api/ps", get(lists::running))
            .route("/v1/models", get(lists::models))
            .route("/v1/models/{*model}", get(lists::model))
            .route("/api/chat", post(infer::answer))
            .route("/api/generate", post(infer::answer))
            .route("/api/embed", post(infer::answer))
            .route("/api/embeddings", post(infer::answer))
            .route("/api/show", post(infer::show))
            .route("/v1/chat/completions", post(infer::answer))
            .route("/v1/completions", post(infer::answer))
            .route("/v1/embeddings", post(infer::answer))
            .route("/v1/responses", post(infer::answer))
            .route("/v1/messages", post(infer::answer))
            .merge(managing)
            .fallback(any(infer::pass))
            // A page's browser asks with OPTIONS first, which the nodes know how to answer.
            .method_not_allowed_fallback(infer::pass)
            .with_state(front)
    }

    /// The admin interface, below `/admin`.
    pub fn admin_router(&self, access: Access) -> Router {
        admin::router(Front {
            balancer: self.clone(),
            access: Arc::new(access),
        })
    }
}

/// `GET /health`: the nodes and their scores.
async fn health(State(front): State<Front>) -> Json<Value> {
    let shared = &front.balancer.shared;
    let nodes = shared.pool.nodes();
    let listed: Vec<_> = nodes
        .iter()
        .map(|node| {
            let figures = node.figures();
            json!({
                "name": node.name,
                "up": node.offer().is_some(),
                "health_score": figures.health_score,
                "avg_response_time": figures.response_time,
                "active_connections": figures.active,
                "error_rate": figures.error_rate,
                "queue_size": shared.queued_for(node, &nodes),
            })
        })
        .collect();
    let is_served = nodes.iter().any(|node| node.offer().is_some());
    let status = if is_served { "ok" } else { "no_healthy_node" };
    Json(json!({"status": status, "strategy": shared.policy.strategy(), "nodes": listed}))
}
