//! Listening sockets and HTTP/1.1 connections, with the bounds a public port needs: time for the
//! headers, size of the headers, number of connections.

use crate::{
    connection::Connection,
    framing,
    lifecycle::Lifecycle,
    long::{self, Answer, Rest, Seam},
    site::Site,
};
use anyhow::{Context as _, Result, bail};
use axum::body::Body;
use futures_util::{FutureExt as _, future::BoxFuture};
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::http1::{self, UpgradeableConnection},
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jarvis_config::{ListenAddress, ServerSection};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    convert::Infallible,
    future::{Future as _, pending, poll_fn, ready},
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{self, Context, Poll},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Bounds of one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections open at once; further ones wait in the kernel's queue.
    pub(crate) connections: usize,
    /// How long a client may take to send its headers.
    pub(crate) header_time: Duration,
    /// Bytes of request line and headers.
    pub(crate) header_bytes: usize,
    /// How long a client may leave what is sent to it unread.
    pub(crate) write_time: Duration,
}

impl Bounds {
    /// With no more connections than leave `files` for the rest, so that a flood of them does not take the stores away.
    /// `relays`: behind each there may be one more, to a node.
    pub(crate) fn leaving(self, files: usize, relays: bool) -> Self {
        let most = if relays { files / 2 } else { files - files / 4 };
        Self {
            connections: self.connections.min(most),
            ..self
        }
    }
}

/// Lets this process open as many files as it may, and says how many these are: a connection is one, and unless a process asks
/// for more, it may open a thousand.
pub(crate) fn open_files() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files could not be raised: {error}");
    }
    let files = getrlimit(Resource::Nofile).current;
    files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

/// As long as a dead WebSocket is kept.
const WRITE_TIME: Duration = Duration::from_mins(1);

impl From<&ServerSection> for Bounds {
    fn from(section: &ServerSection) -> Self {
        Self {
            connections: section.max_connections,
            header_time: Duration::from_secs(section.header_timeout_seconds),
            header_bytes: section.max_header_bytes,
            write_time: WRITE_TIME,
        }
    }
}

/// Binds `address`; `flag` is what the user would change.
pub(crate) fn bind(address: ListenAddress, flag: &str) -> Result<TcpListener> {
    let error = match listen(address.0) {
        Ok(listener) => return Ok(listener),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse => bail!(
            "{address} is already in use by another program; stop that one, or choose another address with {flag}"
        ),
        ErrorKind::PermissionDenied => bail!(
            "not allowed to listen on {address}; ports below 1024 need special rights, choose another with {flag}"
        ),
        ErrorKind::AddrNotAvailable => bail!(
            "{address} is not an address of this machine; choose one that is with {flag} (127.0.0.1 for this machine only, 0.0.0.0 for all networks)"
        ),
        _ => Err(error).with_context(|| format!("cannot listen on {address} ({flag})")),
    }
}

/// Connections that may wait to be accepted, of the 4,096 that the kernel allows as it comes (`net.core.somaxconn`). Beyond
/// them a client is not heard before it asks again, a second later: of many that come back at once, nobody shall be.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // What the last process left behind does not keep the next one from the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How far a listener's end has come. Its connections look at it each time they are polled, which costs an atomic load; a
/// token would take a lock that they all share.
#[derive(Clone, Copy)]
enum Step {
    Serving,
    /// Open requests end, and no others begin.
    Draining,
    /// What is still open is dropped.
    Cut,
}

/// Accepts connections for `site` until `stop`, then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    site: Site,
    bounds: Bounds,
    stop: CancellationToken,
    lifecycle: Lifecycle,
) -> Result<()> {
    let connections = TaskTracker::new();
    let (phase, phases) = watch::channel(Step::Serving);
    let accepting = accept(listener, Arc::new(site), bounds, phases, &connections);
    stop.run_until_cancelled(accepting).await;
    phase.send_replace(Step::Draining);
    connections.close();
    let drained = lifecycle.hard().run_until_cancelled(connections.wait());
    if drained.await.is_none() {
        phase.send_replace(Step::Cut);
        connections.wait().await;
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    site: Arc<Site>,
    bounds: Bounds,
    steps: watch::Receiver<Step>,
    connections: &TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(bounds.connections));
    // Nobody closes them.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Tokens are small and must not wait for each other.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, "connection lost: {error}");
                    continue;
                }
                let stream = Connection::new(stream, bounds.write_time, slot);
                let site = Arc::clone(&site);
                connections.spawn(connection(stream, peer, site, bounds, steps.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: waiting lets some be closed.
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    stream: Connection,
    peer: SocketAddr,
    site: Arc<Site>,
    bounds: Bounds,
    mut steps: watch::Receiver<Step>,
) {
    let exchange = Exchange {
        site,
        seam: stream.seam(),
        peer,
    };
    let mut stage = Stage::Http(exchange.begin(stream, bounds));
    let mut draining = false;
    let mut step = steps.clone();
    step.mark_changed();
    let mut next = pin!(async move {
        while steps.changed().await.is_ok() {}
        pending::<()>().await;
    });
    let outcome = poll_fn(|context| {
        if step.has_changed().unwrap_or(false) {
            // So that the next step wakes this task.
            let _ = next.as_mut().poll(context);
            match *step.borrow_and_update() {
                Step::Serving => {}
                Step::Draining => {
                    draining = true;
                    stage.drain();
                }
                Step::Cut => return Poll::Ready(Ok(())),
            }
        }
        while let Some(free) = task::ready!(stage.poll(context, &exchange.seam))? {
            if draining {
                break;
            }
            stage = Stage::Http(exchange.begin(free, bounds));
        }
        Poll::Ready(anyhow::Ok(()))
    });
    if let Err(error) = outcome.await {
        tracing::debug!(%peer, "connection ended: {error}");
    }
}

/// How the requests of one connection are answered.
#[derive(Clone)]
struct Exchange {
    site: Arc<Site>,
    seam: Arc<Seam>,
    peer: SocketAddr,
}

type Http = UpgradeableConnection<TokioIo<Connection>, Exchange>;

impl Exchange {
    fn begin(&self, stream: Connection, bounds: Bounds) -> Box<Http> {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.header_time)
            .max_buf_size(bounds.header_bytes);
        let http = builder.serve_connection(TokioIo::new(stream), self.clone());
        Box::new(http.with_upgrades())
    }
}

impl Service<Request<Incoming>> for Exchange {
    type Response = Response<Answer>;
    type Error = Infallible;
    /// In a box of its own, which is gone while the answer streams.
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if let Some(refused) = framing::refusal(&request, &self.seam.take_head()) {
            return ready(Ok(self.seam.answered(refused, false))).boxed();
        }
        let open = long::may_stay(&request);
        let seam = Arc::clone(&self.seam);
        let answer = self.site.answer(self.peer, seam.asked(request));
        answer
            .map(move |answer| Ok(seam.answered(answer, open)))
            .boxed()
    }
}

/// Who writes to a connection.
enum Stage {
    /// hyper: requests are read, and answers begun.
    Http(Box<Http>),
    /// We: the answer under way has to wait for more of itself.
    Rest(Box<Rest>),
    /// Nobody, in passing from one to the other or at the end.
    Over,
}

impl Stage {
    /// No other request is to follow the one under way.
    fn drain(&mut self) {
        if let Self::Http(http) = self {
            Pin::new(&mut **http).graceful_shutdown();
        }
    }

    /// Ready at the end of the connection, or with it when an answer that was taken over has ended.
    fn poll(&mut self, context: &mut Context<'_>, seam: &Seam) -> Poll<Result<Option<Connection>>> {
        if let Self::Http(http) = self {
            if let Poll::Ready(ended) = Pin::new(&mut **http).poll(context) {
                return Poll::Ready(ended.map(|()| None).map_err(Into::into));
            }
            let Some(body) = seam.take() else {
                return Poll::Pending;
            };
            self.take_over(body);
        }
        let Self::Rest(rest) = self else {
            return Poll::Ready(Ok(None));
        };
        task::ready!(rest.poll(context))?;
        Poll::Ready(Ok(match std::mem::replace(self, Self::Over) {
            Self::Rest(rest) => Some(rest.into_connection()),
            _ => None,
        }))
    }

    fn take_over(&mut self, body: Body) {
        if let Self::Http(http) = std::mem::replace(self, Self::Over)
            && let Some(parts) = http.into_parts()
        {
            let rest = Rest::new(parts.io.into_inner(), body, &parts.read_buf);
            *self = Self::Rest(Box::new(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guard;
    use axum::{
        Router,
        extract::ConnectInfo,
        routing::{get, post},
    };
    use futures_util::{
        StreamExt as _,
        future::try_join_all,
        stream::{iter, once, repeat},
    };
    use hyper::body::Bytes;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        time::timeout,
    };

    async fn later<T>(value: T) -> T {
        tokio::time::sleep(Duration::from_millis(1)).await;
        value
    }

    fn start(header_time: Duration) -> (SocketAddr, Lifecycle) {
        start_within(header_time, Duration::from_millis(50))
    }

    fn start_within(header_time: Duration, write_time: Duration) -> (SocketAddr, Lifecycle) {
        let listener = bind(ListenAddress::loopback(0), "--listen").unwrap();
        let address = listener.local_addr().unwrap();
        let lifecycle = Lifecycle::default();
        let bounds = Bounds {
            connections: 2,
            header_time,
            header_bytes: 8192,
            write_time,
        };
        let router = Router::new().route(
            "/peer",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
        );
        let router = router.route("/unread", post(async || "not read"));
        let router = router.route("/big", get(|| async { vec![b'x'; 64 << 20] }));
        let endless = || Body::from_stream(repeat(Ok::<_, Infallible>("more")).then(later));
        let router = router.route("/endless", get(move || async move { endless() }));
        let router = router.merge(long_answers());
        let site = Site {
            app: router.into(),
            guard: Guard::default(),
        };
        let stop = lifecycle.soft().clone();
        let task = serve(listener, site, bounds, stop, lifecycle.clone());
        lifecycle.spawn("listener", task);
        (address, lifecycle)
    }

    /// Each first waits, so that it is taken over from hyper.
    fn long_answers() -> Router {
        let pieces = || async {
            let pieces = ["one ", "two ", "three"].map(Ok::<_, Infallible>);
            Body::from_stream(iter(pieces).then(later))
        };
        let broken = || async {
            let pieces = [Ok("one"), Err(std::io::Error::other("on purpose"))];
            Body::from_stream(iter(pieces).then(later))
        };
        let flood = || async {
            let pieces = repeat(Bytes::from(vec![b'x'; 64 << 10])).map(Ok::<_, Infallible>);
            Body::from_stream(once(later(Ok("one".into()))).chain(pieces))
        };
        // The first by hyper, the other after it was taken over.
        let slowly = || async {
            let much = Bytes::from(vec![b'~'; MUCH]);
            let pieces = [ready(much.clone()).boxed(), later(much).boxed()];
            Body::from_stream(iter(pieces).then(|piece| piece).map(Ok::<_, Infallible>))
        };
        Router::new()
            .route("/slowly", get(slowly))
            .route("/pieces", get(pieces).post(move |_: Bytes| pieces()))
            .route("/hasty", post(pieces))
            .route("/broken", get(broken))
            .route("/flood", get(flood))
    }

    /// More than the kernel holds for a client.
    const MUCH: usize = 32 << 20;
    const PIECES: &str = "4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n";

    async fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn connections_leave_files_for_the_rest() {
        let bounds = Bounds::from(&ServerSection::default());
        assert_eq!(bounds.leaving(1_000_000, true).connections, 20_000);
        assert_eq!(bounds.leaving(1024, false).connections, 768);
        assert_eq!(bounds.leaving(1024, true).connections, 512);
    }

    #[tokio::test]
    async fn handlers_see_the_peer() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let answer = exchange(
            address,
            b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_without_an_end_is_cut_off() {
        let (address, _lifecycle) = start(Duration::from_millis(50));
        let answer = exchange(address, b"GET /peer HTTP/1.1\r\nHost:").await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }

    #[tokio::test]
    async fn many_may_come_at_once() {
        let listener = bind(ListenAddress::loopback(0), "--listen").unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody accepts them yet.
        let coming = (0..300).map(|_| TcpStream::connect(address));
        let patience = Duration::from_secs(30);
        let connected = timeout(patience, try_join_all(coming)).await;
        assert_eq!(connected.expect("none is turned away").unwrap().len(), 300);
    }

    #[tokio::test]
    async fn after_a_long_answer_the_connection_is_there_for_the_next_request() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            let request = b"GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"0\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            }
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.ends_with(&format!("\r\n\r\n{PIECES}")), "{answer}");
        }
        // This one, and then one that is there before the other is answered.
        let request = b"GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n\
            GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answers = exchange(address, request).await;
        let (first, second) = answers.split_once(PIECES).unwrap();
        assert_eq!(first.matches("HTTP/1.1 200 OK").count(), 1, "{answers}");
        assert!(second.ends_with("127.0.0.1"), "{answers}");
    }

    #[tokio::test]
    async fn what_a_handler_left_of_a_request_is_no_request() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let hidden = "GET /peer HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = hidden.len();
        let request =
            format!("POST /hasty HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("one") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        stream.write_all(hidden.as_bytes()).await.unwrap();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.ends_with(PIECES), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }

    #[tokio::test]
    async fn what_a_slow_client_has_not_taken_yet_is_not_lost() {
        let (address, _lifecycle) = start_within(Duration::from_mins(1), Duration::from_mins(1));
        let request = b"GET /slowly HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n\
            GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answers = exchange(address, request).await;
        let count = answers.bytes().filter(|byte| *byte == b'~').count();
        assert_eq!(count, 2 * MUCH);
        assert!(answers.ends_with("127.0.0.1"));
    }

    #[tokio::test]
    async fn a_long_answer_that_breaks_off_has_no_end() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let answer = exchange(address, b"GET /broken HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.ends_with("3\r\none\r\n"), "{answer}");
    }

    /// The listener takes two connections: the third is served when the second has left.
    #[tokio::test]
    async fn a_client_that_leaves_ends_its_long_answer() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"4\r\nmore\r\n") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            }
            streams.push(stream);
        }
        streams.pop();
        let request = b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(exchange(address, request).await.ends_with("127.0.0.1"));
    }

    #[tokio::test]
    async fn the_soft_stop_lets_a_long_answer_end_and_closes() {
        let (address, lifecycle) = start(Duration::from_mins(1));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("one") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        lifecycle.soft().cancel();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).ends_with(PIECES));
    }

    /// The listener takes two connections: were the two that never read kept, the third would never be served.
    #[tokio::test]
    async fn clients_that_never_read_lose_their_places() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let mut silent = Vec::new();
        for path in ["/big", "/flood"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            silent.push(stream);
        }
        let request = b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(exchange(address, request).await.ends_with("127.0.0.1"));
    }

    /// Nor do those who read a byte now and then.
    #[tokio::test]
    async fn clients_that_hardly_read_lose_their_places() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let slow = TaskTracker::new();
        for path in ["/big", "/flood"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            slow.spawn(async move {
                while stream.read_u8().await.is_ok() {
                    later(()).await;
                }
            });
        }
        let request = b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(exchange(address, request).await.ends_with("127.0.0.1"));
    }

    #[tokio::test]
    async fn clients_that_never_end_their_headers_lose_their_places() {
        let (address, _lifecycle) = start(Duration::from_millis(50));
        let slow = TaskTracker::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            slow.spawn(async move {
                let mut next = b"GET /peer HTTP/1.1\r\n".to_vec();
                while stream.write_all(&next).await.is_ok() {
                    later(()).await;
                    next = b"X: y\r\n".to_vec();
                }
            });
        }
        let request = b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(exchange(address, request).await.ends_with("127.0.0.1"));
    }

    #[tokio::test]
    async fn headers_beyond_the_limit_are_refused() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let mut request = b"GET /peer HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        request.resize(20_000, b'x');
        let answer = exchange(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    /// Each body ends after `0\r\n\r\n`, if only its chunks are looked at, and the route's answer would be a long one: what
    /// follows must not be taken for a request.
    #[tokio::test]
    async fn what_can_be_read_in_two_ways_is_refused() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let before = "GET /peer HTTP/1.1\r\nHost: a\r\n\r\n";
        let long = "GET /pieces HTTP/1.1\r\nHost: a\r\n\r\n";
        for framing in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\ncontent-LENGTH: 5",
            "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 36",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 4",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: x",
            "Content-Length : 5",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \u{b}chunked",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5",
        ] {
            for empty in ["", "\r\n"] {
                for first in ["", before, long] {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    let mut answers = 0;
                    if !first.is_empty() {
                        stream.write_all(first.as_bytes()).await.unwrap();
                        let mut answer = Vec::new();
                        while !answer.ends_with(b"127.0.0.1") && !answer.ends_with(b"0\r\n\r\n") {
                            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
                        }
                        answers = 1;
                    }
                    let request = format!(
                        "{empty}POST /pieces HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n{before}"
                    );
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = Vec::new();
                    let _ = stream.read_to_end(&mut answer).await;
                    let answer = String::from_utf8(answer).unwrap();
                    let wrong = format!("{framing:?} after {answers}: {answer}");
                    assert!(answer.starts_with("HTTP/1.1 400"), "{wrong}");
                    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{wrong}");
                }
            }
        }
    }

    #[tokio::test]
    async fn however_a_head_is_cut_it_is_looked_at_as_a_whole() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let request = "POST /pieces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
            Content-Length: 5\r\n\r\n0\r\n\r\n";
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut answer = Vec::new();
        for byte in request.bytes() {
            // Once it is refused, nobody listens.
            let _ = stream.write_all(&[byte]).await;
            later(()).await;
        }
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }

    /// What is said in a body says nothing of its length.
    #[tokio::test]
    async fn chunks_alone_and_a_length_alone_are_good() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let said = "\r\nContent-Length: 7\r\n\r\n";
        let length = said.len();
        let chunked =
            format!("Transfer-Encoding: Chunked\r\n\r\n{length:x}\r\n{said}\r\n0\r\n\r\n");
        let counted = format!("Content-Length: {length}\r\n\r\n{said}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        for framing in [&chunked, &counted, &counted, &chunked] {
            let request = format!("POST /pieces HTTP/1.1\r\nHost: a\r\n{framing}");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"0\r\n\r\n") {
                assert_ne!(
                    stream.read_buf(&mut answer).await.unwrap(),
                    0,
                    "{framing:?}"
                );
            }
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{framing:?}");
        }
    }

    /// They come at once: hyper has read both before the first is answered, so the second is not seen as it came.
    #[tokio::test]
    async fn nothing_follows_a_request_with_both_even_if_it_came_with_another() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let request = b"GET /peer HTTP/1.1\r\nHost: a\r\n\r\nPOST /pieces HTTP/1.1\r\nHost: a\r\n\
            Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
            GET /peer HTTP/1.1\r\nHost: a\r\n\r\n";
        let answers = exchange(address, request).await;
        assert_eq!(answers.matches("HTTP/1.1").count(), 2, "{answers}");
    }

    /// The head behind such a body would not be heard.
    #[tokio::test]
    async fn a_request_whose_body_nobody_reads_is_the_last() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let request = b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        let again = b"GET /peer HTTP/1.1\r\nHost: a\r\n\r\n";
        let answers = exchange(address, &[&request[..], again].concat()).await;
        assert!(answers.contains("connection: close"), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    }

    #[tokio::test]
    async fn control_characters_in_a_head_are_refused() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        for head in [
            "GET /peer HTTP/1.1\r\nHost: a\r\nX: a\0b",
            "GET /peer HTTP/1.1\r\nHost: a\r\nX: a\rb",
            "GET /peer HTTP/1.1\r\nHost: a\r\nX\0: b",
            "GET /pe\0er HTTP/1.1\r\nHost: a",
            "GET /pe\rer HTTP/1.1\r\nHost: a",
        ] {
            let answer = exchange(address, format!("{head}\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_explained() {
        let (address, _lifecycle) = start(Duration::from_mins(1));
        let error = bind(ListenAddress(address), "--listen").unwrap_err();
        assert!(error.to_string().contains("already in use"), "{error}");
        assert!(error.to_string().contains("--listen"), "{error}");
    }

    #[tokio::test]
    async fn the_soft_stop_closes_idle_connections() {
        let (address, lifecycle) = start(Duration::from_mins(1));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /peer HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        lifecycle.soft().cancel();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn the_hard_stop_cuts_what_drains() {
        let (address, lifecycle) = start(Duration::from_mins(1));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        lifecycle.soft().cancel();
        lifecycle.hard().cancel();
        let mut rest = Vec::new();
        // Reset or closed, but over.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }
}
