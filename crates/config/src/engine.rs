//! `[engine]`: the embedded model server.

use crate::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The embedded model server.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSection {
    /// Whether `serve` runs it; without it at least one other node is needed.
    pub enabled: bool,
    /// Threads that compute. Unset: as `server.threads`.
    pub threads: Option<usize>,
    /// Requests decoded together.
    pub parallel: usize,
    /// Requests that may wait; further ones get 503.
    pub max_queue: usize,
    /// Tokens of context of a request that names no number; never more than the model was trained
    /// for.
    pub context: usize,
    /// Whether a conversation's unchanged beginning is taken from the cache. Off together with
    /// `parallel = 1` makes answers at temperature 0 or with a seed reproducible bit for bit.
    pub prefix_reuse: bool,
    /// The model loaded at start. Unset: the embedded one.
    pub default_model: Option<String>,
    /// Seconds an unused model stays in memory.
    pub keep_alive_seconds: u64,
}

impl Default for EngineSection {
    fn default() -> Self {
        Self {
            enabled: true,
            threads: None,
            parallel: 4,
            max_queue: 512,
            context: 4096,
            prefix_reuse: true,
            default_model: None,
            keep_alive_seconds: 300,
        }
    }
}

impl EngineSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        if self.threads.is_some_and(|n| n == 0 || n > 1024) {
            problems.push(Problem::new("engine.threads", "must be from 1 to 1024"));
        }
        if !(1..=64).contains(&self.parallel) {
            problems.push(Problem::new("engine.parallel", "must be from 1 to 64"));
        }
        if self.max_queue > 100_000 {
            problems.push(Problem::new("engine.max_queue", "must be at most 100000"));
        }
        if !(256..=1 << 20).contains(&self.context) {
            problems.push(Problem::new(
                "engine.context",
                "must be from 256 to 1048576",
            ));
        }
        if self.default_model.as_deref().is_some_and(str::is_empty) {
            problems.push(Problem::new(
                "engine.default_model",
                "is empty; leave it out to use the embedded model",
            ));
        }
    }
}
