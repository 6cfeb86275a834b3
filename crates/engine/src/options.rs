use std::{path::PathBuf, time::Duration};

use jarvis_domain::Clock;
use jarvis_protocol::ollama::KeepAlive;

/// Everything the engine is told at start.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where the model store lies (the data directory's `models/`).
    pub models_dir: PathBuf,
    /// Model to load in the background at start, and the one a list marks as default.
    pub default_model: Option<String>,
    /// Threads that compute; `None`: as many as the machine has cores.
    pub threads: Option<usize>,
    /// Requests that decode together on one model.
    pub parallel: usize,
    /// Requests that may wait for one model beyond those that decode; more are answered 503.
    pub max_queue: usize,
    /// Context window of a request that names none, tokens. Never more than the model was trained on.
    pub num_ctx: usize,
    /// How long a model stays loaded when the request does not say.
    pub keep_alive: KeepAlive,
    /// Generating models in memory at once; the one idle the longest makes room.
    pub max_loaded: usize,
    /// Whether a conversation's prefix is taken from the cache. With `false` and `parallel` 1, temperature 0
    /// or a seed gives the same answer bit for bit.
    pub prefix_reuse: bool,
    /// Longest time one step may take, so that neither a token nor a cancellation waits longer for it.
    pub step_time: Duration,
    /// Largest request body, bytes (uploads of model files are not bounded by it).
    pub max_body: usize,
    /// Where the time comes from.
    pub clock: Clock,
}

impl EngineOptions {
    /// The defaults, with the model store in `models_dir`.
    pub fn new(models_dir: impl Into<PathBuf>) -> Self {
        Self {
            models_dir: models_dir.into(),
            default_model: None,
            threads: None,
            parallel: 4,
            max_queue: 512,
            num_ctx: 4096,
            keep_alive: KeepAlive::For(Duration::from_mins(5)),
            max_loaded: 3,
            prefix_reuse: true,
            step_time: Duration::from_millis(80),
            max_body: 32 << 20,
            clock: Clock::System,
        }
    }

    /// The number of computing threads that results.
    pub fn effective_threads(&self) -> usize {
        self.threads
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1)
            .max(1)
    }
}
