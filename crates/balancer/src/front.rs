//! The balancer over HTTP, in the place of an Ollama: both dialects on one port, and an admin interface on another.

mod access;
mod admin;
mod fan_out;
mod headers;
mod infer;
mod lists;
mod path;
mod queued;
mod refusal;
mod unload;

pub use access::{Access, ParseSecretError};

use crate::Balancer;
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{Method, Request},
    middleware,
    response::Response,
    routing::{any, delete, get, post},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};
use std::{error::Error, net::SocketAddr, sync::Arc};
use tower::ServiceExt as _;

/// What the handlers answer from.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    balancer: Balancer,
    access: Arc<Access>,
}

/// The public interface: what an Ollama answers, over all nodes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Public {
    front: Front,
    /// For all that is not [`ANSWERED`].
    routes: Router,
}

/// What models answer, sent with POST. That is nearly everything that comes: it is found here, without the router.
const ANSWERED: [&str; 9] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
];

impl Public {
    /// Answers a request that came from `peer`.
    pub fn answer<B>(
        &self,
        peer: SocketAddr,
        request: Request<B>,
    ) -> impl Future<Output = Response> + Send + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let path = request.uri().path();
        let answered = ANSWERED.into_iter().find(|route| *route == path);
        if let Some(route) = answered.filter(|_| request.method() == Method::POST) {
            return infer::answer(&self.front, peer.ip(), route, request).left_future();
        }
        let answer = self.routes.clone().oneshot(request.map(Body::new));
        answer
            .map(|answer| match answer {
                Ok(response) => response,
                Err(never) => match never {},
            })
            .right_future()
    }
}

impl Balancer {
    /// The public interface.
    pub fn public(&self, access: Access) -> Public {
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
        let routes = Router::new()
            .route("/", get(async || "Ollama is running"))
            .route("/health", get(health))
            .route("/api/version", get(lists::version))
            .route("/api/tags", get(lists::tags))
            .route("/api/ps", get(lists::running))
            .route("/v1/models", get(lists::models))
            .route("/v1/models/{*model}", get(lists::model))
            .route("/api/show", post(infer::show))
            .merge(managing)
            .fallback(any(infer::pass))
            // A page's browser asks with OPTIONS first, which the nodes know how to answer.
            .method_not_allowed_fallback(infer::pass)
            .with_state(front.clone());
        Public { front, routes }
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
    let queued = shared.shares(&nodes);
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
                "queue_size": queued.of(node),
            })
        })
        .collect();
    let is_served = nodes.iter().any(|node| node.offer().is_some());
    let status = if is_served { "ok" } else { "no_healthy_node" };
    Json(json!({"status": status, "strategy": shared.policy.strategy(), "nodes": listed}))
}
