//! How an answer outlives the process that makes it: every decision of the protocol, and nothing else.
//!
//! An answer is written by one owner at a time, an instance of the backend that holds a [`Lease`]. Each take-over counts the
//! [`Epoch`](crate::Epoch) one up. Text goes into the answer's log or into SQL before anybody sees it ([`Owner`]); whoever
//! takes over begins where the two of them end ([`take_over`]); whoever reads is told by [`Reader`] what of it is new, and
//! that what it holds does not stand any more, should that ever be so.
//!
//! Nothing here reads a clock, waits or writes: the backend asks these types what to do and does it, and a simulation
//! (`tests/protocol`) does the same with thousands of schedules of crashes, pauses and losses. See
//! `docs/adr/0013-durable-generations.md`.

mod bases;
mod claim;
mod lease;
mod log;
mod owner;
mod reader;

pub use bases::{Bases, BasesError};
pub use claim::{Kept, Path, Taken, Verdict, take_over};
pub use lease::{Beat, Lease};
pub use log::{Entry, Logged};
pub use owner::{Keep, Owner};
pub use reader::{News, Reader};

use std::time::Duration;

/// The protocol's times and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long an instance that is silent keeps its answers, by the database's clock.
    pub lease: Duration,
    /// How often it renews its lease.
    pub renew: Duration,
    /// Between two checkpoints of one instance.
    pub checkpoint: Duration,
    /// Before an owner asks a log that failed again.
    pub log_again: Duration,
    /// How long an owner goes on by the log alone while SQL does not answer it: nobody may take over meanwhile who cannot
    /// reach that log.
    pub blind: Duration,
    /// How much later than that a message of that owner may arrive still.
    pub slack: Duration,
    /// How many owners may lose an answer before nobody tries again: a prompt that kills its server must not kill them all.
    pub owners: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(3),
            renew: Duration::from_secs(1),
            checkpoint: Duration::from_millis(250),
            log_again: Duration::from_secs(1),
            blind: Duration::from_mins(1),
            slack: Duration::from_secs(10),
            owners: 3,
        }
    }
}
