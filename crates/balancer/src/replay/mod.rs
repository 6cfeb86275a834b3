//! What a strategy would have done: a trace of requests, replayed in simulated time.
//!
//! A [`Trace`] is recorded (see `recorder`) or made up (see [`Synthetic`]). [`replay`] lets it arrive at simulated nodes
//! once for each [`Contender`] and tells how long people would have waited. The strategies are the very code of
//! production; only the nodes are simulated. The same trace, nodes and seed give the same figures.

mod cache;
mod contender;
mod loads;
mod machine;
pub(crate) mod recorder;
mod seat;
mod shape;
mod simulation;
mod synthetic;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod training;

pub use crate::policy::Starting;
pub use contender::{Contender, UnknownContender};
pub use shape::{Interval, NodeShape, ShapeError, Slowdown};
pub use synthetic::Synthetic;
pub use table::{Percentiles, Report, Summary};
pub use trace::{Header, ModelShape, Request, Trace, TraceError, VERSION};
pub(crate) use training::starting_of_file;

use simulation::Simulation;

/// How it is replayed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Chance's seed.
    pub seed: u64,
    /// How many may wait in the common queue.
    pub max_queue: usize,
    /// How long one may wait there, in seconds.
    pub deadline: f64,
    /// How long it takes to see that a node is down, or up again, in seconds.
    pub probe: f64,
    /// What `adaptive` believes at first; see [`Trace::starting`].
    pub starting: Starting,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            max_queue: 512,
            deadline: 120.0,
            probe: 5.0,
            starting: Starting::default(),
        }
    }
}

/// A replay that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Nodes are needed.
    #[error("the trace describes no nodes: name some")]
    NoNodes,
    /// Somebody has to choose.
    #[error("name at least one strategy")]
    NoContender,
    /// A model that is nowhere.
    #[error("no node offers the model {0:?}")]
    NoSuchModel(String),
    /// A node that cannot be.
    #[error(transparent)]
    Node(#[from] ShapeError),
}

/// Replays `trace` for each of `contenders`, on `nodes` or, if there are none, on those that the trace describes.
pub fn replay(
    trace: &Trace,
    nodes: &[NodeShape],
    contenders: &[Contender],
    options: &Options,
) -> Result<Report, ReplayError> {
    let nodes = if nodes.is_empty() {
        trace.header.nodes.as_slice()
    } else {
        nodes
    };
    if nodes.is_empty() {
        return Err(ReplayError::NoNodes);
    }
    if contenders.is_empty() {
        return Err(ReplayError::NoContender);
    }
    for node in nodes {
        node.validate()?;
    }
    let offered = |model: &String| {
        let mut all = nodes.iter().map(|node| &node.models);
        all.any(|models| models.is_empty() || models.contains(model))
    };
    let mut models = trace.requests.iter().map(|request| &request.model);
    if let Some(missing) = models.find(|model| !offered(model)) {
        return Err(ReplayError::NoSuchModel(missing.clone()));
    }
    let results = contenders
        .iter()
        .map(|contender| Simulation::new(trace, nodes, *contender, options).run())
        .collect();
    Ok(Report {
        requests: trace.requests.len(),
        nodes: nodes.len(),
        seed: options.seed,
        results,
    })
}
