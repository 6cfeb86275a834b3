//! A node that can no longer be reached, though nobody says so: it takes no connection and refuses none.

use crate::{
    dialect::Dialect,
    web::{quick, serve, spec},
};
use jarvis_balancer::{NodeSpec, Options, Transport};
use jarvis_testkit::{FakeModel, FakeOllama};
use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// A node that lists the model `m`, each look on a connection of its own, until nobody is let in any more.
struct Shut {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    tasks: TaskTracker,
    open: DropGuard,
}

impl Shut {
    fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = Arc::new(socket.listen(4).unwrap());
        let stop = CancellationToken::new();
        let node = Self {
            address: listener.local_addr().unwrap(),
            listener: Arc::clone(&listener),
            tasks: TaskTracker::new(),
            open: stop.clone().drop_guard(),
        };
        node.tasks.spawn(async move {
            let serving = async {
                while let Ok((socket, _)) = listener.accept().await {
                    let _ = look(socket).await;
                }
            };
            stop.run_until_cancelled(serving).await;
        });
        node
    }

    /// With one slot.
    fn spec(&self, name: &str) -> NodeSpec {
        let transport = Transport::http(&format!("http://{}", self.address)).unwrap();
        NodeSpec {
            slots: NonZeroU32::new(1),
            ..NodeSpec::new(name, transport)
        }
    }

    /// Lets nobody in from now on; what is given keeps it so.
    async fn shut(self) -> (Arc<TcpListener>, Vec<TcpStream>) {
        drop(self.open);
        self.tasks.close();
        self.tasks.wait().await;
        let mut queued = Vec::new();
        // What fits into the kernel's queue is taken at once.
        let connect = || timeout(Duration::from_millis(300), TcpStream::connect(self.address));
        while let Ok(connected) = connect().await {
            queued.push(connected.unwrap());
        }
        (self.listener, queued)
    }
}

async fn look(mut socket: TcpStream) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while memchr::memmem::find(&asked, b"\r\n\r\n").is_none() {
        if socket.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    let body = match String::from_utf8_lossy(&asked).split(' ').nth(1) {
        Some("/api/tags") => {
            r#"{"models":[{"name":"m:latest","digest":"digest of m:latest","jarvis":{}}]}"#
        }
        Some("/api/ps") => r#"{"models":[]}"#,
        _ => r#"{"version":"1"}"#,
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    socket.write_all((head + body).as_bytes()).await
}

fn options(connect_timeout: Duration) -> Options {
    Options {
        connect_timeout,
        // It is looked at but once, while it lets people in.
        probe_interval: Duration::from_hours(1),
        ..quick()
    }
}

#[tokio::test]
async fn a_node_that_lets_nobody_in_is_replaced_after_a_time_of_its_own() {
    let (shut, good) = (
        Shut::start(),
        FakeOllama::with(vec![FakeModel::engine("m:latest")]).await,
    );
    let options = options(Duration::from_millis(300));
    let served = serve(options, vec![shut.spec("shut"), spec("good", &good)]).await;
    let _shut = shut.shut().await;
    let dialect = Dialect::Chat;
    let answer = served.post(dialect.path(), &dialect.streamed()).await;
    assert_eq!((answer.status, answer.node()), (200, "good"));
    let node = served.node("shut").await;
    assert_eq!(
        (&node["active"], &node["error_rate"]),
        (&0.into(), &1.0.into())
    );

    served.started.balancer.remove_node("good");
    for dialect in crate::dialect::ALL {
        let answer = served.post(dialect.path(), &dialect.streamed()).await;
        let words = answer.error(dialect, 503);
        assert!(words.contains("'m:latest'"), "{words}");
        assert!(!answer.header("retry-after").is_empty());
    }
    served.until_idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_its_node_is_being_connected_to_frees_the_slot() {
    let shut = Shut::start();
    let served = serve(options(Duration::from_hours(1)), vec![shut.spec("shut")]).await;
    let _shut = shut.shut().await;
    let dialect = Dialect::Chat;
    let client = served.begin(dialect.path(), &dialect.streamed()).await;
    served.until(|state| state["nodes"][0]["active"] == 1).await;
    let waiting = served.begin(dialect.path(), &dialect.streamed()).await;
    served.until_waiting(1).await;
    drop(client);
    // The slot is the next one's.
    served.until_waiting(0).await;
    assert_eq!(served.node("shut").await["active"], 1);
    drop(waiting);
    served.until_idle().await;
    assert_eq!(served.node("shut").await["error_rate"], 0.0);
}
