//! The backend: accounts, conversations and answers over HTTP and WebSocket.
//!
//! [`Api::start`] takes up what an earlier process left unfinished and gives a router with `/api/v1/*`, `/ws`,
//! `/api/openapi.json` and `/health`. The contract is the committed `api/openapi.json`; the frames of `/ws` stand in the
//! `ws` module.

mod app;
mod auth;
mod conversations;
mod forwarded;
mod generations;
mod hub;
mod invitations;
mod json;
mod limits;
mod list_cache;
mod me;
mod messages;
mod meter;
mod models;
mod openapi;
mod options;
mod page;
mod problem;
mod router;
mod status;
mod ws;

pub use app::{Api, ApiError};
pub use jarvis_store::Rate as RateOptions;
pub use openapi::document;
pub use options::{Options, PasswordCost, Registration, SetUp, SigningSecret, SocketOptions};
pub use status::Status;
