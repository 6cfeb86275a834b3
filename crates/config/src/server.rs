//! `[server]`: addresses, connection limits and shutdown.

use crate::{ListenAddress, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Addresses, connection limits and shutdown.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSection {
    /// The public address. Unset: 127.0.0.1 and the role's own port (serve 8080, api 8000,
    /// engine 11435, web 3000).
    pub listen: Option<ListenAddress>,
    /// The address of metrics and health checks. Unset: 127.0.0.1 and the public port + 1000.
    pub admin_listen: Option<ListenAddress>,
    /// Threads of the server, and of the embedded engine unless `engine.threads` says otherwise.
    /// Unset: one per processor.
    pub threads: Option<usize>,
    /// Connections open at once; further ones wait to be accepted. Fewer where the limit of open files is low.
    pub max_connections: usize,
    /// Seconds a client may take to send its request headers.
    pub header_timeout_seconds: u64,
    /// Bytes of request line and headers together.
    pub max_header_bytes: usize,
    /// Web origins besides our own whose pages may connect, as `https://chat.example.org`.
    pub allowed_origins: Vec<String>,
    /// Addresses of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Seconds that running requests get to end after SIGTERM.
    pub shutdown_seconds: u64,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: None,
            admin_listen: None,
            threads: None,
            max_connections: 20_000,
            header_timeout_seconds: 10,
            max_header_bytes: 32 * 1024,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            shutdown_seconds: 10,
        }
    }
}

impl ServerSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        if self.threads.is_some_and(|n| n == 0 || n > 1024) {
            problems.push(Problem::new("server.threads", "must be from 1 to 1024"));
        }
        if self.max_connections == 0 {
            problems.push(Problem::new("server.max_connections", "must be at least 1"));
        }
        if self.header_timeout_seconds == 0 {
            problems.push(Problem::new(
                "server.header_timeout_seconds",
                "must be at least 1",
            ));
        }
        if !(8 * 1024..=1024 * 1024).contains(&self.max_header_bytes) {
            problems.push(Problem::new(
                "server.max_header_bytes",
                "must be from 8192 to 1048576",
            ));
        }
        for origin in &self.allowed_origins {
            if !is_origin(origin) {
                problems.push(Problem::new(
                    "server.allowed_origins",
                    format!("`{origin}` is not an origin; write it as https://chat.example.org, without a path"),
                ));
            }
        }
        if let (Some(public), Some(admin)) = (self.listen, self.admin_listen)
            && public == admin
            && public.0.port() != 0
        {
            problems.push(Problem::new(
                "server.admin_listen",
                format!("is {admin}, the public address itself; metrics and health need one of their own"),
            ));
        }
    }
}

/// `http(s)://host[:port]` and nothing behind it.
fn is_origin(text: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .is_some_and(|host| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
            !host.is_empty() && host.chars().all(allowed)
        })
}
