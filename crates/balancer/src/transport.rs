//! Reaching a node: over HTTP, or as a service in this process.

use crate::TransportError;
use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::Body;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::{convert::Infallible, error::Error, fmt, time::Duration};
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

type BoxError = Box<dyn Error + Send + Sync>;
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;
type LocalService = BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody>, Infallible>;

/// How a node is reached.
#[derive(Clone)]
pub enum Transport {
    /// Over HTTP/1.1, with pooled connections.
    Http {
        /// The client and its pool.
        client: Client<HttpConnector, Full<Bytes>>,
        /// `http://host:port`, without a path.
        base: Uri,
    },
    /// In this process: the same requests and the same bytes in answer, without a socket.
    InProcess(LocalService),
}

impl Transport {
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

    /// A node at `http://host[:port]`, Ollama's port where none is named.
    pub fn http(address: &str) -> Result<Self, TransportError> {
        let refused = || TransportError::Address(address.to_owned());
        let uri: Uri = address
            .trim_end_matches('/')
            .parse()
            .map_err(|_| refused())?;
        let authority = uri.authority().ok_or_else(refused)?;
        let plain = uri.scheme_str() == Some("http")
            && matches!(uri.path(), "" | "/")
            && !authority.as_str().contains('@');
        if !plain {
            return Err(refused());
        }
        let port = authority.port_u16().unwrap_or(11434);
        let base = format!("http://{}:{port}", authority.host())
            .parse()
            .map_err(|_| refused())?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Self::CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Self::IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self::Http { client, base })
    }

    /// A node in this process.
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
        Self::InProcess(BoxCloneSyncService::new(boxed))
    }

    /// Sends a request; `path` begins with a slash.
    pub(crate) async fn send(
        &self,
        method: http::Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<ResponseBody>, TransportError> {
        let connection = |error: BoxError| TransportError::Connection(error);
        let request = |uri: String| {
            Request::builder()
                .method(method)
                .uri(uri)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(Full::new(body))
                .map_err(|error| connection(error.into()))
        };
        match self {
            Self::Http { client, base } => {
                let authority = base.authority().map_or("", |authority| authority.as_str());
                let request = request(format!("http://{authority}{path}"))?;
                let response = client
                    .request(request)
                    .map_err(|error| connection(error.into()))
                    .await?;
                Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
            Self::InProcess(service) => {
                match service.clone().oneshot(request(path.to_owned())?).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            }
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { base, .. } => write!(f, "Http({base})"),
            Self::InProcess(_) => f.write_str("InProcess"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_addresses_are_nodes() {
        assert_eq!(
            format!("{:?}", Transport::http("http://gpu-1/").unwrap()),
            "Http(http://gpu-1:11434/)"
        );
        assert_eq!(
            format!("{:?}", Transport::http("http://[::1]:9").unwrap()),
            "Http(http://[::1]:9/)"
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
    }
}
