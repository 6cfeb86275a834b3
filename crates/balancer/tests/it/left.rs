//! Whose slot it is when nobody waits for the answer any more: the node's, until it is done.

use crate::{
    dialect::Dialect,
    web::{Served, quick, serve},
};
use jarvis_balancer::{NodeSpec, Options, Transport};
use jarvis_testkit::Gate;
use serde_json::Value;
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;

/// A node that does not look whether anybody listens while it works: it has the model `m` in memory and answers every second
/// question only when the gate is open, record by record until one cannot be sent.
struct Deaf {
    address: SocketAddr,
    gate: Gate,
    /// Questions that it has given up on.
    gave_up: watch::Sender<usize>,
}

const ANSWER: &str = "{\"model\":\"m\",\"created_at\":\"\",\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":true}\n";
const RECORD: &str = "{\"model\":\"m\",\"created_at\":\"\",\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"done\":false}\n";

impl Deaf {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self {
            address: listener.local_addr().unwrap(),
            gate: Gate::default(),
            gave_up: watch::Sender::new(0),
        };
        let (gate, gave_up) = (node.gate.clone(), node.gave_up.clone());
        let asked = Arc::new(AtomicUsize::new(0));
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (gate, gave_up) = (gate.clone(), gave_up.clone());
                let asked = Arc::clone(&asked);
                tasks.spawn(async move {
                    if work(socket, &gate, &asked).await {
                        gave_up.send_modify(|count| *count += 1);
                    }
                });
            }
        });
        node
    }

    /// With one slot.
    fn spec(&self) -> NodeSpec {
        let transport = Transport::http(&format!("http://{}", self.address)).unwrap();
        NodeSpec {
            slots: NonZeroU32::new(1),
            ..NodeSpec::new("deaf", transport)
        }
    }
}

/// Serves one connection; `true` if a question was given up on.
async fn work(mut socket: TcpStream, gate: &Gate, asked: &AtomicUsize) -> bool {
    let mut read = Vec::new();
    loop {
        read.clear();
        while memchr::memmem::find(&read, b"\r\n\r\n").is_none() {
            if !matches!(socket.read_buf(&mut read).await, Ok(1..)) {
                return false;
            }
        }
        let body = match String::from_utf8_lossy(&read).split(' ').nth(1) {
            Some("/api/tags" | "/api/ps") => r#"{"models":[{"name":"m:latest","digest":"d"}]}"#,
            Some("/api/version") => r#"{"version":"1"}"#,
            _ if asked.fetch_add(1, SeqCst).is_multiple_of(2) => ANSWER,
            _ => {
                gate.pass().await;
                let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n";
                let mut sent = socket.write_all(head).await;
                while sent.is_ok() {
                    sent = socket.write_all(RECORD.as_bytes()).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                return true;
            }
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return false;
        }
    }
}

fn question() -> String {
    Dialect::Chat.asking("m", true, &Value::Null)
}

/// Without questions of the balancer's own.
fn plain() -> Options {
    Options {
        resume: false,
        ..quick()
    }
}

async fn until_draining(served: &Served) {
    let draining = |state: &Value| {
        let node = &state["nodes"][0];
        (&node["draining"], &node["active"]) == (&1.into(), &1.into())
    };
    served.until(draining).await;
}

#[tokio::test]
async fn the_slot_of_a_client_that_left_is_charged_until_the_node_is_done() {
    let deaf = Deaf::start().await;
    let served = serve(plain(), vec![deaf.spec()]).await;
    // It is known to be quick, and what it has is in memory.
    assert!(served.post("/api/chat", &question()).await.whole);
    let client = served.begin("/api/chat", &question()).await;
    served.until(|state| state["nodes"][0]["active"] == 1).await;
    drop(client);
    until_draining(&served).await;
    let next = served.begin("/api/chat", &question()).await;
    served.until_waiting(1).await;
    assert_eq!(served.node("deaf").await["draining"], 1);
    deaf.gate.open();
    let mut gave_up = deaf.gave_up.subscribe();
    gave_up.wait_for(|count| *count == 1).await.unwrap();
    assert_eq!(next.end().await.body, ANSWER.as_bytes());
    served.until_idle().await;
}

#[tokio::test]
async fn so_it_is_after_a_node_took_too_long_to_begin() {
    let deaf = Deaf::start().await;
    let options = Options {
        first_token_timeout: Duration::from_secs(2),
        ..plain()
    };
    let served = serve(options, vec![deaf.spec()]).await;
    assert!(served.post("/api/chat", &question()).await.whole);
    let late = served.post("/api/chat", &question()).await;
    late.ollama_error(502);
    until_draining(&served).await;
    deaf.gate.open();
    let mut gave_up = deaf.gave_up.subscribe();
    gave_up.wait_for(|count| *count == 1).await.unwrap();
    served.until_idle().await;
}

/// A node that is stuck does not keep the slot for ever.
#[tokio::test]
async fn a_node_that_shows_nothing_has_as_long_as_for_a_first_token() {
    let deaf = Deaf::start().await;
    let options = Options {
        first_token_timeout: Duration::from_secs(2),
        ..plain()
    };
    let served = serve(options, vec![deaf.spec()]).await;
    assert!(served.post("/api/chat", &question()).await.whole);
    let client = served.begin("/api/chat", &question()).await;
    served.until(|state| state["nodes"][0]["active"] == 1).await;
    drop(client);
    until_draining(&served).await;
    served.until_idle().await;
    assert_eq!(*deaf.gave_up.borrow(), 0);
    assert!(served.post("/api/chat", &question()).await.whole);
}
