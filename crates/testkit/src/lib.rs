//! For tests alone: a node that speaks the Ollama API over a real socket and does exactly what a script says, files that are
//! no models, and launchers for real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod fake_ollama;
mod gate;
mod gguf;
pub mod services;

pub use fake_ollama::{Asked, FakeModel, FakeOllama, Heard, Reply, Says, Step, Tally, Trailing};
pub use gate::Gate;
pub use gguf::gguf_without_vocabulary;
