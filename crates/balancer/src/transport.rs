//! Reaching a node: over HTTP, or as a service in this process.

use crate::{
    Options,
    upstream::{Limits, Outgoing, Upstream, UpstreamBody},
};
use bytes::{Bytes, BytesMut};
use http::{Request, Response, Uri, response::Parts};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

pub(crate) use crate::upstream::TransportError;

type BoxError = Box<dyn Error + Send + Sync>;
type LocalBody = UnsyncBoxBody<Bytes, BoxError>;
type LocalService = BoxCloneSyncService<Request<Full<Bytes>>, Response<LocalBody>, Infallible>;

/// How a node is reached, as it is configured.
#[derive(Clone)]
pub struct Transport(Kind);

#[derive(Clone)]
enum Kind {
    Http { host: String, port: u16 },
    InProcess(LocalService),
}

impl Transport {
    /// A node at `http://host[:port]`, Ollama's port where none is named.
    ///
    /// # Errors
    /// [`TransportError::Address`].
    pub fn http(address: &str) -> Result<Self, TransportError> {
        let refused = || TransportError::address(address);
        let uri: Uri = address
            .trim_end_matches('/')
            .parse()
            .map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let plain = uri.scheme_str() == Some("http")
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && !authority.host().is_empty()
            && !authority.as_str().contains('@');
        if !plain {
            return Err(refused());
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => 11434,
            Some(port) => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .filter(|port| *port > 0)
                .ok_or_else(refused)?,
            None => return Err(refused()),
        };
        Ok(Self(Kind::Http {
            host: authority.host().to_owned(),
            port,
        }))
    }

    /// A node in this process: the same requests and the same bytes in answer, without a socket.
    pub fn in_process<S, B>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let boxed = service.map_response(|response: Response<B>| {
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        });
        Self(Kind::InProcess(BoxCloneSyncService::new(boxed)))
    }

    /// What to call a node that has no other name: `host:port`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.authority() {
            Some((host, port)) => format!("{host}:{port}"),
            None => "embedded".to_owned(),
        }
    }

    /// Host and port of a node elsewhere.
    pub(crate) fn authority(&self) -> Option<(&str, u16)> {
        match &self.0 {
            Kind::Http { host, port } => Some((host, *port)),
            Kind::InProcess(_) => None,
        }
    }

    pub(crate) fn open(self, options: &Options) -> Link {
        match self.0 {
            Kind::Http { host, port } => {
                let limits = Limits {
                    connect: options.connect_timeout,
                    head: options.first_token_timeout,
                    idle: IDLE,
                    max_head: MAX_HEAD,
                };
                Link::Http(Upstream::new(&host, port, limits))
            }
            Kind::InProcess(service) => Link::InProcess(service, options.first_token_timeout),
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.authority() {
            Some((host, port)) => write!(f, "Http({host}:{port})"),
            None => f.write_str("InProcess"),
        }
    }
}

const IDLE: Duration = Duration::from_mins(1);
const MAX_HEAD: usize = 64 << 10;

/// A node that can be talked to.
pub(crate) enum Link {
    Http(Upstream),
    InProcess(LocalService, Duration),
}

impl Link {
    /// Sends a request and waits for the head of its answer, as long as `limit` or else the options allow.
    pub(crate) async fn send(
        &self,
        request: Outgoing<'_>,
        limit: Option<Duration>,
    ) -> Result<Response<NodeBody>, TransportError> {
        self.send_on(&mut Line::default(), request, limit).await
    }

    /// The same, on `line` as long as the node owes the head.
    async fn send_on(
        &self,
        line: &mut Line,
        request: Outgoing<'_>,
        limit: Option<Duration>,
    ) -> Result<Response<NodeBody>, TransportError> {
        match self {
            Self::Http(upstream) => {
                let answer = match limit {
                    None => upstream.send(request).await,
                    Some(limit) => {
                        let awaited = &mut line.awaited;
                        upstream.send_within(request, limit, awaited).await
                    }
                };
                Ok(answer?.map(NodeBody::Http))
            }
            Self::InProcess(service, usual) => {
                let limit = limit.unwrap_or(*usual);
                let mut plain = Request::builder()
                    .method(request.method)
                    .uri(request.path)
                    .body(Full::new(request.body))
                    .map_err(|_| TransportError::Request("its path is no path"))?;
                *plain.headers_mut() = request.headers.clone();
                match tokio::time::timeout(limit, service.clone().oneshot(plain)).await {
                    Ok(Ok(response)) => Ok(response.map(NodeBody::InProcess)),
                    Ok(Err(never)) => match never {},
                    Err(_) => Err(TransportError::HeadTimeout(limit)),
                }
            }
        }
    }

    /// The same, on `line` as long as the answer is under way. Gives its head.
    pub(crate) async fn open(
        &self,
        line: &mut Line,
        request: Outgoing<'_>,
        limit: Duration,
    ) -> Result<Parts, TransportError> {
        let response = self.send_on(line, request, Some(limit)).await?;
        let (head, body) = response.into_parts();
        line.body = Some(body);
        Ok(head)
    }
}

/// What an answer comes on: nothing, an exchange whose head is awaited, or the body.
#[derive(Debug, Default)]
pub(crate) struct Line {
    awaited: Option<TcpStream>,
    body: Option<NodeBody>,
}

impl Line {
    /// Leaves the answer. The connection, if there is one on which the node may still be at it.
    pub(crate) fn leave(&mut self) -> Option<TcpStream> {
        let body = self.body.take();
        self.awaited.take().or_else(|| match body? {
            NodeBody::Http(body) => body.into_connection(),
            // It is stopped by being dropped.
            NodeBody::InProcess(_) => None,
        })
    }
}

impl Body for Line {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        match &mut self.get_mut().body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(upstream) => upstream.fmt(f),
            Self::InProcess(..) => f.write_str("InProcess"),
        }
    }
}

/// What a node answers.
#[derive(Debug)]
pub(crate) enum NodeBody {
    Http(UpstreamBody),
    InProcess(LocalBody),
}

impl Body for NodeBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        match self.get_mut() {
            Self::Http(body) => Pin::new(body).poll_frame(context),
            Self::InProcess(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(TransportError::Connection),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http(body) => body.is_end_stream(),
            Self::InProcess(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http(body) => body.size_hint(),
            Self::InProcess(body) => body.size_hint(),
        }
    }
}

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read<B>(mut body: B, limit: usize) -> Result<Bytes, TransportError>
where
    B: Body<Data = Bytes, Error = TransportError> + Unpin,
{
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        if whole.len() + data.len() > limit {
            return Err(TransportError::Malformed(format!(
                "more than {limit} bytes"
            )));
        }
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_nodes() {
        assert_eq!(
            format!("{:?}", Transport::http("http://gpu-1/").unwrap()),
            "Http(gpu-1:11434)"
        );
        assert_eq!(
            format!("{:?}", Transport::http("http://[::1]:9").unwrap()),
            "Http([::1]:9)"
        );
        for bad in [
            "",
            "gpu-1",
            "https://gpu-1",
            "http://u:p@gpu-1",
            "http://gpu-1/api",
            "http://a b",
        ] {
            assert!(
                matches!(Transport::http(bad), Err(TransportError::Address(_))),
                "{bad:?}"
            );
        }
        let refused = Transport::http("http://ada:hunter2@gpu-1").unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}
