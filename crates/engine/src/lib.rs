//! A model server: llama.cpp in process behind the Ollama and OpenAI APIs.
//!
//! [`Engine::start`] is quick: models are loaded when they are first asked for, the default one in the background.
//! [`Engine::router`] is served on a port by `jarvis engine` and called in process by the balancer of `jarvis
//! serve`.

mod catalog;
mod cpu;
mod embed;
pub mod embedded;
mod error;
mod gguf;
mod grammar;
mod http;
mod models;
mod options;
mod prompt;
mod runtime;
mod sampling;
mod service;
mod template;
mod text;

use std::sync::Arc;

use jarvis_protocol::ollama::Options;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use catalog::{Catalog, DamagedManifest, Import, Kind, Manifest, ModelName, Removed, Survey};
pub use cpu::missing_features;
pub use error::EngineError;
pub use gguf::{Gguf, GgufError};
pub use options::EngineOptions;

use embed::Embedders;
use models::Models;
use service::Call;

/// The model server. Clones are the same server.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: EngineOptions,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) models: Models,
    pub(crate) embedders: Embedders,
    pub(crate) closing: CancellationToken,
    tasks: TaskTracker,
}

impl Inner {
    /// Takes a model out of memory whose files have changed.
    pub(crate) fn forget(&self, name: &str) {
        self.models.unload(name);
        self.embedders.unload(name);
    }
}

impl Engine {
    /// Opens the model store and begins to load the default model in the background. Must be called within a
    /// Tokio runtime.
    ///
    /// # Errors
    /// The processor lacks instructions the build uses; options that make no sense; a store that cannot be
    /// written.
    pub fn start(options: EngineOptions) -> Result<Self, EngineError> {
        let missing = missing_features();
        if !missing.is_empty() {
            return Err(EngineError::Internal(format!(
                "this processor lacks {}, which the model runtime is built with",
                missing.join(", ")
            )));
        }
        if options.parallel == 0 || options.parallel > 256 {
            return Err(EngineError::BadRequest(format!(
                "parallel {}: expected 1 to 256",
                options.parallel
            )));
        }
        let catalog = Arc::new(Catalog::open(&options.models_dir, options.clock.clone())?);
        // The log tells of those that are damaged.
        catalog.list()?;
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let engine = Self(Arc::new(Inner {
            embedders: Embedders::new(
                Arc::clone(&catalog),
                &options,
                tasks.clone(),
                closing.clone(),
            ),
            models: Models::new(Arc::clone(&catalog), options.clone()),
            catalog,
            options,
            closing,
            tasks,
        }));
        engine.preload();
        Ok(engine)
    }

    fn preload(&self) {
        let Some(model) = self.0.options.default_model.clone() else {
            return;
        };
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            let call = |manifest| Call {
                manifest,
                input: None,
                options: Options::default(),
                format: None,
                keep_alive: None,
                resume: None,
                report_tokens: false,
            };
            let closing = inner.closing.clone();
            let loading = async { inner.start(call(inner.manifest(&model).await?)).await };
            let loaded = closing.run_until_cancelled(loading).await;
            if let Some(Err(error)) = loaded {
                tracing::warn!(model, %error, "the default model could not be loaded");
            }
        });
    }

    /// Both dialects. Each call makes a router on the same engine.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.0))
    }

    /// The models on disk.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.0.catalog
    }

    /// Ends all computing. What is in hand ends with an error, so let streams drain first.
    pub async fn shutdown(&self) {
        self.0.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        let inner = Arc::clone(&self.0);
        if let Err(error) = tokio::task::spawn_blocking(move || inner.models.shutdown()).await {
            tracing::error!(%error, "shutting down the models");
        }
    }
}
