//! Telling a client where it stands while it waits. The OpenAI dialect's streams may carry comments, which its clients skip:
//! who asks for it (`X-Jarvis-Queue-Events`) gets the head of its answer as soon as it has to wait, then its places, then the
//! answer. What goes wrong after that is told in the stream, because the status was sent.

use super::{
    Front,
    infer::{Forwarded, forwarded, respond},
    refusal::Refusal,
};
use crate::{
    ask::Ask,
    dispatch::Server,
    forward::{Answer, AnswerBody, Call, News, Waiting},
    queue::Place,
};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jarvis_protocol::sse::Event;
use serde_json::{Value, json};
use std::sync::Arc;

/// What asks for it, with the value `true`.
pub(super) const EVENTS: &str = "x-jarvis-queue-events";
/// Place in the queue when the head was sent, 1 being the next.
const POSITION: HeaderName = HeaderName::from_static("x-jarvis-queue-position");
/// How long it was expected to wait then, seconds; absent where there is no estimate.
const ETA: HeaderName = HeaderName::from_static("x-jarvis-queue-eta");

pub(super) fn are_wanted(headers: &HeaderMap) -> bool {
    headers.get(EVENTS).is_some_and(|value| value == "true")
}

/// A request for a model, as it goes to nodes.
pub(super) struct Asked {
    /// With the query.
    pub(super) path: Box<str>,
    pub(super) headers: HeaderMap,
    pub(super) ask: Arc<Ask>,
}

/// Answers, with news of the queue if the request has to wait.
pub(super) async fn answer(front: Front, asked: Asked) -> Result<Response, Refusal> {
    let mut waiting = Waiting::new(|places| async move {
        let call = Call {
            method: &Method::POST,
            path: &asked.path,
            headers: &asked.headers,
            ask: &asked.ask,
        };
        forwarded(&front, &call, Some(&places)).await
    });
    match waiting.news().await {
        News::Answer(answer) => answer.map(|answered| respond(answered, false)),
        News::Place(place) => Ok(queued(place, waiting)),
    }
}

fn queued(place: Place, waiting: Waiting<Forwarded>) -> Response {
    let first = stream::iter([Ok(shown(place))]);
    let rest = stream::unfold(Some(waiting), async |waiting| {
        let mut waiting = waiting?;
        Some(match waiting.news().await {
            News::Place(place) => (Body::from(shown(place)), Some(waiting)),
            News::Answer(answer) => (begun(answer), None),
        })
    });
    let body = first.chain(rest.flat_map(Body::into_data_stream));
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(POSITION, (place.ahead + 1).into());
    if let Some(eta) = place.eta {
        // Rounded up: nobody who waits does so for no time.
        let seconds = eta.as_secs() + u64::from(eta.subsec_nanos() > 0);
        headers.insert(ETA, seconds.max(1).into());
    }
    response
}

/// What follows the places.
fn begun(forwarded: Forwarded) -> Body {
    let (answer, dialect) = match forwarded {
        Ok(answered) => answered,
        Err(refusal) => return Body::from(refusal.event()),
    };
    match answer {
        Answer {
            head,
            body: AnswerBody::Whole(error),
            ..
        } if !head.status.is_success() => {
            Body::from(Event::data(String::from_utf8_lossy(&error)).encode())
        }
        answer => {
            let server = answer.server.as_ref().map(signed).unwrap_or_default();
            let body = respond((answer, dialect), false)
                .into_body()
                .into_data_stream();
            Body::from_stream(stream::iter([Ok(server)]).chain(body))
        }
    }
}

fn shown(place: Place) -> Bytes {
    let eta = place.eta.map(|eta| eta.as_secs_f64());
    comment(&json!({"queue": {"position": place.ahead + 1, "eta_seconds": eta}}))
}

/// What the head would have told.
fn signed(server: &Server) -> Bytes {
    comment(&json!({
        "node": server.node.name,
        "reason": server.reason,
        "queue_wait_seconds": server.waited.as_secs_f64(),
    }))
}

/// JSON without line breaks, which no client takes for part of the answer.
fn comment(value: &Value) -> Bytes {
    Bytes::from(format!(": {value}\n\n"))
}
