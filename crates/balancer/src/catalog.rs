//! What the nodes offer together.

use crate::{
    Way,
    node::{Node, Offer, Seen},
    shared::Shared,
};
use jarvis_protocol::ollama::ModelInfo;
use std::collections::BTreeMap;

/// The union over all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Every model that some reachable node has, by name.
    pub models: Vec<Model>,
    /// Every node, in the order of configuration.
    pub nodes: Vec<NodeState>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Name with its tag.
    pub name: String,
    /// Hex sha256: same digest, same weights.
    pub digest: String,
    /// Bytes on disk.
    pub size: u64,
    /// Architecture, for example `llama`.
    pub family: String,
    /// For people, for example `134.52M`.
    pub parameter_size: String,
    /// For example `Q4_1`.
    pub quantization: String,
    /// `completion`, `embedding`, …
    pub capabilities: Vec<String>,
    /// A small model that only shows that everything works.
    pub demonstration: bool,
    /// Whether some node has it in memory.
    pub loaded: bool,
    /// The nodes that have it.
    pub nodes: Vec<String>,
    /// Nodes whose model of this name has other weights: they answer only conversations that were begun with those.
    pub differing: Vec<String>,
    /// How its answers go on when a node is lost; `None` as long as nobody has found out.
    pub way: Option<Way>,
}

impl Model {
    /// Whether it can hold a conversation.
    #[must_use]
    pub fn completes(&self) -> bool {
        self.capabilities
            .iter()
            .any(|capability| capability == "completion")
    }
}

/// A node, as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// What people call it.
    pub name: String,
    /// Whether it answers.
    pub ready: bool,
    /// Why not.
    pub error: Option<String>,
}

impl Catalog {
    /// The model of this name; `:latest` is implied.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Model> {
        let name = full_name(name);
        self.models.iter().find(|model| model.name == name)
    }

    pub(crate) fn of(shared: &Shared) -> Self {
        let nodes = shared.pool.nodes();
        let mut models = BTreeMap::new();
        let mut states = Vec::new();
        for node in nodes.iter() {
            match node.seen() {
                Seen::Up(offer) => {
                    for listed in offer.models.values() {
                        add(&mut models, &listed.info, &offer, node, shared);
                    }
                    states.push(NodeState {
                        name: node.name.clone(),
                        ready: true,
                        error: None,
                    });
                }
                Seen::Down { was_up: false, .. } | Seen::Nothing if node.optional => {}
                Seen::Down { reason, .. } => states.push(NodeState {
                    name: node.name.clone(),
                    ready: false,
                    error: Some(reason),
                }),
                Seen::Nothing => {
                    states.push(NodeState {
                        name: node.name.clone(),
                        ready: false,
                        error: Some("it has not answered yet".into()),
                    });
                }
            }
        }
        Self {
            models: models.into_values().collect(),
            nodes: states,
        }
    }
}

/// A name with its tag.
pub(crate) fn full_name(name: &str) -> String {
    let has_tag = name
        .rsplit('/')
        .next()
        .is_some_and(|last| last.contains(':'));
    if has_tag {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

/// Adds one node's model; of a name with several digests the first node's stands.
fn add(
    models: &mut BTreeMap<String, Model>,
    info: &ModelInfo,
    offer: &Offer,
    node: &Node,
    shared: &Shared,
) {
    let loaded = offer.loaded.contains_key(&info.name);
    let model = models.entry(info.name.clone()).or_insert_with(|| Model {
        name: info.name.clone(),
        digest: info.digest.clone(),
        size: info.size,
        family: info.details.family.clone(),
        parameter_size: info.details.parameter_size.clone(),
        quantization: info.details.quantization_level.clone(),
        capabilities: capabilities(info),
        demonstration: info
            .jarvis
            .as_ref()
            .is_some_and(|extension| extension.demonstration),
        loaded: false,
        nodes: Vec::new(),
        differing: Vec::new(),
        way: None,
    });
    if model.digest == info.digest {
        model.loaded |= loaded;
        model.nodes.push(node.name.clone());
        model.way = model
            .way
            .or_else(|| Some(shared.ways(node, &info.name)?.best()));
    } else {
        model.differing.push(node.name.clone());
    }
}

/// What a model can do: as its node says, else by its architecture (Ollama lists capabilities only per model).
fn capabilities(info: &ModelInfo) -> Vec<String> {
    if !info.capabilities.is_empty() {
        return info.capabilities.clone();
    }
    let embeds = info.details.family.contains("bert") || info.name.contains("embed");
    vec![if embeds { "embedding" } else { "completion" }.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_a_tag_mean_the_latest() {
        assert_eq!(full_name("llama3.2"), "llama3.2:latest");
        assert_eq!(full_name("smollm2:135m"), "smollm2:135m");
        assert_eq!(
            full_name("host:5000/team/model"),
            "host:5000/team/model:latest"
        );
    }
}
