//! The admin listener: metrics, health, and what the role adds, for operators only.

use crate::{lifecycle::Lifecycle, site::Site};
use axum::{
    Json, Router,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::future::BoxFuture;
use jarvis_balancer::Balancer;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

/// What the admin listener answers from.
#[derive(Clone)]
pub(crate) struct Admin {
    /// The metrics.
    pub(crate) metrics: PrometheusHandle,
    /// Tells when the stop begins.
    pub(crate) lifecycle: Lifecycle,
    /// The role's own part, once everything that it needs has started.
    pub(crate) role: Arc<OnceLock<RolePart>>,
}

/// What a role adds.
pub(crate) struct RolePart {
    /// Its own routes.
    pub(crate) site: Site,
    /// What it says of its parts.
    pub(crate) condition: Option<Condition>,
    /// Whose nodes the metrics tell of.
    pub(crate) balancer: Option<Balancer>,
}

/// Says what works and what does not: an object with a `status`, `ok` or `degraded`.
pub(crate) type Condition = Box<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>;

impl Admin {
    /// `/metrics`, `/health/live` and `/health/ready`.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .fallback(role)
            .with_state(self)
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    admin.metrics.run_upkeep();
    let mut text = admin.metrics.render();
    if let Some(balancer) = admin.role.get().and_then(|part| part.balancer.as_ref()) {
        text = balancer.without_removed(&text);
    }
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn role(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    match admin.role.get() {
        Some(part) => part.site.answer(peer, request).await,
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn live() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// A process that runs in part is ready still: all of its kind share what is down, and none would be left.
async fn ready(State(admin): State<Admin>) -> Response {
    let not = |status| {
        let body = Json(json!({ "status": status }));
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    };
    if admin.lifecycle.soft().is_cancelled() {
        return not("stopping");
    }
    match admin.role.get() {
        None => not("starting"),
        Some(RolePart {
            condition: Some(condition),
            ..
        }) => Json(condition().await).into_response(),
        Some(_) => Json(json!({"status": "ok"})).into_response(),
    }
}
