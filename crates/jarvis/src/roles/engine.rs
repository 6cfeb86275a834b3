//! The model server alone, speaking the Ollama and OpenAI APIs; also the part of it inside `serve`.

use super::{Context, Running, health};
use crate::{commands, data_dir};
use anyhow::{Context as _, Result, bail};
use axum::{Router, routing::get};
use futures_util::FutureExt as _;
use jarvis_config::{EngineSection, Loaded};
use jarvis_engine::{Engine, EngineOptions, embedded};
use jarvis_protocol::ollama::KeepAlive;
use std::{path::PathBuf, time::Duration};

/// Starts the role on its own.
pub(super) fn start(context: &Context) -> Result<Running> {
    let dir = &context.loaded.data_dir;
    data_dir::create(dir)?;
    data_dir::probe(dir)?;
    let engine = launch(&context.loaded)?;
    let router = Router::new()
        .route("/health", get(health))
        .fallback_service(engine.router());
    Ok(Running {
        drain: async move { engine.shutdown().await }.boxed(),
        ..Running::new(router)
    })
}

/// Starts the engine over the models of the data directory.
pub(super) fn launch(loaded: &Loaded) -> Result<Engine> {
    let missing = jarvis_engine::missing_features();
    if !missing.is_empty() {
        bail!(explain_missing(&missing));
    }
    let section = &loaded.config.engine;
    let options = EngineOptions {
        default_model: Some(default_model(section)),
        threads: Some(section.threads.unwrap_or(commands::threads(loaded))),
        parallel: section.parallel,
        max_queue: section.max_queue,
        num_ctx: section.context,
        keep_alive: KeepAlive::For(Duration::from_secs(section.keep_alive_seconds)),
        prefix_reuse: section.prefix_reuse,
        ..EngineOptions::new(models_dir(loaded))
    };
    Engine::start(options).context("the embedded model server cannot start")
}

/// The model loaded at start.
fn default_model(section: &EngineSection) -> String {
    section
        .default_model
        .clone()
        .unwrap_or_else(|| embedded::CHAT.name.to_owned())
}

/// Where the models lie.
pub(crate) fn models_dir(loaded: &Loaded) -> PathBuf {
    loaded.data_dir.join("models")
}

/// What to do about a processor that lacks something.
pub(crate) fn explain_missing(features: &[&str]) -> String {
    format!(
        "this processor lacks {}, which the embedded model server uses; start with --no-engine and --node URL to use models on another machine",
        features.join(", ")
    )
}
