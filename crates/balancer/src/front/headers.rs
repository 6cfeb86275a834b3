//! Which headers go through, and which are ours.

use super::{
    access::{Access, INTERNAL, PRIORITY, USER},
    queued,
};
use crate::dispatch::Server;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use std::time::Duration;

/// The node that answers.
pub(super) const NODE: HeaderName = HeaderName::from_static("x-jarvis-node");
/// Why that one.
const REASON: HeaderName = HeaderName::from_static("x-jarvis-reason");
/// How long the request waited for a slot, seconds.
const QUEUE_WAIT: HeaderName = HeaderName::from_static("x-jarvis-queue-wait");

/// In what follows the body, for who takes it: how often the answer went on on another node.
pub(super) const RESUMED: HeaderName = HeaderName::from_static("x-jarvis-resumed");

/// Whether a client takes what follows a body: else nothing is announced.
pub(super) fn takes_trailers(given: &HeaderMap) -> bool {
    let taken = given.get_all(header::TE).into_iter();
    let taken = taken.filter_map(|value| value.to_str().ok());
    let mut codings = taken.flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Whether a header is not for the node: of the client's connection, our own, or about what we change.
fn stays(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::HOST
            | header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::TE
            | header::TRAILER
            | header::UPGRADE
            | header::EXPECT
            | header::ACCEPT_ENCODING
            | header::PROXY_AUTHORIZATION
            | header::PROXY_AUTHENTICATE
    ) || *name == NODE
        || matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | INTERNAL | USER | PRIORITY | queued::EVENTS
        )
}

/// The client's headers as they go to a node: without those of its connection, of our own, and of what we change (a compressed
/// answer could not be followed). The administrators' key is nobody else's. Values are copied out of the buffer of the
/// client's connection.
pub(super) fn to_node(access: &Access, given: &HeaderMap) -> HeaderMap {
    let is_key = access.is_key(given);
    let said = given.get_all(header::CONNECTION).into_iter();
    let said = said.filter_map(|value| value.to_str().ok());
    let named: Vec<_> = said.flat_map(|value| value.split(',')).collect();
    let is_named = |name: &str| {
        let mut named = named.iter();
        named.any(|other| other.trim().eq_ignore_ascii_case(name))
    };
    let is_kept = |name: &HeaderName| {
        stays(name) || is_named(name.as_str()) || is_key && *name == header::AUTHORIZATION
    };
    let going = || given.iter().filter(|(name, _)| !is_kept(name));
    let mut headers = HeaderMap::with_capacity(going().count());
    for (name, value) in going() {
        // It was one already.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name, value);
        }
    }
    headers
}

/// Says on an answer who made it.
pub(super) fn sign(headers: &mut HeaderMap, server: &Server) {
    if let Some(node) = &server.node.signature {
        headers.insert(NODE, node.clone());
    }
    headers.insert(REASON, HeaderValue::from_static(server.reason));
    let waited = server.waited;
    if waited >= Duration::from_millis(1)
        && let Ok(seconds) = HeaderValue::from_str(&format!("{:.3}", waited.as_secs_f64()))
    {
        headers.insert(QUEUE_WAIT, seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_the_connection_or_us_stays_here() {
        let given = [
            ("connection", "x-hop, keep-alive"),
            ("x-hop", "1"),
            ("host", "balancer"),
            ("transfer-encoding", "chunked"),
            ("accept-encoding", "gzip"),
            (INTERNAL, "secret"),
            ("x-jarvis-node", "of ours"),
            ("x-own", "kept"),
            ("authorization", "Bearer kept"),
        ];
        let given = given.map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let sent = to_node(&Access::default(), &HeaderMap::from_iter(given));
        assert_eq!(sent.len(), 2, "{sent:?}");
        assert_eq!(sent["x-own"], "kept");
    }
}
