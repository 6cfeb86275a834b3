//! `[balancer]`: which node gets a request, and how long things may take.

use crate::{Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// More slots than any node has use for.
pub(crate) const MAX_SLOTS: u32 = 1_000_000;

/// Which node gets a request, and how long things may take; for the role `balancer` and for the balancer inside `serve`
/// and `api`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BalancerSection {
    /// How a node is chosen; can also be switched while it runs.
    pub strategy: Strategy,
    /// Requests that a node works on at once, unless `nodes.urls` says otherwise of it. Unset: learnt from how it behaves.
    pub slots: Option<u32>,
    /// Requests that may wait for a slot; further ones get 503.
    pub max_queue: usize,
    /// Seconds a request may wait for a slot before it gets 503.
    pub queue_seconds: u64,
    /// Seconds to open a connection to a node.
    pub connect_seconds: u64,
    /// Seconds from a request to its answer's beginning; a model may have to be loaded first.
    pub first_token_seconds: u64,
    /// Seconds between two pieces of an answer.
    pub token_seconds: u64,
    /// Seconds an answer may take in all.
    pub total_seconds: u64,
    /// Seconds between two looks at a node.
    pub probe_seconds: u64,
    /// Largest request body, bytes.
    pub body_bytes: usize,
    /// Whether an answer whose node died is continued on another one.
    pub resume: bool,
    /// The key that an administrator's requests carry (`Authorization: Bearer …`): changes of models on the public port,
    /// and everything on the admin port where it is not loopback.
    pub admin_key: Option<Secret>,
    /// A file that holds `admin_key`.
    pub admin_key_file: Option<PathBuf>,
    /// What a trusted caller sends as `X-Jarvis-Internal`, so that its `X-Jarvis-User` and `X-Jarvis-Priority` are believed.
    pub internal_secret: Option<Secret>,
    /// A file that holds `internal_secret`.
    pub internal_secret_file: Option<PathBuf>,
    /// A file to which arrivals, sizes and times (no content) are written, for `jarvis balancer replay`. What it
    /// holds at a start tells `adaptive` what the models take.
    pub trace: Option<PathBuf>,
}

/// How a node is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn.
    RoundRobin,
    /// The node with the fewest running requests.
    LeastConnections,
    /// By the time to the first byte of late, and by what runs.
    WeightedResponseTime,
    /// The node with the shortest queue.
    QueueLength,
    /// The node that is expected to be done first, learnt from what happened.
    #[default]
    Adaptive,
}

impl Default for BalancerSection {
    fn default() -> Self {
        Self {
            strategy: Strategy::Adaptive,
            slots: None,
            max_queue: 512,
            queue_seconds: 300,
            connect_seconds: 2,
            first_token_seconds: 300,
            token_seconds: 60,
            total_seconds: 3600,
            probe_seconds: 5,
            body_bytes: 32 << 20,
            resume: true,
            admin_key: None,
            admin_key_file: None,
            internal_secret: None,
            internal_secret_file: None,
            trace: None,
        }
    }
}

impl BalancerSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        let seconds = [
            ("balancer.queue_seconds", self.queue_seconds),
            ("balancer.connect_seconds", self.connect_seconds),
            ("balancer.first_token_seconds", self.first_token_seconds),
            ("balancer.token_seconds", self.token_seconds),
            ("balancer.total_seconds", self.total_seconds),
            ("balancer.probe_seconds", self.probe_seconds),
        ];
        for (key, value) in seconds {
            if !(1..=86_400).contains(&value) {
                problems.push(Problem::new(key, "must be from 1 to 86400"));
            }
        }
        if self.slots.is_some_and(|n| !(1..=MAX_SLOTS).contains(&n)) {
            let text = format!("must be from 1 to {MAX_SLOTS}");
            problems.push(Problem::new("balancer.slots", text));
        }
        if self.max_queue > 100_000 {
            problems.push(Problem::new("balancer.max_queue", "must be at most 100000"));
        }
        if !(1 << 10..=1 << 30).contains(&self.body_bytes) {
            problems.push(Problem::new(
                "balancer.body_bytes",
                "must be from 1024 to 1073741824",
            ));
        }
        let keys = [
            ("balancer.admin_key", &self.admin_key),
            ("balancer.internal_secret", &self.internal_secret),
        ];
        for (key, secret) in keys {
            if secret.as_ref().is_some_and(|s| s.expose().len() < 16) {
                problems.push(Problem::new(
                    key,
                    "must have at least 16 characters; `openssl rand -hex 32` makes one",
                ));
            }
        }
    }
}
