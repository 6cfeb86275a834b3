//! `[nodes]`: other model servers.

mod entry;

pub use entry::NodeEntry;

use crate::{Problem, address::without_user, balancer::MAX_SLOTS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Other model servers that speak the Ollama API.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodesSection {
    /// Base addresses, as `http://192.0.2.10:11434`; `dns+http://ollama.example:11434` makes every address of that name a
    /// node, also those that come later. Where more is to be said of a node, a table in place of its address:
    /// `{ url = "http://192.0.2.10:11434", name = "large", slots = 8, weight = 3 }`.
    pub urls: Vec<NodeEntry>,
    /// Whether `serve` looks for an Ollama on 127.0.0.1:11434 and offers its models too.
    pub discover: bool,
}

impl Default for NodesSection {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            discover: true,
        }
    }
}

/// What `serve` calls its own model server, and the Ollama that it finds.
const OURS: [&str; 2] = ["embedded", "ollama"];

impl NodesSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        let (mut addresses, mut names) = (HashSet::new(), HashSet::new());
        for node in &self.urls {
            let url = without_user(&node.url);
            let mut wrong = |text: String| problems.push(Problem::new("nodes.urls", text));
            let Some(authority) = node.authority() else {
                wrong(format!(
                    "`{url}` is not a node's address; write it as http://host:11434"
                ));
                continue;
            };
            if node.slots.is_some_and(|n| !(1..=MAX_SLOTS).contains(&n)) {
                wrong(format!("`slots` of {url} must be from 1 to {MAX_SLOTS}"));
            }
            if !addresses.insert((node.is_name(), authority.to_ascii_lowercase())) {
                wrong(format!("{url} stands there twice; keep one of them"));
                continue;
            }
            if let Some(text) = refused_name(node) {
                wrong(text);
            } else if !node.is_name() {
                let name = node.name.clone().unwrap_or(authority);
                let taken = format!("two nodes are called `{name}`; give {url} another `name`");
                if !names.insert(name) {
                    wrong(taken);
                }
            }
        }
    }
}

/// What is wrong with the name that a node is given.
fn refused_name(node: &NodeEntry) -> Option<String> {
    let (name, url) = (node.name.as_deref()?, &node.url);
    let visible = |byte: u8| byte.is_ascii_graphic();
    Some(if node.is_name() {
        format!(
            "{url} stands for several nodes, which are called by their addresses; leave `name` out"
        )
    } else if name.is_empty() || name.len() > 255 || !name.bytes().all(visible) {
        format!("`name` of {url} must have 1 to 255 visible ASCII characters")
    } else if OURS.contains(&name) {
        format!("`{name}` is what `serve` calls a node of its own; give {url} another `name`")
    } else {
        return None;
    })
}
