//! The backend alone: HTTP and WebSocket for users, over model servers elsewhere.

use super::{Context, Running, backend, nodes::Nodes};
use crate::data_dir::DataDir;
use anyhow::Result;
use axum::Router;
use futures_util::FutureExt as _;

/// Starts the role.
pub(super) async fn start(context: &Context) -> Result<Running> {
    let nodes = Nodes::new(&context.loaded, false)?;
    nodes.require_some()?;
    let data = DataDir::open(&context.loaded.data_dir)?;
    let backend = backend::Backend::start(context, data, nodes).await?;
    let limit = context.shutdown_time();
    Ok(Running {
        app: backend.api.router().into(),
        admin: Router::new(),
        condition: Some(backend::condition(&backend.api)),
        balancer: Some(backend.balancer.clone()),
        notes: backend::notes(&backend.api),
        drain: async move { backend.drain(limit).await }.boxed(),
    })
}
