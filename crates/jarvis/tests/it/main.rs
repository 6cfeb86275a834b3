//! The program as its users meet it: started, asked, stopped, and started wrongly.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step is a failed test"
)]

mod balancer;
mod fetch;
mod index;
mod keep;
mod mistakes;
mod process;
mod roles;
mod serve;
