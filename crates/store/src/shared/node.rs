//! A connection to one node of the cluster, kept up.

use super::fault::RedisFault;
use redis::{
    AsyncConnectionConfig, Pipeline, PushInfo, RedisConnectionInfo, Value,
    aio::{MultiplexedConnection, SendError},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Between two tries to connect: from the one to the other.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Between two looks at a connection that nobody uses.
const BEAT: Duration = Duration::from_secs(1);
/// Requests that may wait to be written.
const WAITING: usize = 1024;

/// How nodes are reached.
#[derive(Clone)]
pub(super) struct Access {
    /// The password among it.
    pub(super) info: RedisConnectionInfo,
    /// How long a node may take to answer, and to accept a connection.
    pub(super) deadline: Duration,
}

/// What a connection does with messages that nobody asked for.
pub(super) type Push = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection as it was when something was done over it. While it is the same, the server has not been restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    node: Arc<str>,
    incarnation: u64,
    /// The slot was on its way to this node, which serves it only to who says that it knows.
    pub(super) asking: bool,
}

impl Standing {
    /// `host:port`.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn address(&self) -> &Arc<str> {
        &self.node
    }
}

/// What a node said, one value for each command.
pub(crate) struct Reply {
    pub(crate) values: Vec<Value>,
    pub(crate) standing: Standing,
}

#[derive(Clone)]
struct Link {
    /// Counts the connections.
    incarnation: u64,
    state: Result<MultiplexedConnection, RedisFault>,
}

/// One node.
pub(super) struct Node {
    address: Arc<str>,
    access: Access,
    link: watch::Sender<Link>,
    /// The last incarnation that somebody has had no answer from.
    doubted: watch::Sender<u64>,
    /// Told of every change.
    changed: Arc<Notify>,
}

impl Node {
    /// A node that [`Node::keep`] will connect to.
    pub(super) fn new(address: Arc<str>, access: &Access, changed: Arc<Notify>) -> Arc<Self> {
        let untried = RedisFault::unreachable(&address, "it has not been tried yet");
        Arc::new(Self {
            address,
            access: access.clone(),
            link: watch::Sender::new(Link {
                incarnation: 0,
                state: Err(untried),
            }),
            doubted: watch::Sender::new(0),
            changed,
        })
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Why it cannot be used now; `None` while it can.
    pub(super) fn fault(&self) -> Option<RedisFault> {
        self.link.borrow().state.as_ref().err().cloned()
    }

    /// What it stands for now, while it is connected.
    pub(super) fn standing(&self) -> Option<Standing> {
        let link = self.link.borrow();
        link.state.is_ok().then(|| self.at(link.incarnation))
    }

    /// Waits until the first try to connect has ended, one way or the other.
    pub(super) async fn tried(&self) {
        let mut link = self.link.subscribe();
        let tried = link.wait_for(|link| link.incarnation > 0);
        // It takes no longer, unless all has been closed.
        let _ = timeout(self.access.deadline, tried).await;
    }

    /// Waits for a connection, as long as an answer may take.
    pub(super) async fn connected(&self) {
        let mut link = self.link.subscribe();
        let _ = timeout(
            self.access.deadline,
            link.wait_for(|link| link.state.is_ok()),
        )
        .await;
    }

    /// Has it do `commands`, once it has been tried. Server errors are among the values.
    pub(super) async fn ask(&self, commands: &Pipeline) -> Result<Reply, RedisFault> {
        let mut link = self.link.borrow().clone();
        if link.incarnation == 0 {
            self.tried().await;
            link = self.link.borrow().clone();
        }
        self.ask_over(link, commands).await
    }

    /// The same, but only over the connection of `standing`.
    pub(super) async fn ask_at(
        &self,
        standing: &Standing,
        commands: &Pipeline,
    ) -> Result<Reply, RedisFault> {
        let link = self.link.borrow().clone();
        let now = Standing {
            asking: standing.asking,
            ..self.at(link.incarnation)
        };
        if now != *standing {
            return Err(RedisFault::unreachable(
                &standing.node,
                "it has closed the connection",
            ));
        }
        if standing.asking {
            return self.ask_on_its_way(link, commands).await;
        }
        self.ask_over(link, commands).await
    }

    /// Has it do `commands` about a slot that is on its way to it.
    pub(super) async fn ask_incoming(&self, commands: &Pipeline) -> Result<Reply, RedisFault> {
        self.connected().await;
        let link = self.link.borrow().clone();
        self.ask_on_its_way(link, commands).await
    }

    async fn ask_on_its_way(&self, link: Link, commands: &Pipeline) -> Result<Reply, RedisFault> {
        let mut asking = redis::pipe();
        for command in commands.cmd_iter() {
            // It holds for one command.
            asking.cmd("ASKING").add_command(command.clone());
        }
        let mut reply = self.ask_over(link, &asking).await?;
        reply.values = reply.values.into_iter().skip(1).step_by(2).collect();
        reply.standing.asking = true;
        Ok(reply)
    }

    async fn ask_over(&self, link: Link, commands: &Pipeline) -> Result<Reply, RedisFault> {
        let Link { incarnation, state } = link;
        let mut connection = state?;
        let work = connection.send_packed_commands(commands, 0, commands.len());
        let fault = match timeout(self.access.deadline, work).await {
            Ok(Ok(values)) => {
                let standing = self.at(incarnation);
                return Ok(Reply { values, standing });
            }
            Ok(Err(error)) => RedisFault::unreachable(&self.address, &error.to_string()),
            Err(_) => RedisFault::silent(&self.address, self.access.deadline),
        };
        self.doubted.send_if_modified(|doubted| {
            let new = *doubted < incarnation;
            *doubted = incarnation.max(*doubted);
            new
        });
        Err(fault)
    }

    fn at(&self, incarnation: u64) -> Standing {
        Standing {
            node: Arc::clone(&self.address),
            incarnation,
            asking: false,
        }
    }

    /// Connects, again and again, until `stop`.
    pub(super) async fn keep(self: Arc<Self>, push: Option<Push>, stop: CancellationToken) {
        let work = async {
            let mut pause = PAUSES.0;
            for incarnation in 1_u64.. {
                let connected = timeout(self.access.deadline, self.connect(push.as_ref()))
                    .await
                    .unwrap_or_else(|_| {
                        Err(RedisFault::silent(&self.address, self.access.deadline))
                    });
                let fault = match connected {
                    Ok((connection, driver)) => {
                        pause = PAUSES.0;
                        self.tell(incarnation, Ok(connection.clone()));
                        self.watch(incarnation, connection, driver).await
                    }
                    Err(fault) => fault,
                };
                self.tell(incarnation, Err(fault));
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        };
        let _ = stop.run_until_cancelled(work).await;
    }

    async fn connect(
        &self,
        push: Option<&Push>,
    ) -> Result<(MultiplexedConnection, impl Future<Output = ()>), RedisFault> {
        let unreachable =
            |error: std::io::Error| RedisFault::unreachable(&self.address, &error.to_string());
        let stream = TcpStream::connect(&*self.address)
            .await
            .map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(WAITING);
        if let Some(push) = push.cloned() {
            config = config.set_push_sender(move |info| {
                push(info);
                Ok::<_, SendError>(())
            });
        }
        let made = MultiplexedConnection::new_with_config(&self.access.info, stream, config).await;
        made.map_err(|error| RedisFault::of_set_up(&self.address, &error))
    }

    /// Returns when a connection is of no more use, with the reason.
    async fn watch(
        &self,
        incarnation: u64,
        mut connection: MultiplexedConnection,
        driver: impl Future<Output = ()>,
    ) -> RedisFault {
        let beat = async {
            let mut ask = redis::pipe();
            ask.cmd("PING");
            loop {
                sleep(BEAT).await;
                let pong = connection.send_packed_commands(&ask, 0, 1);
                if !matches!(timeout(self.access.deadline, pong).await, Ok(Ok(_))) {
                    return;
                }
            }
        };
        let mut doubted = self.doubted.subscribe();
        tokio::select! {
            biased;
            () = driver => RedisFault::unreachable(&self.address, "it has closed the connection"),
            _ = doubted.wait_for(|doubted| *doubted >= incarnation) => RedisFault::silent(&self.address, self.access.deadline),
            () = beat => RedisFault::silent(&self.address, self.access.deadline),
        }
    }

    fn tell(&self, incarnation: u64, state: Result<MultiplexedConnection, RedisFault>) {
        let before = self.link.borrow().state.is_ok();
        match &state {
            Ok(_) => tracing::info!(node = &*self.address, "connected to Redis"),
            Err(fault) if before || incarnation == 1 => {
                tracing::warn!(node = &*self.address, "Redis is away: {fault}");
            }
            Err(_) => {}
        }
        self.link.send_replace(Link { incarnation, state });
        self.changed.notify_one();
    }
}
