//! One name, several weights: a conversation that was begun with one of them goes on with no other.

use crate::{ask::Ask, node::Node};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

/// Remembers which weights conversations were begun with, but only of names that have several: usually there are none.
/// Holds the last 4,096 turns.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    turns: HashMap<u64, String>,
    order: VecDeque<u64>,
}

const KEPT: usize = 4096;

impl Digests {
    /// The digest that a request is to be served with: that of its conversation, else the first node's. `None`: no node
    /// that answers has the model.
    pub(crate) fn standing(&self, ask: &Ask, nodes: &[Arc<Node>]) -> Option<String> {
        let first = nodes.iter().find_map(|node| node.digest(&ask.model))?;
        let memory = self.memory();
        if memory.turns.is_empty() && !differ(&ask.model, &first, nodes) {
            return Some(first);
        }
        let mut turns = ask.prefix.iter().rev();
        let begun = turns.find_map(|link| memory.turns.get(&link.hash));
        Some(begun.cloned().unwrap_or(first))
    }

    /// `ask` is served with `digest`.
    pub(crate) fn served(&self, ask: &Ask, digest: &str, nodes: &[Arc<Node>]) {
        let Some(turn) = ask.prefix.last() else {
            return;
        };
        if !differ(&ask.model, digest, nodes) {
            return;
        }
        let mut memory = self.memory();
        if memory.turns.insert(turn.hash, digest.to_owned()).is_none() {
            memory.order.push_back(turn.hash);
        }
        if memory.order.len() > KEPT
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.turns.remove(&oldest);
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether some node has a model of this name with other weights than these.
fn differ(model: &str, digest: &str, nodes: &[Arc<Node>]) -> bool {
    let mut alike = nodes.iter().map(|node| node.has_weights(model, digest));
    alike.any(|alike| alike == Some(false))
}
