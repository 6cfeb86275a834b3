//! Jarvis' configuration: one struct per section, filled from defaults, `jarvis.toml`, the
//! environment and flags (later wins), and checked as a whole before any port is bound.
//!
//! Every key is reachable in three ways, all made from the same table:
//!
//! | where | spelling |
//! |---|---|
//! | `jarvis.toml` | `max_queue = 64` under `[engine]` |
//! | environment | `JARVIS_ENGINE_MAX_QUEUE=64` (`JARVIS_`, section, key, in capitals; lists are comma separated) |
//! | flag | where the command line offers one (`--max-queue 64`) |
//!
//! A key that does not exist is an error that names the nearest one and where the mistake stands.
//! A secret may also be given as a file (`auth.secret_file`), and is never printed.

mod address;
mod aliases;
mod auth;
mod balancer;
mod chat;
mod data;
mod engine;
mod keys;
mod limits;
mod listen;
mod load;
mod log;
mod nodes;
mod problem;
mod rate;
mod redis;
mod secret;
mod series;
mod server;
mod show;
mod store;
mod text;

pub use auth::{AuthSection, Registration};
pub use balancer::{BalancerSection, Strategy};
pub use chat::ChatSection;
pub use data::DataSection;
pub use engine::EngineSection;
pub use limits::LimitsSection;
pub use listen::ListenAddress;
pub use load::{Loaded, Overrides, Sources};
pub use log::{LogFormat, LogSection};
pub use nodes::{NodeEntry, NodesSection};
pub use problem::{ConfigError, Problem};
pub use rate::RequestRate;
pub use redis::RedisSection;
pub use secret::Secret;
pub use series::SeriesSection;
pub use server::ServerSection;
pub use store::{PostgresUrl, StoreSection, Synchronous, UrlError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The whole configuration, one field per section of `jarvis.toml`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses, connection limits and shutdown.
    pub server: ServerSection,
    /// Where everything that must outlive the process is kept.
    pub data: DataSection,
    /// What is logged, and how.
    pub log: LogSection,
    /// Accounts, tokens and the secrets behind them.
    pub auth: AuthSection,
    /// What conversations begin with.
    pub chat: ChatSection,
    /// The embedded model server.
    pub engine: EngineSection,
    /// Other model servers.
    pub nodes: NodesSection,
    /// Which node gets a request, and how long things may take.
    pub balancer: BalancerSection,
    /// The database and the answer log.
    pub store: StoreSection,
    /// The Redis Cluster that the instances of an installation share.
    pub redis: RedisSection,
    /// What is measured over time.
    pub series: SeriesSection,
    /// Bounds on what a client may send.
    pub limits: LimitsSection,
}

impl Config {
    /// Everything that is wrong with the values themselves, each with what to do; empty if the
    /// configuration can be used. Touches neither disk nor network.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.server.validate(&mut problems);
        self.log.validate(&mut problems);
        self.auth.validate(&mut problems);
        self.chat.validate(&mut problems);
        self.engine.validate(&mut problems);
        self.nodes.validate(&mut problems);
        self.balancer.validate(&mut problems);
        self.store.validate(&mut problems);
        self.redis.validate(&mut problems);
        if !self.redis.nodes.is_empty() && self.auth.secret.is_none() {
            let why = "is needed where instances share a Redis Cluster: who signs in at one is known to all of them by it";
            problems.push(Problem::new("auth.secret", why));
        }
        self.series.validate(&mut problems);
        self.limits.validate(&mut problems);
        problems
    }

    /// What can be used as it is, but not for everything that it looks made for.
    pub fn notes(&self) -> Vec<Problem> {
        let mut notes = Vec::new();
        if self.store.url.is_some() && self.redis.nodes.is_empty() {
            let what = "without redis.nodes, one instance alone can work on this database; a second one refuses to start";
            notes.push(Problem::new("store.url", what));
        }
        notes
    }

    /// The JSON schema (draft 2020-12) of `jarvis.toml`, pretty-printed, with a final newline.
    pub fn json_schema() -> String {
        let schema = schemars::schema_for!(Config);
        let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
        text.push('\n');
        text
    }
}
