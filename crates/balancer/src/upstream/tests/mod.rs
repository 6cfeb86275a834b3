//! The client against scripted nodes behind real sockets.

mod cuts;
mod exchange;
mod failures;
mod refused;
mod reuse;
mod streams;

use super::{Limits, Outgoing, TransportError, Upstream, UpstreamBody};
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt as _;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(30),
    head: Duration::from_mins(1),
    idle: Duration::from_mins(1),
    // Less than one read, so that both a head within one and a head in several meet it.
    max_head: 10_000,
};

/// A node that does what the test says.
struct Node {
    listener: TcpListener,
}

impl Node {
    async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn client(&self) -> Upstream {
        Upstream::new("127.0.0.1", self.port(), LIMITS)
    }

    async fn accept(&self) -> Peer {
        let stream = self.listener.accept().await.unwrap().0;
        // What is sent in pieces shall arrive in pieces.
        stream.set_nodelay(true).unwrap();
        Peer { stream }
    }

    /// Answers the one request of a new connection.
    async fn serve(&self, answer: &[u8]) -> Peer {
        let mut peer = self.accept().await;
        peer.request().await;
        peer.send(answer).await;
        peer
    }
}

/// One connection as the node sees it.
struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// Reads one request, body included.
    async fn request(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(bytes).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut body).await.unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Waits until the other side has closed.
    async fn closed(&mut self) {
        match self.stream.read(&mut [0]).await {
            Ok(0) => {}
            Ok(_) => panic!("bytes instead of the end"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }
}

/// `GET /` without headers.
async fn get(client: &Upstream) -> Result<Response<UpstreamBody>, TransportError> {
    ask(client, Method::GET).await
}

async fn ask(client: &Upstream, method: Method) -> Result<Response<UpstreamBody>, TransportError> {
    let request = Outgoing {
        method: &method,
        path: "/",
        headers: &HeaderMap::new(),
        body: Bytes::new(),
    };
    client.send(request).await
}

/// The frames of a body, and how it ended.
async fn frames(mut body: UpstreamBody) -> (Vec<Bytes>, Option<TransportError>) {
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frames.push(frame.into_data().unwrap()),
            Err(error) => {
                assert!(body.frame().await.is_none(), "an error is the end");
                return (frames, Some(error));
            }
        }
    }
    (frames, None)
}

/// The whole of a body that must be whole.
async fn text(response: Response<UpstreamBody>) -> String {
    let (frames, error) = frames(response.into_body()).await;
    assert!(error.is_none(), "{error:?}");
    String::from_utf8(frames.concat()).unwrap()
}
