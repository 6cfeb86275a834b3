//! The set of nodes, which changes while requests run.

use crate::{NodeSpec, node::Node};
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Who reads the set keeps it as it was: a node that is taken out ends what it has begun.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    nodes: RwLock<Arc<[Arc<Node>]>>,
    next: AtomicU64,
}

/// A name that is in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is a node `{0}` already")]
pub struct NameTaken(pub String);

impl Pool {
    pub(crate) fn nodes(&self) -> Arc<[Arc<Node>]> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&nodes)
    }

    /// The node of this name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes().iter().find(|node| node.name == name).cloned()
    }

    /// Adds the node that `make` makes of its number.
    pub(crate) fn add(
        &self,
        spec: NodeSpec,
        make: impl FnOnce(u64, NodeSpec) -> Node,
    ) -> Result<Arc<Node>, NameTaken> {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        if nodes.iter().any(|node| node.name == spec.name) {
            return Err(NameTaken(spec.name));
        }
        let node = Arc::new(make(self.next.fetch_add(1, Relaxed), spec));
        let added = nodes.iter().cloned().chain([Arc::clone(&node)]);
        *nodes = added.collect();
        Ok(node)
    }

    /// Takes a node out: no new request goes to it, and nobody looks at it any more.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let removed = nodes.iter().find(|node| node.name == name).cloned()?;
        *nodes = nodes
            .iter()
            .filter(|node| node.name != name)
            .cloned()
            .collect();
        removed.gone.cancel();
        Some(removed)
    }
}
