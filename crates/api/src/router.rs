//! Every route, each with its meter.

use crate::{
    app::App, auth, conversations, generations, invitations, limits, me, messages, meter, models,
    openapi, problem::Problem, status, ws,
};
use axum::{
    Router,
    http::{StatusCode, header},
    middleware,
    routing::{MethodRouter, any, delete, get, patch, post},
};

/// The routes of the public port.
pub(crate) fn routes(app: &App) -> Router {
    let routes: [(&'static str, MethodRouter<App>); 20] = [
        ("/api/v1/instance", get(status::instance)),
        ("/api/v1/auth/register", post(auth::register)),
        ("/api/v1/auth/login", post(auth::login)),
        ("/api/v1/auth/refresh", post(auth::refresh)),
        ("/api/v1/auth/logout", post(auth::logout)),
        ("/api/v1/me", get(me::me)),
        (
            "/api/v1/invitations",
            get(invitations::list).post(invitations::create),
        ),
        ("/api/v1/invitations/{id}", delete(invitations::withdraw)),
        ("/api/v1/models", get(models::list)),
        ("/api/v1/status", get(status::status)),
        (
            "/api/v1/conversations",
            get(conversations::list).post(conversations::create),
        ),
        (
            "/api/v1/conversations/{id}",
            patch(conversations::update)
                .get(conversations::get)
                .delete(conversations::delete),
        ),
        (
            "/api/v1/conversations/{id}/messages",
            get(messages::list).post(messages::send),
        ),
        (
            "/api/v1/conversations/{id}/regenerate",
            post(messages::regenerate),
        ),
        ("/api/v1/generations/{id}", get(generations::get)),
        ("/api/v1/generations/{id}/events", get(generations::events)),
        ("/api/v1/generations/{id}/cancel", post(generations::cancel)),
        ("/api/openapi.json", get(document)),
        ("/health", get(health)),
        ("/ws", get(ws::upgrade)),
    ];
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            let mut methods = methods.fallback(wrong_method);
            if app.limits.mind_addresses() && is_counted(path) {
                let count = middleware::from_fn_with_state(app.clone(), limits::count_address);
                methods = methods.layer(count);
            }
            router.route(path, methods.layer(meter::MeterLayer::new(path)))
        })
        .route("/api", any(nothing_here))
        .route("/api/", any(nothing_here))
        .route("/api/{*rest}", any(nothing_here))
        .with_state(app.clone())
}

/// Whether requests for it are counted by address: not those of a proxy that looks whether somebody is there.
fn is_counted(path: &str) -> bool {
    path.starts_with("/api/v1/") || path == "/ws"
}

async fn nothing_here() -> Problem {
    Problem::not_found()
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this address does not take this method",
    )
}

async fn health() -> ([(header::HeaderName, &'static str); 1], &'static str) {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, "{\"status\":\"ok\"}")
}

async fn document() -> ([(header::HeaderName, &'static str); 1], &'static str) {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, openapi::text())
}
