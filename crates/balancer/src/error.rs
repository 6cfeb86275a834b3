//! Why a turn was not answered, told apart by whose fault it is and whether trying again helps.

use crate::TransportError;

/// A turn that was not answered, or not to its end. The text is a sentence for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// No node has this model.
    #[error("no node has the model `{model}`; there are: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        model: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Every node that could answer is down.
    #[error("no node that has the model `{model}` can be reached right now")]
    NoNode {
        /// The name asked for.
        model: String,
    },
    /// The answer had begun, and no node that is left can continue it exactly where it stopped.
    #[error("no reachable node can continue this answer of the model `{model}`")]
    NotResumable {
        /// The name asked for.
        model: String,
    },
    /// Every node that could answer is full.
    #[error("every node is busy and the queue is full; try again in a moment")]
    Overloaded,
    /// The node will not answer this request, and no other would.
    #[error("the model refused the request: {message}")]
    Rejected {
        /// The node's own words.
        message: String,
    },
    /// The node failed on this request.
    #[error("the node `{node}` failed: {message}")]
    NodeFailed {
        /// The node.
        node: String,
        /// Its own words.
        message: String,
    },
    /// The connection to the node broke, or the node fell silent.
    #[error("the connection to the node `{node}` was lost")]
    NodeLost {
        /// The node.
        node: String,
        /// What broke.
        #[source]
        source: TransportError,
    },
}

impl ChatError {
    /// A stable name of the kind.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownModel { .. } => "unknown_model",
            Self::NoNode { .. } => "no_node_available",
            Self::NotResumable { .. } => "not_resumable",
            Self::Overloaded => "overloaded",
            Self::Rejected { .. } => "rejected",
            Self::NodeFailed { .. } => "node_failed",
            Self::NodeLost { .. } => "node_lost",
        }
    }

    /// Whether the same turn may succeed when it is sent again.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::NodeFailed { .. } | Self::NodeLost { .. })
    }
}
