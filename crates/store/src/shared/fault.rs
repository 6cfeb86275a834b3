//! What can be wrong with the cluster.

use redis::{ErrorKind, RedisError, ServerErrorKind};
use std::time::Duration;

/// Why the Redis Cluster did not do something. Whether it did it all the same is not known, except where it refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisFault {
    /// The cluster names no master for the key.
    #[error("no node of the Redis Cluster serves this key")]
    Unserved,
    /// There is no connection.
    #[error("the Redis node {node} cannot be reached: {why}")]
    Unreachable {
        /// `host:port`.
        node: Box<str>,
        /// In the words of the system.
        why: Box<str>,
    },
    /// It was asked and has not answered in time.
    #[error("the Redis node {node} has not answered within {deadline:?}")]
    Silent {
        /// `host:port`.
        node: Box<str>,
        /// How long it had.
        deadline: Duration,
    },
    /// It will not do that now: it is loading, read-only or full, or does not serve the key.
    #[error("the Redis node {node} refuses: {why}")]
    Refused {
        /// `host:port`.
        node: Box<str>,
        /// In the words of the server.
        why: Box<str>,
    },
    /// It does not take the password, or wants one.
    #[error("the Redis node {node} does not let us in: {why}")]
    Denied {
        /// `host:port`.
        node: Box<str>,
        /// In the words of the server.
        why: Box<str>,
    },
    /// It holds what this program has not written.
    #[error("the Redis node {node} holds something else under this key")]
    Foreign {
        /// `host:port`.
        node: Box<str>,
    },
}

impl RedisFault {
    pub(super) fn unreachable(node: &str, why: &str) -> Self {
        let (node, why) = (node.into(), why.into());
        Self::Unreachable { node, why }
    }

    pub(super) fn silent(node: &str, deadline: Duration) -> Self {
        let node = node.into();
        Self::Silent { node, deadline }
    }

    pub(crate) fn refused(node: &str, why: &str) -> Self {
        let (node, why) = (node.into(), why.into());
        Self::Refused { node, why }
    }

    pub(crate) fn foreign(node: &str) -> Self {
        let node = node.into();
        Self::Foreign { node }
    }

    /// Of an error while a connection is set up, which begins with the password.
    pub(super) fn of_set_up(node: &str, error: &RedisError) -> Self {
        let why = error.to_string();
        let denied = match error.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => true,
            _ => matches!(error.code(), Some("NOAUTH" | "WRONGPASS")),
        };
        if denied {
            let (node, why) = (node.into(), why.into());
            return Self::Denied { node, why };
        }
        Self::unreachable(node, &why)
    }
}

/// Why the Redis Cluster cannot be used at all, however long one waits.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// The password is wrong, or there is none and one is needed.
    #[error(transparent)]
    Denied(RedisFault),
    /// No node's name leads to an address.
    #[error("no node of the Redis Cluster has an address: {0}")]
    Unknown(String),
    /// A server that is no member of a cluster.
    #[error(
        "the Redis node {0} is not part of a Redis Cluster (its setting is `cluster-enabled yes`)"
    )]
    NoCluster(String),
    /// A server that is too old.
    #[error("the Redis node {node} is of version {version}; at least 7.0 is needed")]
    TooOld {
        /// `host:port`.
        node: String,
        /// As it says itself.
        version: String,
    },
}
