//! How the nodes look now, for whoever keeps it.

use crate::Balancer;
use std::time::Duration;

/// How a node looks now to this balancer.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeLook {
    /// Its name.
    pub name: String,
    /// Whether it answered when it was last asked.
    pub up: bool,
    /// Requests that it works on for this balancer.
    pub active: u32,
    /// What waits for it, with its share of what waits for any.
    pub queued: f64,
    /// Mean time to the first byte over the last minute, if it was asked anything.
    pub response_time: Option<Duration>,
    /// The share of the last minute's requests that failed, 0 to 1.
    pub error_rate: f64,
    /// The health score, 0 to 1.
    pub health_score: f64,
}

impl Balancer {
    /// How each node looks now. Asks none of them.
    #[must_use]
    pub fn looks(&self) -> Vec<NodeLook> {
        let nodes = self.shared.pool.nodes();
        let waiting = self.shared.shares(&nodes);
        let look = |node: &std::sync::Arc<crate::node::Node>| {
            let figures = node.figures();
            let response_time = figures.response_time;
            NodeLook {
                name: node.name.clone(),
                up: node.offer().is_some(),
                active: figures.active,
                queued: waiting.of(node),
                response_time: response_time
                    .and_then(|time| Duration::try_from_secs_f64(time).ok()),
                error_rate: figures.error_rate,
                health_score: figures.health_score,
            }
        };
        nodes.iter().map(look).collect()
    }
}
