//! Requests that a model answers, and whatever else clients send.

use super::{
    Front, headers, path,
    queued::{self, Asked},
    refusal::Refusal,
    unload,
};
use crate::{
    ask::Ask,
    catalog::full_name,
    dispatch::{NoNode, Places, Server},
    forward::{self, Answer, AnswerBody, Call, Relay, Unanswered},
    node::Node,
    resume::{self, Dialect},
    shared::Shared,
    transport::TransportError,
    upstream::Outgoing,
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame};
use serde::Deserialize;
use std::{
    error::Error,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// A request for a model, at `route`. What is needed of its head is taken out before anything is waited for: the rest, and
/// the connection's buffer that it lies in, need not be kept until there is an answer.
pub(super) fn answer<B>(
    front: &Front,
    peer: IpAddr,
    route: &'static str,
    request: http::Request<B>,
) -> impl Future<Output = Response> + Send + use<B>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let dialect = Dialect::of_path(route);
    let path: Box<str> = path_and_query(&parts.uri).into();
    let caller = front.access.caller(&parts.headers, peer);
    let headers = headers::to_node(&front.access, &parts.headers);
    let trailers = headers::takes_trailers(&parts.headers);
    // Ollama's dialect has no room for it.
    let tells =
        queued::are_wanted(&parts.headers) && dialect.is_some_and(|dialect| !dialect.is_ollama());
    let front = front.clone();
    let answered = async move {
        let body = whole(body, front.balancer.shared.options.max_body).await?;
        let ask = Ask::read(dialect, body, caller)
            .map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, why))?;
        let ask = Arc::new(ask);
        if tells && ask.stream {
            let asked = Asked { path, headers, ask };
            return Box::pin(queued::answer(front, asked)).await;
        }
        let call = Call {
            method: &Method::POST,
            path: &path,
            headers: &headers,
            ask: &ask,
        };
        if ask.unloads {
            return Box::pin(unload::everywhere(&front, &call))
                .await
                .map(|answered| respond(answered, trailers));
        }
        let answered = forwarded(&front, &call, None).await;
        answered.map(|answered| respond(answered, trailers))
    };
    let refused = |refusal: Refusal| refusal.of(route).into_response();
    answered.map(move |answered| answered.unwrap_or_else(refused))
}

pub(super) type Forwarded = Result<(Answer, Option<Dialect>), Refusal>;

/// As it goes to a node.
pub(super) fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |path| path.as_str())
}

/// A model that nobody has is looked for once more: it may have been pulled a moment ago.
pub(super) async fn forwarded(
    front: &Front,
    call: &Call<'_>,
    places: Option<&Places>,
) -> Forwarded {
    let shared = &front.balancer.shared;
    let mut looked = false;
    let answered = loop {
        let answered = forward::forward(shared, call, None, places).await;
        let unknown = matches!(answered, Err(Unanswered::NoNode(NoNode::UnknownModel)));
        if looked || !unknown || !shared.may_look() {
            break answered;
        }
        Box::pin(front.balancer.refresh()).await;
        looked = true;
    };
    match answered {
        Ok(answer) => Ok((answer, call.ask.dialect)),
        Err(error) => Err(Refusal::unanswered(shared, &call.ask.model, &error)),
    }
}

/// `trailers`: the client takes what follows a body.
pub(super) fn respond((answer, dialect): (Answer, Option<Dialect>), trailers: bool) -> Response {
    let Answer {
        mut head,
        body,
        server,
    } = answer;
    if let Some(server) = server {
        headers::sign(&mut head.headers, &server);
    }
    head.headers.remove(header::CONTENT_LENGTH);
    let body = match (body, dialect) {
        (AnswerBody::Whole(bytes), _) => Body::from(bytes),
        (AnswerBody::Stream(relay), Some(dialect)) => {
            if trailers {
                let announced = HeaderValue::from_name(headers::RESUMED);
                head.headers.insert(header::TRAILER, announced);
            }
            Body::new(Told {
                relay,
                dialect,
                trailers,
            })
        }
        (AnswerBody::Stream(_), None) => Body::empty(),
        (AnswerBody::Plain(plain), _) => Body::new(plain),
    };
    Response::from_parts(head, body)
}

/// A streamed answer whose failure is told in its own dialect, as the last record.
struct Told {
    relay: Box<Relay>,
    dialect: Dialect,
    /// It is still to be said behind the body how often it went on elsewhere.
    trailers: bool,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let dialect = self.dialect;
        let frame = ready!(Pin::new(&mut *self.relay).poll_frame(context));
        if frame.is_none() && std::mem::take(&mut self.trailers) {
            let resumed = (headers::RESUMED, self.relay.resumed().into());
            let trailers = HeaderMap::from_iter([resumed]);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Poll::Ready(frame.map(|frame| {
            Ok(frame.unwrap_or_else(|error| {
                tracing::warn!("{error}: {}", error.source);
                Frame::data(resume::failure(dialect, &error.to_string()))
            }))
        }))
    }

    fn is_end_stream(&self) -> bool {
        !self.trailers && self.relay.is_end_stream()
    }
}

/// `POST /api/show`: by a node that has the model. That is no work for a slot.
pub(super) async fn show(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let shared = &front.balancer.shared;
    let shown = async {
        let body = whole(body, shared.options.max_body).await?;
        let named: Named = serde_json::from_slice(&body).map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("invalid request: {error}"))
        })?;
        let name = named
            .name()
            .ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "model is required"))?;
        let model = full_name(name);
        let find = || idlest(shared, |node| node.has(&model));
        let mut node = find();
        if node.is_none() && shared.may_look() {
            front.balancer.refresh().await;
            node = find();
        }
        let node = node.ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, format!("model '{name}' not found"))
        })?;
        Ok::<_, Refusal>((node, body))
    };
    match shown.await {
        Ok((node, body)) => plainly(&front, node, parts, body, "has_model").await,
        Err(refusal) => refusal.of(parts.uri.path()).into_response(),
    }
}

/// Anything else, as it came: to a node that is up, and has the model that a body of JSON may name.
pub(super) async fn pass(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let shared = &front.balancer.shared;
    let passed = async {
        if path::manages(path) {
            front.access.administrates(&parts.headers)?;
        }
        let body = whole(body, shared.options.max_body).await?;
        let named = serde_json::from_slice::<Named>(&body).ok();
        let model = named.as_ref().and_then(Named::name).map(full_name);
        let find = || {
            let having = model.as_ref();
            let having = having.and_then(|model| idlest(shared, |node| node.has(model)));
            having.map_or_else(
                || Some((idlest(shared, |_| true)?, "unknown_route")),
                |node| Some((node, "has_model")),
            )
        };
        let mut found = find();
        if found.is_none() && shared.has_unseen() {
            front.balancer.catalog().await;
            found = find();
        }
        let (node, reason) = found.ok_or_else(|| Refusal::unreachable(shared))?;
        Ok::<_, Refusal>((node, body, reason))
    };
    match passed.await {
        Ok((node, body, reason)) => plainly(&front, node, parts, body, reason).await,
        Err(refusal) => refusal.of(path).into_response(),
    }
}

/// Of the nodes that are up and open, the one with the least to do among those that `fit`.
fn idlest(shared: &Shared, fit: impl Fn(&Node) -> bool) -> Option<Arc<Node>> {
    let (nodes, now) = (shared.pool.nodes(), Instant::now());
    let open = nodes
        .iter()
        .filter(|node| node.offer().is_some() && node.is_open(now) && fit(node));
    open.min_by_key(|node| node.slots.active()).cloned()
}

/// Sends a request to a node as it came, and gives the answer as it comes.
async fn plainly(
    front: &Front,
    node: Arc<Node>,
    parts: Parts,
    body: Bytes,
    reason: &'static str,
) -> Response {
    let request = Outgoing {
        method: &parts.method,
        path: path_and_query(&parts.uri),
        headers: &headers::to_node(&front.access, &parts.headers),
        body,
    };
    match node.send(request).await {
        Ok(response) => {
            let mut response = response.map(|body| Body::new(body.map_err(boxed)));
            let server = Server {
                node,
                reason,
                waited: Duration::ZERO,
            };
            headers::sign(response.headers_mut(), &server);
            response
        }
        Err(error) => {
            let message = format!("the node '{}' failed: {error}", node.name);
            Refusal::new(StatusCode::BAD_GATEWAY, message)
                .of(parts.uri.path())
                .into_response()
        }
    }
}

/// A model by its name, in the newer member or the older one; clients send both, one of them empty.
#[derive(Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
    /// Of a copy.
    #[serde(default)]
    source: Option<String>,
}

impl Named {
    pub(super) fn name(&self) -> Option<&str> {
        let names = [&self.model, &self.name, &self.source];
        let mut given = names.into_iter().flatten();
        given.find(|name| !name.is_empty()).map(String::as_str)
    }
}

fn boxed(error: TransportError) -> Box<dyn std::error::Error + Send + Sync> {
    error.into()
}

/// A request's body, of at most `limit` bytes. It is copied out of the connection's buffer, which a stream would else keep.
pub(super) async fn whole<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let error: Box<dyn Error + Send + Sync> = error.into();
            let message = format!("the request could not be read: {error}");
            Refusal::new(StatusCode::BAD_REQUEST, message)
        })?;
        let data = frame.into_data().unwrap_or_default();
        if whole.len() + data.len() > limit {
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request is larger than {limit} bytes"),
            ));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}
