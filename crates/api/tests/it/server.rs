//! The server under test, on a runtime of its own that can be torn down like a killed process.

use crate::client::{Client, Socket};
use jarvis_api::{Api, Options, PasswordCost, RateOptions, SigningSecret};
use jarvis_balancer::{Balancer, NodeSpec, Transport};
use jarvis_domain::{Clock, Timestamp};
use jarvis_store::{AnswerLog, Db, DbOptions};
use jarvis_testkit::FakeOllama;
use sqlx::Connection as _;
use std::{net::SocketAddr, time::Duration};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A password that every test uses.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// What outlives a server: its data directory, its node, its clock.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) node: FakeOllama,
    pub(crate) clock: Clock,
    pub(crate) options: Options,
    /// Another node, in the server's own process.
    pub(crate) inside: Option<Transport>,
    server: Option<Server>,
}

struct Server {
    api: Api,
    answers: AnswerLog,
    address: SocketAddr,
    runtime: Option<runtime::Runtime>,
}

impl Drop for Server {
    /// Like a kill: tasks are dropped wherever they stand.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) fn options() -> Options {
    let mut options = Options::new(SigningSecret::new(vec![7; 32]).unwrap());
    options.password_cost = PasswordCost {
        memory_kib: 64,
        passes: 1,
        concurrency: 2,
    };
    let generous = RateOptions {
        burst: 10_000,
        refill: Duration::from_secs(1),
    };
    options.rate_per_address = generous;
    options.rate_per_email = generous;
    options
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(options()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let mut world = Self::prepare(options).await;
        world.restart().await;
        world
    }

    /// Everything but the server.
    pub(crate) async fn prepare(options: Options) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            node: FakeOllama::start().await,
            clock: Clock::manual(Timestamp::from_micros(1_795_343_265_123_456)),
            options,
            inside: None,
            server: None,
        }
    }

    /// Kills the server, if there is one, and starts another on the same data.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let outside = NodeSpec::new("node", Transport::http(&self.node.url()).unwrap());
        let inside = self.inside.clone();
        let inside = inside.map(|transport| NodeSpec::new("inside", transport));
        let starting = serve(
            self.dir.path().to_owned(),
            std::iter::once(outside).chain(inside).collect(),
            self.options.clone(),
            self.clock.clone(),
        );
        let (api, answers, address) = runtime.spawn(starting).await.unwrap();
        self.server = Some(Server {
            api,
            answers,
            address,
            runtime: Some(runtime),
        });
    }

    pub(crate) fn kill(&mut self) {
        drop(self.server.take());
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("a running server")
    }

    pub(crate) fn api(&self) -> Api {
        self.server().api.clone()
    }

    pub(crate) fn answers(&self) -> AnswerLog {
        self.server().answers.clone()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server().address
    }

    /// Makes the database refuse the ends of answers, or take them again.
    pub(crate) async fn refuse_writes(&self, refuse: bool) {
        let path = self.dir.path().join("jarvis.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = sqlx::SqliteConnection::connect_with(&options)
            .await
            .unwrap();
        let statement = if refuse {
            "CREATE TRIGGER refuse BEFORE UPDATE ON messages BEGIN SELECT RAISE(ABORT, 'refused by a test'); END"
        } else {
            "DROP TRIGGER refuse"
        };
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    }

    /// Somebody who has not signed in.
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.address())
    }

    /// Somebody with an account, signed in.
    pub(crate) async fn user(&self, email: &str) -> Client {
        let mut client = self.anonymous();
        client.register(email).await;
        client
    }

    /// A socket of `client`, authenticated.
    pub(crate) async fn socket(&self, client: &Client) -> Socket {
        let mut socket = Socket::open(self.address()).await;
        socket.authenticate(client.token()).await;
        socket
    }
}

async fn serve(
    dir: std::path::PathBuf,
    nodes: Vec<NodeSpec>,
    options: Options,
    clock: Clock,
) -> (Api, AnswerLog, SocketAddr) {
    let (balancer, tasks) = balancer(nodes);
    let store = DbOptions::file(dir.join("jarvis.db"));
    let db = Db::open(&store).await.unwrap();
    let answers = AnswerLog::open(&dir.join("answers"), false).unwrap();
    let api = Api::start(options, db, answers.clone(), balancer, clock);
    let api = api.await.unwrap();
    let address = listen(&api, &tasks).await;
    (api, answers, address)
}

pub(crate) fn balancer(nodes: Vec<NodeSpec>) -> (Balancer, TaskTracker) {
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let options = jarvis_balancer::Options::default();
    let balancer = Balancer::start(options, nodes, &tasks, &stop).unwrap();
    (balancer, tasks)
}

/// Serves a backend on a port of its own.
pub(crate) async fn listen(api: &Api, tasks: &TaskTracker) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api
        .router()
        .into_make_service_with_connect_info::<SocketAddr>();
    tasks.spawn(async move { axum::serve(listener, router).await });
    address
}
