//! What the balancer is told at its start.

use crate::{Strategy, Transport, resume::Limits};
use std::{num::NonZeroU32, path::PathBuf, time::Duration};

/// A node, as it is configured.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// What people call it.
    pub name: String,
    /// How it is reached.
    pub transport: Transport,
    /// How many answers it makes at once; more wait here. `None`: learnt from how it behaves.
    pub slots: Option<NonZeroU32>,
    /// How much of the load it should get, relative to the others.
    pub weight: u32,
    /// A node that was only looked for: it is not mentioned unless it is there.
    pub optional: bool,
}

impl NodeSpec {
    /// A node of the usual kind.
    pub fn new(name: impl Into<String>, transport: Transport) -> Self {
        Self {
            name: name.into(),
            transport,
            slots: None,
            weight: 1,
            optional: false,
        }
    }
}

/// How nodes are chosen, and how long things may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// How a node is chosen.
    pub strategy: Strategy,
    /// Where chance comes from.
    pub seed: u64,
    /// Between two looks at a node.
    pub probe_interval: Duration,
    /// For one look.
    pub probe_timeout: Duration,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// To the first token: a cold model has to be loaded first.
    pub first_token_timeout: Duration,
    /// Between two tokens.
    pub token_timeout: Duration,
    /// For a whole answer.
    pub total_timeout: Duration,
    /// How many may wait for a slot.
    pub max_queue: usize,
    /// How long one may wait for a slot.
    pub queue_timeout: Duration,
    /// The longest record a node may send, in bytes.
    pub max_line: usize,
    /// The largest request, in bytes.
    pub max_body: usize,
    /// Whether an answer whose node is lost goes on on another.
    pub resume: bool,
    /// Where arrivals, sizes and times are written, without anything that was said; see [`crate::replay`].
    pub trace: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            seed: 0,
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            first_token_timeout: Duration::from_mins(5),
            token_timeout: Duration::from_mins(1),
            total_timeout: Duration::from_hours(1),
            max_queue: 512,
            queue_timeout: Duration::from_mins(5),
            max_line: 4 << 20,
            max_body: 32 << 20,
            resume: true,
            trace: None,
        }
    }
}

impl Options {
    pub(crate) fn transcript(&self, counted: bool) -> Limits {
        Limits {
            record: self.max_line,
            unread: if counted { 0 } else { 64 << 10 },
            ..Limits::default()
        }
    }
}
