//! What `serve` and `api` have in common: data directory, stores, nodes, and the backend on them.

use super::{Context, nodes::Nodes};
use crate::{data_dir::DataDir, secret};
use anyhow::{Context as _, Result};
use jarvis_api::{Api, Options, Registration, SetUp, SigningSecret};
use jarvis_config::Config;
use jarvis_domain::Clock;
use jarvis_store::{AnswerLog, Db, DbOptions, Host, Location, PostgresOptions, Synchronous};
use std::{net::SocketAddr, path::Path, time::Duration};

/// The backend and what it stands on.
pub(super) struct Backend {
    pub(super) api: Api,
    db: Db,
    /// Held as long as the stores are open.
    data: DataDir,
}

impl Backend {
    /// Opens the stores and starts the backend over `nodes`.
    pub(super) async fn start(context: &Context, data: DataDir, nodes: Nodes) -> Result<Self> {
        let config = &context.loaded.config;
        let (db, answers) = open_stores(config, data.path()).await?;
        let secret = match &config.auth.secret {
            Some(given) => given.expose().as_bytes().to_vec(),
            None => secret::kept_in(data.path())?,
        };
        let secret = SigningSecret::new(secret).context("auth.secret is too short")?;
        let balancer = nodes.balance(context).await?;
        let options = options(config, secret, context.public);
        let api = Api::start(options, db.clone(), answers, balancer, Clock::System)
            .await
            .with_context(|| unusable(data.path()))?;
        Ok(Self { api, db, data })
    }

    /// Keeps running answers for the next start and closes the stores.
    pub(super) async fn drain(self, limit: Duration) {
        if !self.api.shutdown(limit).await {
            tracing::warn!("not everything of the backend ended in time");
        }
        self.db.close().await;
        drop(self.data);
    }
}

async fn open_stores(config: &Config, dir: &Path) -> Result<(Db, AnswerLog)> {
    let full = config.store.synchronous == jarvis_config::Synchronous::Full;
    let db = match Db::open(&store(config, dir)).await {
        Err(error) if config.store.url.is_some() => {
            return Err(error).context("the PostgreSQL of store.url cannot be used");
        }
        opened => opened.with_context(|| unusable(dir))?,
    };
    let answers = AnswerLog::open(&dir.join("answers"), full).with_context(|| unusable(dir))?;
    Ok((db, answers))
}

/// Where the configuration puts the relational store.
pub(crate) fn store(config: &Config, dir: &Path) -> DbOptions {
    let section = &config.store;
    let location = match &section.url {
        Some(url) => Location::Postgres(PostgresOptions {
            hosts: url
                .hosts
                .iter()
                .map(|(name, port)| Host {
                    name: name.clone(),
                    port: *port,
                })
                .collect(),
            user: url.user.clone(),
            password: section
                .password
                .clone()
                .map(jarvis_config::Secret::into_inner),
            database: url.database.clone(),
            connections: section.connections,
        }),
        None => Location::File {
            path: database(dir),
            synchronous: match section.synchronous {
                jarvis_config::Synchronous::Normal => Synchronous::Normal,
                jarvis_config::Synchronous::Full => Synchronous::Full,
            },
        },
    };
    DbOptions {
        location,
        slow: Duration::from_secs(section.slow_query_seconds),
        deadline: Duration::from_secs(section.query_deadline_seconds),
    }
}

/// The database file of a data directory.
pub(crate) fn database(dir: &Path) -> std::path::PathBuf {
    dir.join("jarvis.db")
}

fn unusable(dir: &Path) -> String {
    format!(
        "what is kept in {} cannot be used (`jarvis doctor` looks closer)",
        dir.display()
    )
}

fn options(config: &Config, secret: SigningSecret, public: SocketAddr) -> Options {
    let auth = &config.auth;
    // Behind a proxy everybody comes from this machine.
    let private = public.ip().is_loopback() && config.server.trusted_proxies.is_empty();
    let set_up = if private {
        SetUp::NotRequired
    } else {
        SetUp::Required(
            auth.setup_token
                .as_ref()
                .map(|token| token.expose().to_owned()),
        )
    };
    Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        registration: match auth.registration {
            jarvis_config::Registration::Open => Registration::Open,
            jarvis_config::Registration::Invite => Registration::Invite,
            jarvis_config::Registration::Closed => Registration::Closed,
        },
        set_up,
        access_token_lifetime: Duration::from_secs(auth.access_token_seconds),
        refresh_token_lifetime: Duration::from_hours(24 * auth.refresh_token_days),
        message_bytes: config.limits.message_bytes,
        body_bytes: config.limits.body_bytes,
        answer_bytes: config.limits.answer_bytes,
        system_prompt: config.chat.system_prompt.clone(),
        default_model: config.chat.default_model.clone(),
        allowed_origins: config.server.allowed_origins.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        ..Options::new(secret)
    }
}

/// What a person who opens the page for the first time has to know.
pub(super) fn notes(api: &Api) -> Vec<String> {
    api.setup_token()
        .map(|token| {
            format!(
                "The first account becomes the administrator's. It needs this set-up token: {token}"
            )
        })
        .into_iter()
        .collect()
}
