//! Getting a request answered: attempts until one begins to answer, and the answer itself.
//!
//! Before the first byte goes to the client another node may be tried and nobody sees it, under a budget. After it, see
//! [`relay`].

mod begun;
mod go_on;
mod plain;
mod relay;
mod silence;
mod waiting;

use begun::Begun;
pub(crate) use plain::Plain;
pub(crate) use relay::{Relay, RelayError};
pub(crate) use waiting::{News, Waiting};

use crate::{
    ask::Ask,
    dispatch::{self, Lease, NoNode, Places, Server, Wanted},
    metrics,
    policy::Outcome,
    resume::{self, Dialect, Transcript},
    shared::Shared,
    transport::{TransportError, read},
    upstream::{Outgoing, Reached},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header, response::Parts};
use http_body_util::BodyExt as _;
use memchr::memmem::Finder;
use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::time;

/// A request as it goes to a node. Once that answers, only what was asked is kept.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) path: &'a str,
    /// Without those that concern one connection only.
    pub(crate) headers: &'a HeaderMap,
    pub(crate) ask: &'a Arc<Ask>,
}

impl Call<'_> {
    /// The request with this body.
    pub(crate) fn with_body(&self, body: Bytes) -> Outgoing<'_> {
        Outgoing {
            method: self.method,
            path: self.path,
            headers: self.headers,
            body,
        }
    }
}

/// An answer that has begun, or is whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Parts,
    pub(crate) body: AnswerBody,
    /// Who answers; `None` where nobody had to be asked.
    pub(crate) server: Option<Server>,
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

impl Failure {
    /// Whether asking another node is charged to the budget. A node that does not know the model it listed has done nothing:
    /// nobody can be buried under what follows, which is at most one request for each of the others.
    fn is_charged(&self) -> bool {
        !matches!(self, Self::Refused(answer) if answer.head.status == StatusCode::NOT_FOUND)
    }

    /// Whether another node may do better, and may be asked.
    fn may_retry(&self, shared: &Shared) -> bool {
        let hopeless = matches!(self, Self::Lost(_, source) if !source.retryable());
        !hopeless && (!self.is_charged() || shared.budget().affords(shared.now()))
    }

    /// Pays for asking another node, which is there now. `false`: others have used up the budget meanwhile.
    fn pay(&self, shared: &Shared) -> bool {
        let paid = !self.is_charged() || shared.budget().retry(shared.now());
        if paid {
            metrics::retried();
        }
        paid
    }

    /// To the client, where no other node is to do better.
    fn told(self) -> Result<Answer, Unanswered> {
        match self {
            Self::Lost(node, source) => Err(Unanswered::Failed { node, source }),
            Self::Refused(answer) => Ok(*answer),
        }
    }
}

/// An error's body is read up to here.
const MAX_ERROR: usize = 64 << 10;
/// An answer that does not stream is read up to here.
const MAX_WHOLE: usize = 256 << 20;
/// No node is spared for longer because it said so: it may have meant one client.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Has a request answered, from the beginning of its answer on, if it has one. Dropping the future frees the node.
pub(crate) async fn forward(
    shared: &Arc<Shared>,
    call: &Call<'_>,
    beginning: Option<&Beginning>,
    places: Option<&Places>,
) -> Result<Answer, Unanswered> {
    if let (Some(beginning), Some(dialect)) = (beginning, call.ask.dialect) {
        let transcript = seeded(dialect, &call.ask.model, beginning);
        return Box::pin(go_on::open(shared, call.ask, transcript, places)).await;
    }
    let mut wanted = Wanted::default();
    let mut last: Option<Failure> = None;
    shared.budget().request();
    loop {
        let lease = match dispatch::acquire(shared, call.ask, &wanted, places).await {
            Ok(lease) => lease,
            Err(none) => return last.map_or(Err(Unanswered::NoNode(none)), Failure::told),
        };
        if let Some(failure) = last.take_if(|failure| !failure.pay(shared)) {
            lease.refuse();
            return failure.told();
        }
        wanted.tried.push(lease.node.id);
        // In a box of its own: nothing of it is there while the request waits for its lease.
        let failure = match Box::pin(attempt(shared, lease, call)).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        if !failure.may_retry(shared) {
            return failure.told();
        }
        last = Some(failure);
    }
}

async fn attempt(
    shared: &Arc<Shared>,
    mut lease: Box<Lease>,
    call: &Call<'_>,
) -> Result<Answer, Failure> {
    let ask = call.ask;
    // Of our own engine's answers the exact tokens are kept, for an exact seam.
    let telling = match ask.dialect {
        Some(dialect) if ask.stream && shared.options.resume && lease.is_engine(&ask.model) => {
            resume::telling_tokens(dialect, &ask.body)
        }
        _ => None,
    };
    let hides_tokens = telling.is_some();
    let request = call.with_body(telling.unwrap_or_else(|| ask.body.clone()));
    // What comes as one says nothing before it is whole.
    let limit = if ask.stream {
        shared.options.first_token_timeout
    } else {
        shared.options.total_timeout
    };
    let head = match lease.ask(request, limit).await {
        Ok(head) => head,
        Err(error) => return Err(lost(lease, error)),
    };
    if !head.status.is_success() {
        return Box::pin(refused(shared, lease, head)).await;
    }
    match ask.dialect {
        Some(dialect) if ask.stream => {
            let mut transcript = Transcript::new(dialect, shared.options.transcript(ask.counted));
            if hides_tokens {
                transcript = transcript.hide_tokens();
            }
            stream(shared, lease, ask, transcript, head).await
        }
        None if ask.stream => Ok(Answer {
            head,
            server: Some(lease.server()),
            body: AnswerBody::Plain(Box::new(Plain::new(shared, ask, lease))),
        }),
        _ => whole(shared, lease, ask, head).await,
    }
}

/// Waits for the first record of a stream: until then the client has seen nothing.
async fn stream(
    shared: &Arc<Shared>,
    mut lease: Box<Lease>,
    ask: &Arc<Ask>,
    mut transcript: Transcript,
    head: Parts,
) -> Result<Answer, Failure> {
    let limit = shared.options.first_token_timeout;
    let deadline = lease.began + limit;
    let begun = loop {
        let frame = match time::timeout_at(deadline, lease.line.frame()).await {
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
    let server = Some(lease.server());
    let relay = Relay::new(shared, ask, lease, begun, transcript);
    Ok(Answer {
        head,
        body: AnswerBody::Stream(Box::new(relay)),
        server,
    })
}

/// Reads an answer that comes as one: as long as it is not whole, the client has seen nothing.
async fn whole(
    shared: &Arc<Shared>,
    mut lease: Box<Lease>,
    ask: &Ask,
    head: Parts,
) -> Result<Answer, Failure> {
    let limit = shared.options.total_timeout;
    lease.begun();
    let bytes = match time::timeout(limit, read(&mut lease.line, MAX_WHOLE)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(lost(lease, error)),
        Err(_) => return Err(lost(lease, TransportError::Silent(limit))),
    };
    shared.served(ask, &lease.digest);
    let server = Some(lease.server());
    lease.finish(ask, outcome(&bytes), None);
    Ok(Answer {
        head,
        body: AnswerBody::Whole(bytes),
        server,
    })
}

/// What a status other than 2xx means.
async fn refused(
    shared: &Arc<Shared>,
    mut lease: Box<Lease>,
    head: Parts,
) -> Result<Answer, Failure> {
    let limit = shared.options.probe_timeout;
    let bytes = match time::timeout(limit, read(&mut lease.line, MAX_ERROR)).await {
        Ok(Ok(bytes)) => bytes,
        // It began an error and did not end it: the status says enough.
        _ => Bytes::new(),
    };
    let answer = Answer {
        server: Some(lease.server()),
        body: AnswerBody::Whole(bytes),
        head,
    };
    match answer.head.status {
        StatusCode::SERVICE_UNAVAILABLE => lease.fail(true),
        StatusCode::TOO_MANY_REQUESTS => lease.turned_away(rest(&answer.head.headers)),
        // It was listed a moment ago; another may still have it.
        StatusCode::NOT_FOUND => {
            if lease.node.may_look() {
                let node = Arc::clone(&lease.node);
                shared.spawn(async move { node.look(limit).await });
            }
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

/// How long a node that turned a request away is to be spared: as it says in seconds, within bounds, or else a second.
fn rest(headers: &HeaderMap) -> Duration {
    let said = headers.get(header::RETRY_AFTER);
    let said = said.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(said.unwrap_or(1)).clamp(Duration::from_secs(1), LONGEST_REST)
}

fn lost(lease: Box<Lease>, error: TransportError) -> Failure {
    let node = lease.node.name.clone();
    blame(lease, &error);
    Failure::Lost(node, error)
}

/// A broken connection says something of the node; silence or a bad record, of this request alone.
fn blame(lease: Box<Lease>, error: &TransportError) {
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

/// The figures at the end of an answer, in either dialect; those it does not tell are left out.
fn outcome(answer: &[u8]) -> Outcome {
    // A quote within a text is escaped, so none of these can be part of one.
    static NAMES: LazyLock<[Finder<'_>; 7]> = LazyLock::new(|| {
        [
            Finder::new("\"eval_count\":"),
            Finder::new("\"eval_duration\":"),
            Finder::new("\"prompt_eval_count\":"),
            Finder::new("\"prompt_eval_duration\":"),
            Finder::new("\"load_duration\":"),
            Finder::new("\"completion_tokens\":"),
            Finder::new("\"prompt_tokens\":"),
        ]
    });
    let [
        tokens,
        decoding,
        prompt,
        prefill,
        load,
        openai_tokens,
        openai_prompt,
    ] = &*NAMES;
    let count = |name| number(answer, name).and_then(|count| u32::try_from(count).ok());
    let time = |name| number(answer, name).map(seconds);
    Outcome {
        ok: true,
        tokens: count(tokens).or_else(|| count(openai_tokens)),
        prompt_tokens: count(prompt).or_else(|| count(openai_prompt)),
        prompt_cached: None,
        load_seconds: time(load),
        prompt_seconds: time(prefill),
        decode_seconds: time(decoding),
    }
}

/// The whole number that follows `name`.
fn number(answer: &[u8], name: &Finder<'_>) -> Option<u64> {
    let value = answer[name.find(answer)? + name.needle().len()..].trim_ascii_start();
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    value.first().filter(|byte| byte.is_ascii_digit())?;
    digits
        .map(|digit| u64::from(digit - b'0'))
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(digit))
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
