//! Where a request comes from: the peer's address, the scheme and the page that sent it. What proxies say is believed only
//! from those that the installation names.

use crate::options::Options;
use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap, header},
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The peer of a connection; unspecified where the server does not tell.
fn peer(extensions: &Extensions) -> IpAddr {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| {
            peer.0.ip().to_canonical()
        })
}

/// The client's address: the peer's, or the last address before our own proxies.
pub(crate) fn client(options: &Options, headers: &HeaderMap, extensions: &Extensions) -> IpAddr {
    let peer = peer(extensions);
    if !options.trusted_proxies.contains(&peer) {
        return peer;
    }
    headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|address| address.trim().parse::<IpAddr>().ok())
        // A proxy that listens on IPv6 writes 192.0.2.1 as ::ffff:192.0.2.1.
        .map(|address| address.to_canonical())
        .rfind(|address| !options.trusted_proxies.contains(address))
        .unwrap_or(peer)
}

/// Whether the browser speaks TLS, to us or to a proxy of ours.
pub(crate) fn is_https(options: &Options, headers: &HeaderMap, extensions: &Extensions) -> bool {
    options.trusted_proxies.contains(&peer(extensions))
        && headers
            .get("x-forwarded-proto")
            .is_some_and(|scheme| scheme.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Whether a request that carries cookies comes from a page of ours, or from no page at all.
pub(crate) fn is_same_origin(options: &Options, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return match headers
            .get("sec-fetch-site")
            .map(axum::http::HeaderValue::as_bytes)
        {
            None | Some(b"same-origin" | b"none") => true,
            Some(_) => false,
        };
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    if options
        .allowed_origins
        .iter()
        .any(|allowed| allowed == origin)
    {
        return true;
    }
    let authority = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    matches!((authority, host), (Some(authority), Some(host)) if authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SigningSecret;
    use axum::http::HeaderValue;

    fn options() -> Options {
        let mut options = Options::new(SigningSecret::new(vec![0; 32]).unwrap());
        options.trusted_proxies = vec!["10.0.0.1".parse().unwrap()];
        options.allowed_origins = vec!["https://chat.example".into()];
        options
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }

    fn from(address: &str) -> Extensions {
        let mut extensions = Extensions::new();
        let peer: SocketAddr = format!("{address}:1234").parse().unwrap();
        extensions.insert(ConnectInfo(peer));
        extensions
    }

    #[test]
    fn forwarded_addresses_are_believed_from_our_proxies_alone() {
        let forged = headers(&[
            ("x-forwarded-for", "1.2.3.4, 5.6.7.8, 10.0.0.1"),
            ("x-forwarded-proto", "https"),
        ]);
        let stranger = from("9.9.9.9");
        let proxy = from("10.0.0.1");
        assert_eq!(
            client(&options(), &forged, &stranger).to_string(),
            "9.9.9.9"
        );
        assert!(!is_https(&options(), &forged, &stranger));
        assert_eq!(client(&options(), &forged, &proxy).to_string(), "5.6.7.8");
        assert!(is_https(&options(), &forged, &proxy));
        let mapped = headers(&[("x-forwarded-for", "::ffff:5.6.7.8, ::ffff:10.0.0.1")]);
        assert_eq!(client(&options(), &mapped, &proxy).to_string(), "5.6.7.8");
    }

    #[test]
    fn foreign_pages_are_told_from_ours() {
        let host = ("host", "jarvis.lan:8080");
        for (good, pairs) in [
            (true, vec![host]),
            (true, vec![host, ("origin", "http://jarvis.lan:8080")]),
            (true, vec![host, ("origin", "https://chat.example")]),
            (true, vec![host, ("sec-fetch-site", "same-origin")]),
            (false, vec![host, ("sec-fetch-site", "cross-site")]),
            (false, vec![host, ("sec-fetch-site", "same-site")]),
            (false, vec![host, ("origin", "http://jarvis.lan")]),
            (false, vec![host, ("origin", "null")]),
            (false, vec![host, ("origin", "https://evil.example")]),
            (false, vec![("origin", "https://evil.example")]),
        ] {
            assert_eq!(
                is_same_origin(&options(), &headers(&pairs)),
                good,
                "{pairs:?}"
            );
        }
    }
}
