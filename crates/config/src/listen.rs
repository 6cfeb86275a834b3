//! An address to listen on.

use crate::text::written_as_text;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// `IP:port`, or `localhost:port` for 127.0.0.1. Never resolved over a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl ListenAddress {
    /// An address of this machine that other machines cannot reach.
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().map(Self).map_err(|_| {
            format!(
                "`{text}` is not an address to listen on; write an IP address and a port, as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080"
            )
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written_as_text!(ListenAddress);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_the_ipv4_loopback() {
        assert_eq!("localhost:8080".parse(), Ok(ListenAddress::loopback(8080)));
    }

    #[test]
    fn a_missing_port_is_explained() {
        let error = "127.0.0.1".parse::<ListenAddress>().unwrap_err();
        assert!(error.contains("a port"), "{error}");
    }

    #[test]
    fn ipv6_works() {
        assert!("[::1]:9".parse::<ListenAddress>().is_ok());
    }
}
