//! An HTTP/1.1 client towards one node, made for relaying streams at the lowest cost.
//!
//! What a node sends is read by whoever polls the body ([`UpstreamBody`]): one task, no channel, one read per frame, and
//! all that this read brought goes out together. A stream that waits holds no buffer. Answers that could be read in two
//! ways are refused ([`Malformed`]); how far a failed exchange had come is in the type of its error ([`TransportError`]).

mod body;
mod chunked;
mod connection;
mod error;
mod head;
mod left;
mod pool;
mod request;
mod scratch;
#[cfg(test)]
mod tests;

pub(crate) use body::UpstreamBody;
pub(crate) use error::Reached;
pub use error::{Malformed, TransportError};
pub(crate) use left::noticed;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Response, header};
use pool::Pool;
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::net::TcpStream;

/// How long and how large parts of an exchange may be. Pauses within a body are the caller's to limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For resolving and connecting together.
    pub(crate) connect: Duration,
    /// From the beginning of the request to the end of the answer's head.
    pub(crate) head: Duration,
    /// How long a connection without a request is kept.
    pub(crate) idle: Duration,
    /// The longest head of an answer, in bytes.
    pub(crate) max_head: usize,
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a Method,
    /// Path and query, verbatim; begins with a slash.
    pub(crate) path: &'a str,
    /// Sent in this order, except what is this client's to say (`Host`, `Content-Length`, `Transfer-Encoding`,
    /// `Connection` and the like), which is left out.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

impl<'a> Outgoing<'a> {
    /// A request of our own.
    pub(crate) fn json(path: &'a str, body: Bytes) -> Self {
        static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
            let json = HeaderValue::from_static("application/json");
            HeaderMap::from_iter([(header::CONTENT_TYPE, json)])
        });
        Self {
            method: &Method::POST,
            path,
            headers: &HEADERS,
            body,
        }
    }
}

/// A client for one node, with its idle connections. A connection belongs to the runtime in which it was opened: on
/// several runtimes, use one client each.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// As it is resolved: without brackets.
    host: String,
    port: u16,
    /// As it stands in `Host`.
    authority: String,
    limits: Limits,
    pool: Arc<Pool>,
}

impl Upstream {
    /// A client for `host` (a name or an address, an IPv6 one with or without brackets). Nothing is opened yet.
    pub(crate) fn new(host: &str, port: u16, limits: Limits) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host).to_owned();
        let authority = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        Self {
            host,
            port,
            authority,
            limits,
            pool: Arc::new(Pool::new(limits.idle)),
        }
    }

    /// Sends a request and waits for the head of its answer; interim answers are skipped. The answer's headers are
    /// without those that concern this connection only. Dropping the future, or the body before its end, closes the
    /// connection.
    ///
    /// A request that fails on a reused connection before any byte of an answer is sent once more, on a new one. That is
    /// right for two reasons. A node that closes an idle connection just while a request is on its way is no failure of
    /// the node: it has not looked at the request, and no look at the socket beforehand can exclude it. And if it did
    /// begin to work on it, nothing of that was shown to anyone, and what we relay may be done twice: an answer is
    /// computed again, a model is pulled, copied or deleted to the same end. A failure on a new connection, or one of
    /// time, is the caller's to judge. When the new connection cannot be made, the first failure is reported: the node
    /// may have seen the request.
    pub(crate) async fn send(
        &self,
        request: Outgoing<'_>,
    ) -> Result<Response<UpstreamBody>, TransportError> {
        self.send_within(request, self.limits.head, &mut None).await
    }

    /// The same, with another limit for the head. The connection is in `awaited` as long as the node owes the head: also when
    /// the limit has passed, or the future was dropped. Whoever has it then may find out with [`noticed`] when the node is
    /// done; dropping it closes it.
    pub(crate) async fn send_within(
        &self,
        request: Outgoing<'_>,
        head: Duration,
        awaited: &mut Option<TcpStream>,
    ) -> Result<Response<UpstreamBody>, TransportError> {
        let limits = Limits {
            head,
            ..self.limits
        };
        if !is_host(&self.host) {
            return Err(TransportError::Address(self.authority.clone()));
        }
        let encoded = request::encode(&request, &self.authority)?;
        let mut exchange = async |stream| {
            *awaited = Some(stream);
            connection::exchange(awaited, request.method, &encoded, &limits, &self.pool).await
        };
        let Some(idle) = self.pool.take() else {
            return exchange(self.open().await?).await;
        };
        match exchange(idle).await {
            Err(error @ TransportError::NoAnswer(_)) => match self.open().await {
                Ok(fresh) => exchange(fresh).await,
                Err(_) => Err(error),
            },
            answered => answered,
        }
    }

    /// In a box of its own: most requests find a connection that is open.
    fn open(&self) -> BoxFuture<'_, Result<TcpStream, TransportError>> {
        Box::pin(connection::open(&self.host, self.port, self.limits.connect))
    }
}

/// Whether a host can stand in a `Host` header: a name, or an address with its zone.
fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    !host.is_empty() && host.bytes().all(allowed)
}
