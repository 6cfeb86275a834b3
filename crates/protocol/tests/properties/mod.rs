//! What holds whatever bytes arrive: one function for each fuzz target. Each panics where it does not hold.
//!
//! This folder is the library of the crate under `fuzz/` as well, so that what is fuzzed and what
//! `cargo test` replays are the same checks.

mod chunks;
mod ndjson;
mod sse;
mod wire;

pub use ndjson::ndjson;
pub use sse::{sse, sse_events};
pub use wire::wire;

/// Panics where something does not hold for these bytes.
pub type Check = fn(&[u8]);

/// Every check, by the name of its fuzz target and of its folder of seeds.
pub const TARGETS: [(&str, Check); 4] = [
    ("ndjson", ndjson),
    ("sse", sse),
    ("sse_events", sse_events),
    ("wire", wire),
];
