//! Listening sockets and HTTP/1.1 connections, with the bounds a public port needs: time for the
//! headers, size of the headers, number of connections.

use crate::{connection::Connection, lifecycle::Lifecycle, site::Site};
use anyhow::{Context as _, Result, bail};
use futures_util::FutureExt as _;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jarvis_config::{ListenAddress, ServerSection};
use std::{
    convert::Infallible,
    future::{Future as _, pending, poll_fn},
    io::ErrorKind,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    net::TcpListener,
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
pub(crate) async fn bind(address: ListenAddress, flag: &str) -> Result<TcpListener> {
    let error = match TcpListener::bind(address.0).await {
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
    let service = service_fn(move |request: Request<Incoming>| {
        let site = Arc::clone(&site);
        // In a box of its own, which is gone while the answer streams.
        async move { Ok::<_, Infallible>(site.answer(peer, request).await) }.boxed()
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_time)
        .max_buf_size(bounds.header_bytes);
    let http = builder.serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http.with_upgrades());
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
                Step::Draining => http.as_mut().graceful_shutdown(),
                Step::Cut => return Poll::Ready(Ok(())),
            }
        }
        http.as_mut().poll(context)
    });
    if let Err(error) = outcome.await {
        tracing::debug!(%peer, "connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guard;
    use axum::{Router, body::Body, extract::ConnectInfo, routing::get};
    use futures_util::{StreamExt as _, stream::repeat};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    async fn later<T>(value: T) -> T {
        tokio::time::sleep(Duration::from_millis(1)).await;
        value
    }

    async fn start(header_time: Duration) -> (SocketAddr, Lifecycle) {
        let listener = bind(ListenAddress::loopback(0), "--listen").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lifecycle = Lifecycle::default();
        let bounds = Bounds {
            connections: 2,
            header_time,
            header_bytes: 8192,
            write_time: Duration::from_millis(50),
        };
        let router = Router::new().route(
            "/peer",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
        );
        let router = router.route("/big", get(|| async { vec![b'x'; 64 << 20] }));
        let endless = || Body::from_stream(repeat(Ok::<_, Infallible>("more")).then(later));
        let router = router.route("/endless", get(move || async move { endless() }));
        let site = Site {
            app: router.into(),
            guard: Guard::default(),
        };
        let stop = lifecycle.soft().clone();
        let task = serve(listener, site, bounds, stop, lifecycle.clone());
        lifecycle.spawn("listener", task);
        (address, lifecycle)
    }

    async fn exchange(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is as good as an end.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn handlers_see_the_peer() {
        let (address, _lifecycle) = start(Duration::from_mins(1)).await;
        let answer = exchange(
            address,
            b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.ends_with("127.0.0.1"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_without_an_end_is_cut_off() {
        let (address, _lifecycle) = start(Duration::from_millis(50)).await;
        let answer = exchange(address, b"GET /peer HTTP/1.1\r\nHost:").await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }

    /// The listener takes two connections: were the two that never read kept, the third would never be served.
    #[tokio::test]
    async fn clients_that_never_read_lose_their_places() {
        let (address, _lifecycle) = start(Duration::from_mins(1)).await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(request).await.unwrap();
            silent.push(stream);
        }
        let request = b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert!(exchange(address, request).await.ends_with("127.0.0.1"));
    }

    #[tokio::test]
    async fn headers_beyond_the_limit_are_refused() {
        let (address, _lifecycle) = start(Duration::from_mins(1)).await;
        let mut request = b"GET /peer HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        request.resize(20_000, b'x');
        let answer = exchange(address, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn two_lengths_are_refused() {
        let (address, _lifecycle) = start(Duration::from_mins(1)).await;
        for framing in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: x\r\n",
            "Transfer-Encoding: gzip\r\n",
        ] {
            let request = format!("POST /peer HTTP/1.1\r\nHost: a\r\n{framing}\r\nabc");
            let answer = exchange(address, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{framing}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_explained() {
        let (address, _lifecycle) = start(Duration::from_mins(1)).await;
        let error = bind(ListenAddress(address), "--listen").await.unwrap_err();
        assert!(error.to_string().contains("already in use"), "{error}");
        assert!(error.to_string().contains("--listen"), "{error}");
    }

    #[tokio::test]
    async fn the_soft_stop_closes_idle_connections() {
        let (address, lifecycle) = start(Duration::from_mins(1)).await;
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
        let (address, lifecycle) = start(Duration::from_mins(1)).await;
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
