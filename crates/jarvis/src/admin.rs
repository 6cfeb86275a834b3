//! The admin listener: metrics, health, and what the role adds, for operators only.

use crate::{lifecycle::Lifecycle, site::Site};
use axum::{
    Json, Router,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// What the admin listener answers from.
#[derive(Clone)]
pub(crate) struct Admin {
    /// The metrics.
    pub(crate) metrics: PrometheusHandle,
    /// Set when everything the role needs has started.
    pub(crate) started: Arc<AtomicBool>,
    /// Tells when the stop begins.
    pub(crate) lifecycle: Lifecycle,
    /// The role's own routes, once it has started.
    pub(crate) role: Arc<OnceLock<Site>>,
}

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
    let text = admin.metrics.render();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn role(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    match admin.role.get() {
        Some(site) => site.answer(peer, request).await,
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn live() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    let (code, status) = if admin.lifecycle.soft().is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping")
    } else if admin.started.load(Ordering::Acquire) {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting")
    };
    (code, Json(json!({"status": status}))).into_response()
}
