//! Everything in one process: the same parts that the single roles start, composed.

use super::{Context, Running, backend, engine, nodes::Nodes, web};
use crate::data_dir::DataDir;
use anyhow::Result;
use axum::Router;
use futures_util::FutureExt as _;
use jarvis_balancer::{NodeSpec, Transport};
use jarvis_engine::Engine;
use std::num::NonZeroU32;

/// Starts all parts.
pub(super) async fn start(context: &Context) -> Result<Running> {
    let data = DataDir::open(&context.loaded.data_dir)?;
    let section = &context.loaded.config.engine;
    let engine = section
        .enabled
        .then(|| engine::launch(&context.loaded))
        .transpose()?;
    let mut nodes = Nodes::new(&context.loaded, true)?;
    if let Some(engine) = &engine {
        nodes.specs.insert(0, embedded(engine, section.parallel));
    }
    nodes.require_some()?;
    let backend = backend::Backend::start(context, data, nodes).await?;
    let mut lines = backend::notes(&backend.api);
    if let Some(engine) = &engine
        && engine.catalog().list()?.is_empty()
    {
        lines.push("There is no model on this machine yet; `jarvis model fetch` fetches the embedded ones.".into());
    }
    let limit = context.shutdown_time();
    Ok(Running {
        app: backend.api.router().fallback_service(web::router()).into(),
        admin: Router::new(),
        condition: Some(backend::condition(&backend.api)),
        balancer: Some(backend.balancer.clone()),
        notes: lines,
        drain: async move {
            backend.drain(limit).await;
            if let Some(engine) = engine {
                engine.shutdown().await;
            }
        }
        .boxed(),
    })
}

/// The engine as a node without a socket.
fn embedded(engine: &Engine, parallel: usize) -> NodeSpec {
    NodeSpec {
        slots: u32::try_from(parallel).ok().and_then(NonZeroU32::new),
        ..NodeSpec::new("embedded", Transport::in_process(engine.router()))
    }
}
