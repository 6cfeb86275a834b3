//! A host and a port, as addresses of other servers name them.

use std::net::Ipv6Addr;

/// The host, an IPv6 address without its brackets, and the port, of `name`, `name:port`, `[address]` or `[address]:port`;
/// `None` of anything else. Names are not looked up.
pub(crate) fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        (address, rest)
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    // Colons are left in bracketed addresses alone.
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    if host.is_empty() || !host.chars().all(allowed) {
        return None;
    }
    let port = match rest {
        "" => None,
        rest => Some(
            rest.strip_prefix(':')?
                .parse()
                .ok()
                .filter(|port| *port != 0)?,
        ),
    };
    Some((host, port))
}

/// A mistaken address as it may be shown: without what stands before an `@`, which may be a password.
pub(crate) fn without_user(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::{host_and_port, without_user};

    #[test]
    fn addresses_are_told_from_other_text() {
        for (text, host, port) in [
            ("redis-1:6379", "redis-1", Some(6379)),
            ("db_1.example", "db_1.example", None),
            ("10.0.0.1:7000", "10.0.0.1", Some(7000)),
            ("[::1]:6379", "::1", Some(6379)),
            ("[fe80::1]", "fe80::1", None),
        ] {
            assert_eq!(host_and_port(text), Some((host, port)), "{text}");
        }
        for bad in [
            "",
            ":6379",
            "a:",
            "a:0",
            "a:70000",
            "a:b:1",
            "::1:6379",
            "[::1",
            "[x]:1",
            "[::1]6379",
            "a b:1",
            "a/b",
            "u@a:1",
        ] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_before_the_host_is_shown() {
        assert_eq!(
            without_user("redis://ada:hunter2@redis-1:6379"),
            "redis-1:6379"
        );
        assert_eq!(without_user("http://gpu 1"), "http://gpu 1");
    }
}
