//! What a replay shows.

mod formats;
mod nodes;
mod strategies;
mod training;

use super::{
    Contender, Interval, NodeShape, Options, Report, Request, Slowdown, Starting, Summary,
    Synthetic, Trace, replay,
};
use crate::{Priority, policy::Strategy};

const ADAPTIVE: Contender = Contender::Ours(Strategy::Adaptive);
const LEAST: Contender = Contender::Ours(Strategy::LeastConnections);

fn all() -> Vec<Contender> {
    let ours = Strategy::ALL.map(Contender::Ours);
    [&ours[..], &[Contender::PowerOfTwo, Contender::CacheAware]].concat()
}

fn request(at: f64, tokens: u32) -> Request {
    Request {
        at,
        model: "m".to_owned(),
        prompt_bytes: 1000,
        prefix: Vec::new(),
        tokens,
        max_tokens: None,
        user: 0,
        priority: Priority::Normal,
        ttft: None,
        total: None,
        waited: None,
        load: None,
        prefill: None,
        decode: None,
    }
}

/// Prefill takes 1 ms a byte, a token 0.1 s and 0.05 s more for each other, a load 2 s.
fn node(name: &str) -> NodeShape {
    NodeShape {
        prefill: 0.001,
        decode: 0.1,
        slope: 0.05,
        load: 2.0,
        loaded: vec!["m".to_owned()],
        ..NodeShape::named(name)
    }
}

fn trace(nodes: Vec<NodeShape>, requests: Vec<Request>) -> Trace {
    let mut trace = Trace::default();
    (trace.header.nodes, trace.requests) = (nodes, requests);
    trace
}

fn one(trace: &Trace, contender: Contender) -> Summary {
    let report = replay(trace, &[], &[contender], &Options::default()).unwrap();
    report.results.into_iter().next().unwrap()
}
