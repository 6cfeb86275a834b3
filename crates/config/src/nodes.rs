//! `[nodes]`: other model servers.

use crate::{
    Problem,
    address::{host_and_port, without_user},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Other model servers that speak the Ollama API.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodesSection {
    /// Base addresses, as `http://192.0.2.10:11434`; `dns+http://ollama.example:11434` makes every address of that name a
    /// node, also those that come later.
    pub urls: Vec<String>,
    /// Whether `serve` looks for an Ollama on 127.0.0.1:11434 and offers its models too.
    pub discover: bool,
}

impl Default for NodesSection {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            discover: true,
        }
    }
}

impl NodesSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        for url in &self.urls {
            if !is_node_url(url) {
                problems.push(Problem::new(
                    "nodes.urls",
                    format!(
                        "`{}` is not a node's address; write it as http://host:11434",
                        without_user(url)
                    ),
                ));
            }
        }
    }
}

/// `http://host[:port]`, perhaps after `dns+`, with nothing behind it but perhaps one slash: what the balancer takes for a
/// node's address, checked here so that a mistake is told with its place.
fn is_node_url(url: &str) -> bool {
    let url = url.strip_prefix("dns+").unwrap_or(url);
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    host_and_port(rest.strip_suffix('/').unwrap_or(rest)).is_some()
}

#[cfg(test)]
mod tests {
    use super::is_node_url;

    #[test]
    fn addresses_are_told_from_other_text() {
        for good in [
            "http://a",
            "http://a:11434",
            "http://10.0.0.1:80/",
            "http://[::1]:11434",
            "http://[::1]",
            "dns+http://ollama:11434",
        ] {
            assert!(is_node_url(good), "{good}");
        }
        for bad in [
            "a:11434",
            "dns+a:11434",
            "http://",
            "http://:80",
            "http://a:port",
            "http://a:99999",
            "http://a:0",
            "http://[a]",
            "http://a/api",
            "http://a b",
            "http://a\r\nX: y",
        ] {
            assert!(!is_node_url(bad), "{bad}");
        }
    }
}
