//! Which node answers, and getting the answer from it.
//!
//! A node is anything that speaks the Ollama API: an Ollama somewhere on the network, or the engine in this very process,
//! called as a service without a socket between. The balancer watches what each node offers ([`Balancer::catalog`]),
//! gives every request a slot on the node that its strategy prefers, and hands the answer on as it comes. It is used in two
//! ways, with the same code behind: as an HTTP service in the place of an Ollama ([`Balancer::public`]), and in process
//! ([`Balancer::chat`]).
//!
//! A request's way: [`ask`] reads what is asked; [`dispatch`] finds a slot by [`policy`] and [`queue`]; [`forward`] sends it
//! through [`upstream`], relays the answer, and goes on elsewhere ([`resume`]) when the node is lost.

mod ask;
mod catalog;
mod chat;
mod digests;
mod dispatch;
mod error;
mod forward;
mod front;
mod look;
mod metrics;
mod names;
mod node;
mod options;
mod policy;
mod pool;
mod queue;
mod quick;
pub mod replay;
mod resume;
mod seldom;
mod shared;
mod transport;
mod upstream;

pub use ask::Caller;
pub use catalog::{Catalog, Model, NodeState};
pub use chat::{ChatEvent, ChatStream, ChatTurn};
pub use error::ChatError;
pub use front::{Access, ParseSecretError, Public};
pub use look::NodeLook;
pub use names::NodeName;
pub use options::{NodeSpec, Options};
pub use policy::{Strategy, UnknownStrategy};
pub use pool::NameTaken;
pub use queue::Priority;
pub use resume::Way;
pub use transport::Transport;
pub use upstream::{Malformed, TransportError};

use node::Node;
use shared::Shared;
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The balancer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Balancer {
    shared: Arc<Shared>,
}

impl Balancer {
    /// Begins to watch `nodes`, one task each on `tasks`, until `stop`. Of two nodes of one name the first counts.
    ///
    /// # Errors
    /// The trace cannot be written.
    pub fn start(
        options: Options,
        nodes: Vec<NodeSpec>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        metrics::describe();
        let balancer = Self {
            shared: Arc::new(Shared::new(options, tasks, stop)?),
        };
        for spec in nodes {
            if let Err(taken) = balancer.add_node(spec) {
                tracing::warn!("{taken}; it is used once");
            }
        }
        Ok(balancer)
    }

    /// Adds a node and begins to watch it.
    ///
    /// # Errors
    /// Its name is in use.
    pub fn add_node(&self, spec: NodeSpec) -> Result<(), NameTaken> {
        self.watched(spec).map(drop)
    }

    /// Adds a node and begins to watch it.
    fn watched(&self, spec: NodeSpec) -> Result<Arc<Node>, NameTaken> {
        let shared = &self.shared;
        let make = |id, spec| Node::new(id, spec, &shared.options, &shared.queue);
        let node = shared.pool.add(spec, make)?;
        let (shared, watched) = (Arc::clone(shared), Arc::clone(&node));
        self.shared.spawn(async move {
            let gone = watched.gone.clone();
            gone.run_until_cancelled(watch(shared, watched)).await;
        });
        Ok(node)
    }

    /// Takes a node out. What it has begun, it ends. `false`: there is none of that name.
    pub fn remove_node(&self, name: &str) -> bool {
        let Some(node) = self.shared.pool.remove(name) else {
            return false;
        };
        node.meter.status(false);
        self.shared.policy.forget(node.id);
        self.shared.queue.wake();
        true
    }

    /// Metrics in Prometheus' text format without those of nodes that were taken out. The recorder keeps them for as long as
    /// the process lives, and a node that nobody wants any more would be down for ever.
    #[must_use]
    pub fn without_removed(&self, metrics: &str) -> String {
        let nodes = self.shared.pool.nodes();
        metrics::of_nodes(metrics, nodes.iter().map(|node| node.name.as_str()))
    }

    /// Goes by `strategy` from now on.
    pub fn switch(&self, strategy: Strategy) {
        self.shared.policy.switch(strategy);
        self.shared.queue.wake();
    }

    /// What the nodes offer together, as last seen. Waits for the first look at each node, never longer than one may take.
    pub async fn catalog(&self) -> Catalog {
        for node in self.shared.pool.nodes().iter() {
            node.seen_once(self.shared.options.probe_timeout).await;
        }
        Catalog::of(&self.shared)
    }

    /// Looks at every node again now, and waits for what it shows.
    pub async fn refresh(&self) {
        self.look(|_| true).await;
    }

    /// The same without those that are down, which would delay it.
    async fn look_at_those_up(&self) {
        self.look(|node| node.offer().is_some()).await;
    }

    /// The same for the nodes that `are`.
    async fn look(&self, are: impl Fn(&Node) -> bool) {
        let limit = self.shared.options.probe_timeout;
        let nodes = self.shared.pool.nodes();
        let looks = nodes.iter().filter(|node| are(node));
        futures_util::future::join_all(looks.map(|node| node.look(limit))).await;
    }

    /// Has a turn answered. Dropping the stream frees the node.
    #[must_use]
    pub fn chat(&self, turn: ChatTurn) -> ChatStream {
        chat::stream(self.clone(), turn)
    }
}

/// Looks at a node for as long as it is in the pool, and finds out what its models can do.
async fn watch(shared: Arc<Shared>, node: Arc<Node>) {
    let mut pause = shared.options.probe_interval;
    loop {
        node.look(shared.options.probe_timeout).await;
        // Who waits may be served now, or by nobody any more: it is up or down, has another model, or was left alone for
        // long enough. None of this frees a slot.
        shared.queue.wake();
        if shared.options.resume {
            shared.discover(&node).await;
        }
        let nodes = shared.pool.nodes();
        metrics::gauges(&node, shared.shares(&nodes).of(&node));
        shared.flush_trace();
        pause = match node.offer() {
            Some(_) => shared.options.probe_interval,
            None => (pause * 2).min(shared.options.probe_interval * 4),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = node.doubted() => {}
        }
    }
}
