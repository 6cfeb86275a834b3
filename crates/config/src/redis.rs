//! `[redis]`: the Redis Cluster that instances share.

use crate::{
    Problem, Secret,
    address::{host_and_port, without_user},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The Redis Cluster that the instances of an installation share: the text of answers while they
/// are made, hints, and how often something was tried. One instance alone needs none.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSection {
    /// Some nodes of the cluster, as `host:port`; the others are learnt from these. Empty: no
    /// Redis, everything is kept by this process.
    pub nodes: Vec<String>,
    /// The password of the default user.
    pub password: Option<Secret>,
    /// A file that holds `password`.
    pub password_file: Option<PathBuf>,
    /// What every key and channel begins with; installations that share a cluster have different
    /// ones.
    pub prefix: String,
}

impl Default for RedisSection {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            password: None,
            password_file: None,
            prefix: "jarvis".to_owned(),
        }
    }
}

impl RedisSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        for node in &self.nodes {
            if !is_node(node) {
                problems.push(Problem::new(
                    "redis.nodes",
                    format!(
                        "`{}` is not a node's address; write it as host:6379",
                        without_user(node)
                    ),
                ));
            }
        }
        // Braces would choose the slot of every key.
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(allowed) {
            problems.push(Problem::new(
                "redis.prefix",
                "must be 1 to 64 letters, digits, or any of - _ . :",
            ));
        }
    }
}

/// `host:port`.
fn is_node(text: &str) -> bool {
    matches!(host_and_port(text), Some((_, Some(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_text() {
        for good in ["redis-1:6379", "10.0.0.1:7000", "[::1]:6379"] {
            assert!(is_node(good), "{good}");
        }
        for bad in [
            "redis-1",
            ":6379",
            "a:0",
            "a:70000",
            "::1:6379",
            "redis://a:6379",
            "a b:1",
        ] {
            assert!(!is_node(bad), "{bad}");
        }
    }

    #[test]
    fn a_prefix_must_not_choose_slots() {
        let problems = |prefix: &str| {
            let mut problems = Vec::new();
            let section = RedisSection {
                prefix: prefix.to_owned(),
                ..RedisSection::default()
            };
            section.validate(&mut problems);
            problems.len()
        };
        assert_eq!((problems("jarvis"), problems("a:b.c_d-1")), (0, 0));
        assert_eq!((problems(""), problems("{a}"), problems("a b")), (1, 1, 1));
    }
}
