//! The backend as its clients see it: a real server on a real socket, a real database and a scripted node.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod alone;
mod auth;
mod bad_input;
mod branches;
mod chat;
mod client;
mod cluster;
mod contract;
mod conversations;
mod isolation;
mod limits;
mod panics;
mod replay;
mod reshard;
mod restart;
mod server;
mod shared;
mod socket;
mod trouble;
mod usage;
mod without_redis;
