//! Requests that a model answers, and whatever else clients send.

use super::{Front, headers, path, refusal::Refusal};
use crate::{
    ask::Ask,
    catalog::full_name,
    dispatch::NoNode,
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
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Frame};
use serde::Deserialize;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// A request for a model.
pub(super) async fn answer(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let answered = async {
        let body = whole(body, front.balancer.shared.options.max_body).await?;
        let caller = front.access.caller(&parts.headers, &parts.extensions);
        let dialect = Dialect::of_path(path);
        let ask = Ask::read(dialect, &body, caller)
            .map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, why))?;
        let call = Arc::new(Call {
            method: parts.method,
            path: parts
                .uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            headers: headers::to_node(&front.access, parts.headers),
            body,
            ask,
            counted: false,
        });
        forwarded(&front, call).await
    };
    match answered.await {
        Ok(answer) => respond(answer),
        Err(refusal) => refusal.of(path).into_response(),
    }
}

/// A model that nobody has is looked for once more: it may have been pulled a moment ago.
async fn forwarded(front: &Front, call: Arc<Call>) -> Result<(Answer, Option<Dialect>), Refusal> {
    let shared = &front.balancer.shared;
    let dialect = call.ask.dialect;
    let mut answered = forward::forward(shared, Arc::clone(&call), None, None).await;
    if matches!(answered, Err(Unanswered::NoNode(NoNode::UnknownModel))) && shared.may_look() {
        front.balancer.refresh().await;
        answered = forward::forward(shared, Arc::clone(&call), None, None).await;
    }
    match answered {
        Ok(answer) => Ok((answer, dialect)),
        Err(error) => Err(Refusal::unanswered(shared, &call.ask.model, &error)),
    }
}

fn respond((answer, dialect): (Answer, Option<Dialect>)) -> Response {
    let Answer {
        mut head,
        body,
        node,
        reason,
        waited,
    } = answer;
    headers::sign(&mut head.headers, &node, reason, waited);
    head.headers.remove(header::CONTENT_LENGTH);
    let body = match (body, dialect) {
        (AnswerBody::Whole(bytes), _) => Body::from(bytes),
        (AnswerBody::Stream(relay), Some(dialect)) => Body::new(Told { relay, dialect }),
        (AnswerBody::Stream(_), None) => Body::empty(),
        (AnswerBody::Plain(plain), _) => Body::new(plain),
    };
    Response::from_parts(head, body)
}

/// A streamed answer whose failure is told in its own dialect, as the last record.
struct Told {
    relay: Box<Relay>,
    dialect: Dialect,
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
        Poll::Ready(frame.map(|frame| {
            Ok(frame.unwrap_or_else(|error| {
                tracing::warn!("{error}: {}", error.source);
                Frame::data(resume::failure(dialect, &error.to_string()))
            }))
        }))
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
        let find = || idlest(shared, |node| node.digest(&model).is_some());
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
        Ok((node, body)) => plainly(&front, &node, parts, body, "has_model").await,
        Err(refusal) => refusal.of(parts.uri.path()).into_response(),
    }
}

/// Anything else: to a node that is up, as it came.
pub(super) async fn pass(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let shared = &front.balancer.shared;
    let passed = async {
        if path::manages(path) {
            front.access.administrates(&parts.headers)?;
        }
        let body = whole(body, shared.options.max_body).await?;
        let node = idlest(shared, |_| true).ok_or_else(|| Refusal::unreachable(shared))?;
        Ok::<_, Refusal>((node, body))
    };
    match passed.await {
        Ok((node, body)) => plainly(&front, &node, parts, body, "unknown_route").await,
        Err(refusal) => refusal.of(path).into_response(),
    }
}

/// Of the nodes that are up and open, the one with the least to do among those that `fit`.
fn idlest(shared: &Shared, fit: impl Fn(&Node) -> bool) -> Option<Arc<Node>> {
    let nodes = shared.pool.nodes();
    let open = nodes
        .iter()
        .filter(|node| node.offer().is_some() && node.is_open() && fit(node));
    open.min_by_key(|node| node.slots.active()).cloned()
}

/// Sends a request to a node as it came, and gives the answer as it comes.
async fn plainly(
    front: &Front,
    node: &Node,
    parts: Parts,
    body: Bytes,
    reason: &'static str,
) -> Response {
    let request = Outgoing {
        method: &parts.method,
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers: &headers::to_node(&front.access, parts.headers),
        body,
    };
    match node.send(request).await {
        Ok(response) => {
            let mut response = response.map(|body| Body::new(body.map_err(boxed)));
            let waited = std::time::Duration::ZERO;
            headers::sign(response.headers_mut(), &node.name, reason, waited);
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

/// A request's body, of at most `limit` bytes.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request is larger than {limit} bytes"),
        )),
        Err(error) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the request could not be read: {error}"),
        )),
    }
}
