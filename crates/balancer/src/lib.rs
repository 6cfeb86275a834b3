//! Which node answers, and getting the answer from it.
//!
//! A node is anything that speaks the Ollama API: an Ollama somewhere on the network, or the engine in this very process,
//! called as a service without a socket between. The balancer watches what each node offers ([`Balancer::catalog`]),
//! sends a turn to the least busy node that has the model ([`Balancer::chat`]) and hands the text on as it comes.

mod catalog;
mod chat;
mod error;
mod node;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the dispatcher, which follows")
)]
mod policy;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "called by the dispatcher, which follows"
    )
)]
mod queue;
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        unused_imports,
        reason = "called by the forwarder, which follows"
    )
)]
mod resume;
mod slots;
mod transport;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the forwarder, which follows")
)]
mod upstream;

pub use catalog::{Catalog, Model, NodeState};
pub use chat::{ChatEvent, ChatStream, ChatTurn};
pub use error::ChatError;
pub use policy::{Strategy, UnknownStrategy};
pub use resume::Way;
pub use transport::Transport;
pub use upstream::{Malformed, TransportError};

use node::Node;
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A node, as it is configured.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// What people call it.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// How many answers it makes at once; more wait here, in order. `None` where the node keeps its own queue.
    pub slots: Option<NonZeroUsize>,
    /// A node that was only looked for: it is not mentioned unless it is there.
    pub optional: bool,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Between two looks at a node.
    pub probe_interval: Duration,
    /// For one look.
    pub probe_timeout: Duration,
    /// To the first token: a cold model has to be loaded first.
    pub first_token_timeout: Duration,
    /// Between two tokens.
    pub token_timeout: Duration,
    /// How many may wait for one node's slots.
    pub max_queue: usize,
    /// The longest record a node may send, in bytes.
    pub max_line: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(2),
            first_token_timeout: Duration::from_mins(5),
            token_timeout: Duration::from_mins(1),
            max_queue: 512,
            max_line: 4 << 20,
        }
    }
}

/// The balancer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Balancer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    nodes: Vec<Arc<Node>>,
}

impl Balancer {
    /// Begins to watch `nodes`, one task each on `tasks`, until `stop`.
    pub fn start(
        options: Options,
        nodes: Vec<NodeSpec>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let nodes: Vec<_> = nodes
            .into_iter()
            .map(|spec| Arc::new(Node::new(spec, &options)))
            .collect();
        for node in &nodes {
            let (node, stop) = (Arc::clone(node), stop.clone());
            tasks.spawn(async move {
                stop.run_until_cancelled(node.watch(options)).await;
            });
        }
        Self {
            shared: Arc::new(Shared { options, nodes }),
        }
    }

    /// What the nodes offer together, as last seen. Waits for the first look at each node, never longer than one may take.
    pub async fn catalog(&self) -> Catalog {
        for node in &self.shared.nodes {
            node.seen_once(self.shared.options.probe_timeout).await;
        }
        Catalog::of(&self.shared.nodes)
    }

    /// Looks at every node again now, and waits for what it shows.
    pub async fn refresh(&self) {
        let limit = self.shared.options.probe_timeout;
        let looks = self
            .shared
            .nodes
            .iter()
            .cloned()
            .map(|node| async move { node.look(limit).await });
        futures_util::future::join_all(looks.collect::<Vec<_>>()).await;
    }

    /// Has a turn answered. Dropping the stream frees the node.
    #[must_use]
    pub fn chat(&self, turn: ChatTurn) -> ChatStream {
        chat::stream(self.clone(), turn)
    }

    fn nodes(&self) -> &[Arc<Node>] {
        &self.shared.nodes
    }

    fn options(&self) -> &Options {
        &self.shared.options
    }
}
