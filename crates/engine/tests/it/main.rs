//! The engine with its real models, called in process as the balancer calls it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a failure in them is a failed test"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "helpers take what json!() makes, so that a test reads as a request"
)]

mod answers;
mod bad_input;
mod embeddings;
mod manage;
mod openai;
mod resume;
mod sharing;
mod support;
