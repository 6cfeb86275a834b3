//! Requests that a model answers, and whatever else clients send.

use super::{Front, headers, refusal::Refusal};
use crate::{
    ask::Ask,
    dispatch::NoNode,
    forward::{self, Answer, AnswerBody, Call, Relay, Unanswered},
    resume::{self, Dialect},
    transport::TransportError,
    upstream::Outgoing,
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Frame};
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
            headers: headers::to_node(parts.headers),
            body,
            ask,
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

/// Anything else: to a node that is up, as it came.
pub(super) async fn pass(State(front): State<Front>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let shared = &front.balancer.shared;
    let passed = async {
        let body = whole(body, shared.options.max_body).await?;
        let nodes = shared.pool.nodes();
        let open = nodes
            .iter()
            .filter(|node| node.offer().is_some() && node.is_open());
        let Some(node) = open.min_by_key(|node| node.slots.active()) else {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no node can be reached right now",
            ));
        };
        let request = Outgoing {
            method: &parts.method,
            path: parts.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: &headers::to_node(parts.headers.clone()),
            body,
        };
        let response = node.send(request).await.map_err(|error| {
            let message = format!("the node '{}' failed: {error}", node.name);
            Refusal::new(StatusCode::BAD_GATEWAY, message)
        })?;
        let mut response = response.map(|body| Body::new(body.map_err(boxed)));
        let waited = std::time::Duration::ZERO;
        headers::sign(response.headers_mut(), &node.name, "unknown_route", waited);
        Ok(response)
    };
    passed
        .await
        .unwrap_or_else(|refusal| refusal.of(path).into_response())
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
