//! `/ws`: one authenticated socket per page, over which questions go out and answers come in.

mod followed;
mod frames;
mod session;
mod wire;

pub(crate) use frames::ServerFrame;

use crate::{app::App, forwarded, problem::Problem};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Changes the protocol of a connection, if the request asks for it in due form and comes from a page of ours.
pub(crate) async fn upgrade(
    State(app): State<App>,
    mut request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    if !forwarded::is_same_origin(&app.options, headers) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "this page is not of this installation",
        ));
    }
    let key = handshake_key(headers)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|error| Problem::internal("a handshake could not be answered", &error))?;
    if app.stopping.is_cancelled() {
        return Err(Problem::stopping());
    }
    let upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| Problem::malformed("this connection cannot change its protocol"))?;
    app.tasks.spawn(session::run(app.clone(), upgrade));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// The client's key, once everything else that RFC 6455 asks of the request is there.
fn handshake_key(headers: &HeaderMap) -> Result<&str, Problem> {
    let names = |name: HeaderName, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    if !names(header::CONNECTION, "upgrade") || !names(header::UPGRADE, "websocket") {
        return Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            "this address speaks WebSocket only",
        ));
    }
    if !names(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Problem::malformed("`Sec-WebSocket-Version` must be 13"));
    }
    headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok())
        .ok_or_else(|| Problem::malformed("`Sec-WebSocket-Key` is missing"))
}
