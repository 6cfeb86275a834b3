//! Several instances in one process, on one PostgreSQL and, as a rule, one Redis Cluster, each on a runtime of its own that can be torn
//! down or frozen like a process.

use crate::{
    client::{Client, Events, Socket, apply},
    server::{balancer, listen, options},
};
use jarvis_api::{Api, ApiError, Options};
use jarvis_balancer::{NodeSpec, Transport};
use jarvis_domain::{Clock, durable::Rules};
use jarvis_store::{
    AnswerLog, Db, DbOptions, Host, Location, PostgresOptions, Redis, RedisOptions,
};
use jarvis_testkit::{
    FakeOllama,
    services::{Postgres, RedisCluster},
};
use std::{net::SocketAddr, path::PathBuf, sync::mpsc, time::Duration};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const WORKERS: usize = 2;

/// What outlives the instances.
pub(crate) struct Cluster {
    pub(crate) node: FakeOllama,
    database: String,
    redis: Option<Vec<String>>,
    prefix: String,
    options: Options,
    /// For the answer logs of instances without Redis.
    directory: TempDir,
    instances: Vec<Option<Instance>>,
}

pub(crate) struct Instance {
    pub(crate) api: Api,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Drop for Instance {
    /// Like a kill: tasks are dropped wherever they stand.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A frozen instance, until it goes.
pub(crate) struct Frozen(Vec<mpsc::Sender<()>>);

impl Frozen {
    /// Lets it go on.
    pub(crate) fn thaw(self) {
        drop(self.0);
    }
}

/// Times that suit a test: an instance is missed after a second.
fn rules() -> Rules {
    Rules {
        lease: Duration::from_secs(1),
        renew: Duration::from_millis(200),
        log_again: Duration::from_millis(200),
        ..Rules::default()
    }
}

impl Cluster {
    /// `count` instances on the servers that all tests share.
    pub(crate) async fn start(count: usize) -> Self {
        Self::on(RedisCluster::shared(), count).await
    }

    /// The same, with other options.
    pub(crate) async fn start_with(count: usize, change: impl FnOnce(&mut Options)) -> Self {
        Self::on_with(RedisCluster::shared(), count, change).await
    }

    pub(crate) async fn on_with(
        redis: &RedisCluster,
        count: usize,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let mut cluster = Self::on(redis, 0).await;
        change(&mut cluster.options);
        for _ in 0..count {
            cluster.add().await;
        }
        cluster
    }

    pub(crate) async fn on(redis: &RedisCluster, count: usize) -> Self {
        let mut cluster = Self::empty(Some(redis.nodes())).await;
        for _ in 0..count {
            cluster.add().await;
        }
        cluster
    }

    /// A database for several, and nothing else that they share.
    pub(crate) async fn without_redis() -> Self {
        Self::empty(None).await
    }

    /// Those that are added from now on share this one.
    pub(crate) fn share(&mut self, redis: &RedisCluster) {
        self.redis = Some(redis.nodes());
    }

    async fn empty(redis: Option<Vec<String>>) -> Self {
        let database = Postgres::shared().create_database();
        Self {
            node: FakeOllama::start().await,
            prefix: database.clone(),
            database,
            redis,
            options: Options {
                rules: rules(),
                ..options()
            },
            directory: tempfile::tempdir().unwrap(),
            instances: Vec::new(),
        }
    }

    /// Starts one that pings often and hears nothing of what the others say; its number.
    pub(crate) async fn add_deaf(&mut self) -> usize {
        let usual = (self.prefix.clone(), self.options.clone());
        self.prefix += "-deaf";
        self.options.socket.ping_every = Duration::from_millis(20);
        let number = self.add().await;
        (self.prefix, self.options) = usual;
        number
    }

    /// Starts another instance; its number.
    pub(crate) async fn add(&mut self) -> usize {
        self.try_add().await.unwrap()
    }

    /// The same, if it starts.
    pub(crate) async fn try_add(&mut self) -> Result<usize, ApiError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()
            .unwrap();
        let postgres = PostgresOptions {
            hosts: vec![Host {
                name: "127.0.0.1".into(),
                port: Postgres::shared().port(),
            }],
            user: Postgres::USER.into(),
            password: Some(Postgres::PASSWORD.into()),
            database: self.database.clone(),
            connections: 5,
        };
        let store = DbOptions::new(Location::Postgres(postgres));
        let password = Some(RedisCluster::PASSWORD.into());
        let redis = self.redis.clone();
        let redis = redis.map(|nodes| RedisOptions::new(nodes, password, self.prefix.clone()));
        let nodes = vec![NodeSpec::new(
            "node",
            Transport::http(&self.node.url()).unwrap(),
        )];
        // Each on a machine of its own.
        let own = self.directory.path().join(self.instances.len().to_string());
        let starting = serve(store, redis, own, nodes, self.options.clone());
        let (api, address) = match runtime.spawn(starting).await.unwrap() {
            Ok(started) => started,
            Err(refused) => {
                runtime.shutdown_background();
                return Err(refused);
            }
        };
        self.instances.push(Some(Instance {
            api,
            address,
            runtime: Some(runtime),
        }));
        Ok(self.instances.len() - 1)
    }

    pub(crate) fn instance(&self, index: usize) -> &Instance {
        self.instances[index].as_ref().expect("a running instance")
    }

    /// Kills an instance.
    pub(crate) fn kill(&mut self, index: usize) {
        drop(self.instances[index].take());
    }

    /// Stops the clock for an instance; its connections stay open.
    pub(crate) fn freeze(&self, index: usize) -> Frozen {
        let runtime = self.instance(index).runtime.as_ref().unwrap();
        let held = (0..WORKERS).map(|_| {
            let (thaw, wait) = mpsc::channel::<()>();
            let (begun, running) = mpsc::channel();
            runtime.spawn(async move {
                begun.send(()).unwrap();
                // Blocks the thread on purpose.
                let _ = wait.recv();
            });
            running.recv().unwrap();
            thaw
        });
        Frozen(held.collect())
    }

    /// Somebody with an account, at an instance.
    pub(crate) async fn user(&self, index: usize, email: &str) -> Client {
        let mut client = Client::new(self.instance(index).address);
        client.register(email).await;
        client
    }

    /// The same person at another instance.
    pub(crate) fn at(&self, client: &Client, index: usize) -> Client {
        client.at(self.instance(index).address)
    }

    /// The key of an answer's log.
    pub(crate) fn log_key(&self, generation: &str) -> String {
        format!("{}:{{{generation}}}:log", self.prefix)
    }

    pub(crate) async fn socket(&self, client: &Client, index: usize) -> Socket {
        let mut socket = Socket::open(self.instance(index).address).await;
        socket.authenticate(client.token()).await;
        socket
    }
}

async fn serve(
    store: DbOptions,
    redis: Option<RedisOptions>,
    directory: PathBuf,
    nodes: Vec<NodeSpec>,
    options: Options,
) -> Result<(Api, SocketAddr), ApiError> {
    let (balancer, tasks) = balancer(nodes);
    let db = Db::open(&store).await.unwrap();
    let answers = match redis {
        Some(redis) => AnswerLog::shared(&Redis::open(redis, &tasks).await.unwrap()),
        None => AnswerLog::open(&directory, false).unwrap(),
    };
    let api = Api::start(options, db, answers, balancer, Clock::System).await?;
    let address = listen(&api, &tasks).await;
    Ok((api, address))
}

/// Reads until the text is `whole`.
pub(crate) async fn read_to(events: &mut Events, text: &mut String, whole: &str) {
    while text != whole {
        let event = events.next().await.expect("more text");
        apply(text, &event.data);
        assert!(whole.starts_with(text.as_str()), "{text:?}");
    }
}
