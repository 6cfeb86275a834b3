//! What `serve` and `api` have in common: data directory, stores, nodes, and the backend on them.

use super::{Context, measuring::Measuring, nodes::Nodes};
use crate::{admin::Condition, data_dir::DataDir, secret};
use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use jarvis_api::{Api, ApiError, Options, RateOptions, Registration, SetUp, SigningSecret};
use jarvis_balancer::Balancer;
use jarvis_config::{Config, Loaded, PostgresUrl, RequestRate, StoreSection};
use jarvis_domain::Clock;
use jarvis_store::{
    AnswerLog, Db, DbOptions, Host, Location, PostgresOptions, Redis, RedisOptions, Synchronous,
    keep::{Place, Stores},
    series::{self, SeriesStore},
};
use serde_json::json;
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::time::timeout;

/// How long a start waits for the database of the series to say whether it takes us.
const SERIES_PATIENCE: Duration = Duration::from_secs(3);

/// The backend and what it stands on.
pub(super) struct Backend {
    pub(super) api: Api,
    pub(super) balancer: Balancer,
    db: Db,
    series: Measuring,
    /// What several instances share, besides the database.
    redis: Option<Redis>,
    /// Held as long as the stores are open.
    data: DataDir,
}

impl Backend {
    /// Opens the stores and starts the backend over `nodes`.
    pub(super) async fn start(context: &Context, data: DataDir, nodes: Nodes) -> Result<Self> {
        let config = &context.loaded.config;
        // First, because a database is changed when it is opened: by migrations.
        let redis = open_redis(context).await?;
        require_series(config).await?;
        let db = open_database(config, data.path()).await?;
        let answers = open_answers(config, data.path(), redis.as_ref())?;
        let secret = match &config.auth.secret {
            Some(given) => given.expose().as_bytes().to_vec(),
            None => secret::kept_in(data.path())?,
        };
        let secret = SigningSecret::new(secret).context("auth.secret is too short")?;
        let balancer = nodes.balance(context).await?;
        let series = Measuring::start(context, series_store(config, &db), &balancer);
        let options = Options {
            series: Some(series.points.clone()),
            ..options(config, secret, context.public)
        };
        let api = Api::start(
            options,
            db.clone(),
            answers,
            balancer.clone(),
            Clock::System,
        )
        .await
        .map_err(|error| not_started(error, data.path()))?;
        Ok(Self {
            api,
            balancer,
            db,
            series,
            redis,
            data,
        })
    }

    /// Keeps running answers for the next start and closes the stores.
    pub(super) async fn drain(self, limit: Duration) {
        if !self.api.shutdown(limit).await {
            tracing::warn!("not everything of the backend ended in time");
        }
        self.series.stop().await;
        if let Some(redis) = &self.redis {
            redis.close();
        }
        self.db.close().await;
        drop(self.data);
    }
}

fn not_started(error: ApiError, dir: &Path) -> anyhow::Error {
    let what_to_do = match error {
        ApiError::NotAlone => {
            "several instances on the PostgreSQL of store.url need one Redis Cluster: name it in redis.nodes of each".to_owned()
        }
        _ => unusable(dir),
    };
    anyhow::Error::new(error).context(what_to_do)
}

async fn open_database(config: &Config, dir: &Path) -> Result<Db> {
    match Db::open(&store(config, dir)).await {
        Err(error) if config.store.url.is_some() => {
            Err(error).context("the PostgreSQL of store.url cannot be used")
        }
        opened => opened.with_context(|| unusable(dir)),
    }
}

/// The Redis Cluster, where the configuration names one.
async fn open_redis(context: &Context) -> Result<Option<Redis>> {
    let section = &context.loaded.config.redis;
    if section.nodes.is_empty() {
        return Ok(None);
    }
    let password = section
        .password
        .clone()
        .map(jarvis_config::Secret::into_inner);
    let options = RedisOptions::new(section.nodes.clone(), password, section.prefix.clone());
    let redis = Redis::open(options, context.lifecycle.tasks())
        .await
        .context("the Redis Cluster of redis.nodes cannot be used")?;
    Ok(Some(redis))
}

fn open_answers(config: &Config, dir: &Path, redis: Option<&Redis>) -> Result<AnswerLog> {
    if let Some(redis) = redis {
        return Ok(AnswerLog::shared(redis));
    }
    let full = config.store.synchronous == jarvis_config::Synchronous::Full;
    AnswerLog::open(&answers(dir), full).with_context(|| unusable(dir))
}

/// Where the configuration puts the relational store.
pub(crate) fn store(config: &Config, dir: &Path) -> DbOptions {
    let section = &config.store;
    if let Some(url) = &section.url {
        return postgres(url, section.password.clone(), section);
    }
    let location = Location::File {
        path: database(dir),
        synchronous: match section.synchronous {
            jarvis_config::Synchronous::Normal => Synchronous::Normal,
            jarvis_config::Synchronous::Full => Synchronous::Full,
        },
    };
    limited(location, section)
}

/// Where the series lie, if the configuration puts them into a database of their own.
fn own_series_store(config: &Config) -> Option<DbOptions> {
    let section = &config.series;
    let url = section.url.as_ref()?;
    Some(DbOptions {
        settings: "series.url and series.password",
        ..postgres(url, section.password.clone(), &config.store)
    })
}

/// Fails if the database of the series refuses us, or what we do there. One that is away costs nothing: it is used when it comes.
async fn require_series(config: &Config) -> Result<()> {
    let Some(options) = own_series_store(config) else {
        return Ok(());
    };
    match timeout(SERIES_PATIENCE, series::require_rights(&options)).await {
        Ok(Err(error)) if !error.is_outage() => {
            Err(error).context("the PostgreSQL of series.url cannot be used")
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn series_store(config: &Config, db: &Db) -> SeriesStore {
    own_series_store(config).map_or_else(|| SeriesStore::Main(db.clone()), SeriesStore::Own)
}

/// A PostgreSQL database, within the limits of `section`.
pub(crate) fn postgres(
    url: &PostgresUrl,
    password: Option<jarvis_config::Secret>,
    section: &StoreSection,
) -> DbOptions {
    let host = |(name, port): &(String, u16)| Host {
        name: name.clone(),
        port: *port,
    };
    let options = PostgresOptions {
        hosts: url.hosts.iter().map(host).collect(),
        user: url.user.clone(),
        password: password.map(jarvis_config::Secret::into_inner),
        database: url.database.clone(),
        connections: section.connections,
    };
    limited(Location::Postgres(options), section)
}

fn limited(location: Location, section: &StoreSection) -> DbOptions {
    DbOptions {
        slow: Duration::from_secs(section.slow_query_seconds),
        deadline: Duration::from_secs(section.query_deadline_seconds),
        ..DbOptions::new(location)
    }
}

/// What an installation has, and how it is called in messages.
pub(crate) fn stores(loaded: &Loaded) -> Stores {
    let (config, dir) = (&loaded.config, &loaded.data_dir);
    let main = match &config.store.url {
        Some(url) => url.to_string(),
        None => format!("sqlite://{}", database(dir).display()),
    };
    let series = config.series.url.as_ref().map(ToString::to_string);
    Stores {
        main: Place::new(main, store(config, dir)),
        series: series
            .zip(own_series_store(config))
            .map(|(name, options)| Place::new(name, options)),
        answers: config.redis.nodes.is_empty().then(|| answers(dir)),
    }
}

/// The directory with the text of answers in the making, of a data directory.
fn answers(dir: &Path) -> std::path::PathBuf {
    dir.join("answers")
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
    let burst = config.limits.request_burst;
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
        requests_per_user: requests(config.limits.user_rate, 20, burst, private),
        requests_per_address: requests(config.limits.address_rate, 100, burst, private),
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

/// How many requests are let through: as configured, else `usual` in a second, but for a listener that only this machine reaches.
fn requests(
    configured: Option<RequestRate>,
    usual: u32,
    burst: u32,
    private: bool,
) -> Option<RateOptions> {
    let unset = if private {
        RequestRate::Off
    } else {
        RequestRate::PerSecond(usual)
    };
    let refill = configured.unwrap_or(unset).interval()?;
    Some(RateOptions { burst, refill })
}

/// What `/health/ready` says of the backend.
pub(super) fn condition(api: &Api) -> Condition {
    let api = api.clone();
    Box::new(move || {
        let api = api.clone();
        async move { json!(api.status().await) }.boxed()
    })
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
