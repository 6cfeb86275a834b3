//! The balancer behind real sockets, and a client that shows what came byte by byte.

use crate::{Started, dialect::Dialect, start_with};
use axum::{
    Router,
    extract::{ConnectInfo, Request},
    serve::ListenerExt as _,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use jarvis_balancer::{Access, NodeSpec, Options, Strategy, Transport};
use jarvis_testkit::FakeOllama;
use serde_json::Value;
use std::{fmt::Write as _, net::SocketAddr, num::NonZeroU32, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The administrators' key of all these tests.
pub(crate) const KEY: (&str, &str) = ("authorization", "Bearer the-administrators");
/// The installation's internal secret.
pub(crate) const SECRET: (&str, &str) = ("x-jarvis-internal", "the-installations");

/// Nothing that a test waits for takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A balancer that is served, and all that it needs to end with the test.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) started: Started,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Looks often, so that a test need not wait; the first request goes to the first node.
pub(crate) fn quick() -> Options {
    Options {
        strategy: Strategy::RoundRobin,
        probe_interval: Duration::from_millis(50),
        probe_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

/// A node as it is configured.
pub(crate) fn spec(name: &str, node: &FakeOllama) -> NodeSpec {
    NodeSpec::new(name, Transport::http(&node.url()).unwrap())
}

pub(crate) fn with_slots(name: &str, node: &FakeOllama, slots: u32) -> NodeSpec {
    NodeSpec {
        slots: NonZeroU32::new(slots),
        ..spec(name, node)
    }
}

/// Serves a balancer over `nodes`, each of which has been looked at.
pub(crate) async fn serve(options: Options, nodes: Vec<NodeSpec>) -> Served {
    let started = start_with(options, nodes);
    started.balancer.catalog().await;
    let (key, secret) = ("the-administrators", "the-installations");
    let access = Access::new(Some(key), Some(secret), false).unwrap();
    let stop = CancellationToken::new();
    let public = started.balancer.public(access.clone());
    let answer = async move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
        public.answer(peer, request).await
    };
    Served {
        address: listen(Router::new().fallback(answer), &stop).await,
        admin: listen(started.balancer.admin_router(access), &stop).await,
        started,
        stop,
    }
}

/// Serves a router on a free port until `stop`.
pub(crate) async fn listen(router: Router, stop: &CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.tap_io(|socket| socket.set_nodelay(true).unwrap());
    let stop = stop.clone();
    TaskTracker::new().spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service);
        stop.run_until_cancelled(server.into_future()).await
    });
    address
}

impl Served {
    /// Sends a request to the public port; the answer is still to be read.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Client {
        Client::send(self.address, method, path, headers, body.as_ref()).await
    }

    pub(crate) async fn begin(&self, path: &str, body: &str) -> Client {
        self.send("POST", path, &[], body).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.begin(path, body).await.end().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await.end().await
    }

    /// An administrator's request to the admin port.
    pub(crate) async fn administer(&self, method: &str, path: &str, body: &str) -> Answer {
        let client = Client::send(self.admin, method, path, &[KEY], body.as_bytes());
        client.await.end().await
    }

    pub(crate) async fn state(&self) -> Value {
        self.administer("GET", "/admin/state", "").await.json()
    }

    /// The state of one node.
    pub(crate) async fn node(&self, name: &str) -> Value {
        let state = self.state().await;
        let nodes = state["nodes"].as_array().unwrap();
        let node = nodes.iter().find(|node| node["name"] == name);
        node.unwrap_or_else(|| panic!("{state}")).clone()
    }

    /// Waits until the state is like that.
    pub(crate) async fn until(&self, like: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state().await;
            if like(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{state:#}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until no slot is in use and nobody waits.
    pub(crate) async fn until_idle(&self) {
        self.until(|state| {
            let nodes = state["nodes"].as_array().unwrap();
            state["queue"]["waiting"] == 0 && nodes.iter().all(|node| node["active"] == 0)
        })
        .await;
    }

    pub(crate) async fn until_waiting(&self, count: usize) {
        self.until(|state| state["queue"]["waiting"] == count).await;
    }

    /// Adds a node and waits until it has been looked at.
    pub(crate) async fn join(&self, spec: NodeSpec) {
        let name = spec.name.clone();
        self.started.balancer.add_node(spec).unwrap();
        self.until(|state| {
            let mut nodes = state["nodes"].as_array().unwrap().iter();
            nodes.any(|node| node["name"] == *name && node["up"] == true)
        })
        .await;
    }

    /// Asks until the answer is like that.
    pub(crate) async fn post_until(
        &self,
        path: &str,
        body: &str,
        like: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.post(path, body).await;
            if like(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One request on a connection of its own. Dropping it is leaving.
#[derive(Debug)]
pub(crate) struct Client {
    socket: TcpStream,
    raw: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Self {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: balancer\r\n");
        if !headers.iter().any(|(name, _)| *name == "connection") {
            head += "connection: close\r\n";
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() {
            let length = body.len();
            write!(
                head,
                "content-type: application/json\r\ncontent-length: {length}\r\n"
            )
            .unwrap();
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Self::raw(address, &bytes).await
    }

    /// Sends exactly this.
    pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        Self {
            socket,
            raw: Vec::new(),
        }
    }

    /// Reads until this has come.
    pub(crate) async fn until(&mut self, what: &str) {
        while memchr::memmem::find(&self.raw, what.as_bytes()).is_none() {
            let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.raw));
            let read = read.await.map(Result::unwrap);
            let so_far = String::from_utf8_lossy(&self.raw);
            assert!(matches!(read, Ok(1..)), "no {what:?} in {so_far}");
        }
    }

    /// Reads to the end.
    pub(crate) async fn end(mut self) -> Answer {
        let read = self.socket.read_to_end(&mut self.raw);
        let read = tokio::time::timeout(PATIENCE, read).await;
        let so_far = String::from_utf8_lossy(&self.raw);
        let read = read.unwrap_or_else(|_| panic!("no end after {so_far}"));
        Answer::parse(&self.raw, read.is_ok())
    }
}

/// An answer, decoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// What followed the body, as text.
    pub(crate) trailers: String,
    /// It came to the end that its head promised.
    pub(crate) whole: bool,
}

impl Answer {
    fn parse(raw: &[u8], closed: bool) -> Self {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let status = head.parse(raw);
        let Ok(httparse::Status::Complete(length)) = status else {
            panic!("{:?}", String::from_utf8_lossy(raw));
        };
        let headers: HeaderMap = head
            .headers
            .iter()
            .map(|header| {
                let name = HeaderName::from_bytes(header.name.as_bytes()).unwrap();
                (name, HeaderValue::from_bytes(header.value).unwrap())
            })
            .collect();
        let rest = &raw[length..];
        let mut trailers = "";
        let (body, whole) = if let Some(length) = headers.get("content-length") {
            let length: usize = length.to_str().unwrap().parse().unwrap();
            (rest.to_vec(), rest.len() == length)
        } else if headers.contains_key("transfer-encoding") {
            let (body, after) = dechunked(rest);
            trailers = after
                .and_then(|after| after.strip_suffix("\r\n"))
                .unwrap_or_default();
            let announced = headers.contains_key("trailer");
            let ends = |after: &str| after == "\r\n" || announced && after.ends_with("\r\n\r\n");
            (body, after.is_some_and(ends))
        } else {
            (rest.to_vec(), closed)
        };
        Self {
            status: head.code.unwrap(),
            headers,
            body,
            trailers: trailers.to_owned(),
            whole,
        }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn node(&self) -> &str {
        self.header("x-jarvis-node")
    }

    /// It is an error of this status in the shape of `dialect`; gives its words.
    pub(crate) fn error(&self, dialect: Dialect, status: u16) -> String {
        if dialect.is_openai() {
            self.openai_error(status)
        } else {
            self.ollama_error(status)
        }
    }

    /// The same in Ollama's.
    pub(crate) fn ollama_error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        body["error"].as_str().unwrap().to_owned()
    }

    /// The same in OpenAI's.
    pub(crate) fn openai_error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let error = self.json()["error"].clone();
        assert!(error["type"].is_string(), "{error}");
        error["message"].as_str().unwrap().to_owned()
    }
}

/// The body, and what came after its last chunk if that has come.
fn dechunked(mut rest: &[u8]) -> (Vec<u8>, Option<&str>) {
    let mut body = Vec::new();
    loop {
        let Some(at) = memchr::memmem::find(rest, b"\r\n") else {
            return (body, None);
        };
        let size = std::str::from_utf8(&rest[..at]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = &rest[at + 2..];
        if size == 0 {
            return (body, std::str::from_utf8(rest).ok());
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            return (body, None);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}
