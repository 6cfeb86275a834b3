//! Getting a request answered: attempts until one begins to answer, and the answer itself.
//!
//! Before the first byte goes to the client another node may be tried and nobody sees it, under a budget. After it, see
//! [`relay`].

mod begun;
mod go_on;
mod plain;
mod relay;
mod silence;

use begun::Begun;
pub(crate) use plain::Plain;
pub(crate) use relay::{Relay, RelayError};

use crate::{
    ask::Ask,
    dispatch::{self, Lease, NoNode, Places, Wanted},
    metrics,
    policy::Outcome,
    resume::{self, Dialect, Transcript},
    shared::Shared,
    transport::{NodeBody, TransportError, read},
    upstream::{Outgoing, Reached},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, response::Parts};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tokio::time;

/// A request as it goes to a node.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// Without those that concern one connection only.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) ask: Ask,
    /// Whether its tokens are counted as they come, so that every record is read at once.
    pub(crate) counted: bool,
}

/// An answer that has begun, or is whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) body: AnswerBody,
    /// Who answers, and why that node.
    pub(crate) node: String,
    pub(crate) reason: &'static str,
    pub(crate) waited: Duration,
}

#[derive(Debug)]
pub(crate) enum AnswerBody {
    Whole(Bytes),
    Stream(Box<Relay>),
    /// Of a route whose answers are not followed.
    Plain(Box<Plain>),
}

/// What there is of an answer already.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) text: String,
    /// 0 where nobody knows.
    pub(crate) tokens: u64,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// No node could be asked.
    NoNode(NoNode),
    /// The last node that was asked failed.
    Failed {
        node: String,
        source: TransportError,
    },
}

/// One node's failure, and whether another may do better.
enum Failure {
    Lost(String, TransportError),
    /// It answered with a status of its own.
    Refused(Box<Answer>),
}

/// An error's body is read up to here.
const MAX_ERROR: usize = 64 << 10;
/// An answer that does not stream is read up to here.
const MAX_WHOLE: usize = 256 << 20;

/// Has a request answered, from the beginning of its answer on, if it has one. Dropping the future frees the node.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    call: Arc<Call>,
    beginning: Option<&Beginning>,
    places: Option<&Places>,
) -> Result<Answer, Unanswered> {
    if let (Some(beginning), Some(dialect)) = (beginning, call.ask.dialect) {
        let transcript = seeded(dialect, &call.ask.model, beginning);
        return go_on::open(shared, call, transcript, places).await;
    }
    let mut wanted = Wanted::default();
    let mut last = None;
    shared.budget().request();
    loop {
        let lease = match dispatch::acquire(shared, &call.ask, &wanted, places).await {
            Ok(lease) => lease,
            Err(none) => return last.unwrap_or(Err(Unanswered::NoNode(none))),
        };
        wanted.tried.push(lease.node.id);
        let failure = match attempt(shared, lease, &call).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        last = Some(match failure {
            Failure::Lost(node, source) => Err(Unanswered::Failed { node, source }),
            Failure::Refused(answer) => Ok(*answer),
        });
        let hopeless =
            matches!(&last, Some(Err(Unanswered::Failed { source, .. })) if !source.retryable());
        if hopeless || !shared.budget().retry(shared.now()) {
            return last.unwrap_or(Err(Unanswered::NoNode(NoNode::Unavailable)));
        }
        metrics::retried();
    }
}

async fn attempt(shared: &Arc<Shared>, lease: Lease, call: &Arc<Call>) -> Result<Answer, Failure> {
    // Of our own engine's answers the exact tokens are kept, for an exact seam.
    let telling = match call.ask.dialect {
        Some(dialect)
            if call.ask.stream && shared.options.resume && lease.is_engine(&call.ask.model) =>
        {
            resume::telling_tokens(dialect, &call.body)
        }
        _ => None,
    };
    let hides_tokens = telling.is_some();
    let request = Outgoing {
        method: &call.method,
        path: &call.path,
        headers: &call.headers,
        body: telling.unwrap_or_else(|| call.body.clone()),
    };
    // What comes as one says nothing before it is whole.
    let limit = if call.ask.stream {
        shared.options.first_token_timeout
    } else {
        shared.options.total_timeout
    };
    let response = match lease.node.send_within(request, limit).await {
        Ok(response) => response,
        Err(error) => return Err(lost(lease, error)),
    };
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return refused(shared, lease, head, body).await;
    }
    match call.ask.dialect {
        Some(dialect) if call.ask.stream => {
            let mut transcript = Transcript::new(dialect, shared.options.transcript(call.counted));
            if hides_tokens {
                transcript = transcript.hide_tokens();
            }
            stream(shared, lease, call, transcript, head, body).await
        }
        None if call.ask.stream => {
            let (node, reason, waited) = (lease.node.name.clone(), lease.reason, lease.waited);
            let plain = Plain::new(shared, call, lease, body);
            Ok(Answer {
                head,
                body: AnswerBody::Plain(Box::new(plain)),
                node,
                reason,
                waited,
            })
        }
        _ => whole(shared, lease, call, head, body).await,
    }
}

/// Waits for the first record of a stream: until then the client has seen nothing.
async fn stream(
    shared: &Arc<Shared>,
    mut lease: Lease,
    call: &Arc<Call>,
    mut transcript: Transcript,
    head: Parts,
    mut body: NodeBody,
) -> Result<Answer, Failure> {
    let limit = shared.options.first_token_timeout;
    let deadline = lease.began + limit;
    let begun = loop {
        let frame = match time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => Some(frame.into_data().unwrap_or_default()),
            Ok(Some(Err(error))) => return Err(lost(lease, error)),
            Ok(None) => None,
            Err(_) => return Err(lost(lease, TransportError::HeadTimeout(limit))),
        };
        match Begun::of(&mut transcript, frame) {
            Ok(None) => {}
            Ok(Some(begun)) => break begun,
            Err(cause) => return Err(lost(lease, relay::fault(&cause))),
        }
    };
    lease.begun();
    let (node, reason, waited) = (lease.node.name.clone(), lease.reason, lease.waited);
    let relay = Relay::new(shared, call, lease, body, begun, transcript);
    Ok(Answer {
        head,
        body: AnswerBody::Stream(Box::new(relay)),
        node,
        reason,
        waited,
    })
}

/// Reads an answer that comes as one: as long as it is not whole, the client has seen nothing.
async fn whole(
    shared: &Arc<Shared>,
    mut lease: Lease,
    call: &Call,
    head: Parts,
    body: NodeBody,
) -> Result<Answer, Failure> {
    let limit = shared.options.total_timeout;
    lease.begun();
    let bytes = match time::timeout(limit, read(body, MAX_WHOLE)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(lost(lease, error)),
        Err(_) => return Err(lost(lease, TransportError::Silent(limit))),
    };
    shared.served(&call.ask, &lease.digest);
    Ok(finish(lease, call, head, bytes))
}

fn finish(lease: Lease, call: &Call, head: Parts, bytes: Bytes) -> Answer {
    let (node, reason, waited) = (lease.node.name.clone(), lease.reason, lease.waited);
    lease.finish(&call.ask, Figures::of(&bytes), None);
    Answer {
        head,
        body: AnswerBody::Whole(bytes),
        node,
        reason,
        waited,
    }
}

/// What a status other than 2xx means.
async fn refused(
    shared: &Arc<Shared>,
    lease: Lease,
    head: Parts,
    body: NodeBody,
) -> Result<Answer, Failure> {
    let limit = shared.options.probe_timeout;
    let bytes = match time::timeout(limit, read(body, MAX_ERROR)).await {
        Ok(Ok(bytes)) => bytes,
        // It began an error and did not end it: the status says enough.
        _ => Bytes::new(),
    };
    let answer = Answer {
        node: lease.node.name.clone(),
        reason: lease.reason,
        waited: lease.waited,
        body: AnswerBody::Whole(bytes),
        head,
    };
    match answer.head.status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => lease.fail(true),
        // It was listed a moment ago; another may still have it.
        StatusCode::NOT_FOUND => {
            let node = Arc::clone(&lease.node);
            let limit = shared.options.probe_timeout;
            shared.spawn(async move { node.look(limit).await });
            lease.refuse();
        }
        status if status.is_server_error() => lease.fail(false),
        _ => {
            lease.refuse();
            return Ok(answer);
        }
    }
    Err(Failure::Refused(Box::new(answer)))
}

fn lost(lease: Lease, error: TransportError) -> Failure {
    let node = lease.node.name.clone();
    blame(lease, &error);
    Failure::Lost(node, error)
}

/// A broken connection says something of the node; silence or a bad record, of this request alone.
fn blame(lease: Lease, error: &TransportError) {
    if error.reached() == Reached::Nothing || error.is_broken() {
        lease.node.note_down(error);
    }
    lease.fail(false);
}

/// A transcript of an answer of which this much was shown.
fn seeded(dialect: Dialect, model: &str, beginning: &Beginning) -> Transcript {
    let mut transcript = Transcript::new(dialect, resume::Limits::default());
    let record = serde_json::json!({
        "model": model,
        "created_at": "",
        "message": {"role": "assistant", "content": beginning.text},
        "done": false,
    });
    // A record of our own making is whole and well formed.
    let _ = transcript.push(Bytes::from(format!("{record}\n")));
    transcript.counting(beginning.tokens)
}

/// The figures at the end of an answer, in either dialect. Durations in nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Figures {
    load_duration: Option<u64>,
    prompt_eval_count: Option<u32>,
    prompt_eval_duration: Option<u64>,
    eval_count: Option<u32>,
    eval_duration: Option<u64>,
    usage: Option<Usage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: Option<u32>,
    completion_tokens: Option<u32>,
}

impl Figures {
    fn of(answer: &[u8]) -> Outcome {
        let figures: Self = serde_json::from_slice(answer).unwrap_or_default();
        let usage = figures.usage.unwrap_or_default();
        Outcome {
            ok: true,
            tokens: figures.eval_count.or(usage.completion_tokens),
            prompt_tokens: figures.prompt_eval_count.or(usage.prompt_tokens),
            prompt_cached: None,
            load_seconds: figures.load_duration.map(seconds),
            prompt_seconds: figures.prompt_eval_duration.map(seconds),
            decode_seconds: figures.eval_duration.map(seconds),
        }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// A response head for an answer that is put together here.
pub(crate) fn head(status: StatusCode) -> Parts {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.into_parts().0
}
