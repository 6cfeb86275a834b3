//! Keeps the pages of other sites away from listeners that trust whoever reaches them.
//!
//! A listener on loopback is for the programs of this machine, yet any web page that its owner visits reaches it through
//! the browser: by a name of the page's own that resolves to 127.0.0.1 (seen by its `Host`), or by a plain cross-site
//! request (seen by its `Origin`). Addresses and `localhost` are no site's names, so they are always let in.

use crate::refusal::Shape;
use axum::{
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::Response,
};
use std::{net::IpAddr, sync::Arc};

/// What one listener lets in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard {
    /// Whether a foreign `Host` is refused.
    pub(crate) hosts: bool,
    /// Whether a foreign `Origin` is refused; where it is not, the routes themselves decide.
    pub(crate) origins: bool,
    /// Origins that the configuration names, as `https://chat.example.org`.
    pub(crate) allowed: Arc<[String]>,
}

impl Guard {
    /// The answer to a request from elsewhere; `None`: it is to be let in.
    pub(crate) fn refusal(&self, shape: Shape, headers: &HeaderMap) -> Option<Response> {
        if self.hosts
            && let Some(host) = text(headers, &header::HOST)
            && !self.is_ours(host)
        {
            let why = format!(
                "This address is for the programs of this machine, and `{host}` is none of its names. If a proxy \
                 passes the request on, add its origin to server.allowed_origins."
            );
            let status = StatusCode::MISDIRECTED_REQUEST;
            return Some(shape.refusal(status, "foreign_host", &why));
        }
        if self.origins
            && headers.contains_key(header::ORIGIN)
            && !text(headers, &header::ORIGIN).is_some_and(|origin| self.knows(origin))
        {
            let why = "Pages of other sites may not use this address; server.allowed_origins names those that may.";
            return Some(shape.refusal(StatusCode::FORBIDDEN, "foreign_origin", why));
        }
        None
    }

    fn knows(&self, origin: &str) -> bool {
        let plain = origin.split_once("://").map(|(_, authority)| authority);
        self.allowed.iter().any(|allowed| allowed == origin) || plain.is_some_and(is_local)
    }

    fn is_ours(&self, host: &str) -> bool {
        is_local(host)
            || self.allowed.iter().any(|origin| {
                origin
                    .split_once("://")
                    .is_some_and(|(_, authority)| authority == host)
            })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // A header that is not text is as foreign as any.
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

/// Whether an authority, its port left aside, is an address or `localhost`.
fn is_local(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || host
            .rsplit_once('.')
            .is_some_and(|(_, last)| last.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &Guard, name: HeaderName, value: &str) -> u16 {
        let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
        let refused = guard.refusal(Shape::Text, &headers);
        refused.map_or(200, |refused| refused.status().as_u16())
    }

    #[test]
    fn names_of_other_sites_are_refused_on_loopback() {
        let guard = Guard {
            hosts: true,
            origins: false,
            allowed: Arc::from(["https://chat.example.org".to_owned()]),
        };
        for ours in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.168.1.7",
            "jarvis.localhost",
            "chat.example.org",
        ] {
            assert_eq!(status(&guard, header::HOST, ours), 200, "{ours}");
        }
        for foreign in [
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "[evil",
            "chat.example.org.evil",
        ] {
            assert_eq!(status(&guard, header::HOST, foreign), 421, "{foreign}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_where_nobody_signs_in() {
        let guard = Guard {
            hosts: false,
            origins: true,
            allowed: Arc::from(["https://chat.example.org".to_owned()]),
        };
        for ours in [
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "https://chat.example.org",
        ] {
            assert_eq!(status(&guard, header::ORIGIN, ours), 200, "{ours}");
        }
        for foreign in [
            "https://evil.example",
            "null",
            "https://chat.example.org.evil",
            "http://chat.example.org",
        ] {
            assert_eq!(status(&guard, header::ORIGIN, foreign), 403, "{foreign}");
        }
        assert_eq!(status(&guard, header::HOST, "ollama:11435"), 200);
    }
}
