//! One turn for a caller in this process: the same path as a request over HTTP, with events in place of records.

use crate::{
    Balancer, Caller, Catalog, ChatError, TransportError,
    ask::Ask,
    catalog::full_name,
    dispatch::NoNode,
    forward::{
        self, Answer, AnswerBody, Beginning, Call, News, Relay, RelayError, Unanswered, Waiting,
    },
    queue::Place,
    resume::Dialect,
};
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use jarvis_protocol::ollama::{ChatRequest, ErrorBody, Message};
use serde::Deserialize;
use serde_json::Deserializer;
use std::{pin::Pin, sync::Arc};

/// A turn to be answered.
#[derive(Debug, Clone, Default)]
pub struct ChatTurn {
    /// Name of the model; `:latest` is implied.
    pub model: String,
    /// The conversation, oldest first, ending with the user's message.
    pub messages: Vec<Message>,
    /// The beginning of the answer, if it has one: it is continued, and only new text is reported.
    pub text_so_far: Option<String>,
    /// How many tokens that beginning has, as [`ChatEvent::Text`] told with its last part; 0 where nobody knows.
    pub tokens_so_far: u64,
    /// Who asks.
    pub caller: Caller,
}

/// What happens to a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatEvent {
    /// It waits for a node.
    Queued {
        /// How many are ahead.
        position: u32,
        /// Estimated wait in milliseconds, where there is an estimate.
        eta_ms: Option<u64>,
    },
    /// More text.
    Text {
        /// Never empty.
        text: String,
        /// Tokens of the answer up to here, [`ChatTurn::tokens_so_far`] included. Exact where the node tells them, otherwise one
        /// for each record.
        tokens: u64,
    },
    /// The answer is whole. The last event.
    Done {
        /// Tokens of the prompt, without those of the answer's beginning.
        prompt_tokens: u64,
        /// Tokens of the whole answer, however many nodes have made it: [`ChatTurn::tokens_so_far`] included.
        completion_tokens: u64,
        /// The node that made its end; empty where it ended with what another one had made.
        node: String,
    },
}

/// The events of a turn; after an error there are none.
pub type ChatStream = Pin<Box<dyn Stream<Item = Result<ChatEvent, ChatError>> + Send>>;

pub(crate) fn stream(balancer: Balancer, turn: ChatTurn) -> ChatStream {
    let state = Phase::Begin(balancer, turn);
    Box::pin(stream::unfold(Some(state), |state| async {
        match step(state?).await {
            Ok((event, next)) => Some((Ok(event), next)),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

enum Phase {
    Begin(Balancer, ChatTurn),
    Open {
        balancer: Balancer,
        model: String,
        waiting: Waiting<Result<Answer, Unanswered>>,
    },
    Read(Box<Reading>),
}

type Step = Result<(ChatEvent, Option<Phase>), ChatError>;

/// Goes on until there is something to tell.
async fn step(mut phase: Phase) -> Step {
    loop {
        phase = match phase {
            Phase::Begin(balancer, turn) => begin(balancer, turn).await?,
            Phase::Open {
                balancer,
                model,
                mut waiting,
            } => match waiting.news().await {
                News::Place(place) => {
                    let next = Phase::Open {
                        balancer,
                        model,
                        waiting,
                    };
                    return Ok((queued(place), Some(next)));
                }
                News::Answer(opened) => {
                    let answer = opened.map_err(|error| unanswered(&balancer, model, error))?;
                    Phase::Read(Box::new(reading(answer)?))
                }
            },
            Phase::Read(mut reading) => match reading.next().await? {
                event @ ChatEvent::Done { .. } => return Ok((event, None)),
                event => return Ok((event, Some(Phase::Read(reading)))),
            },
        };
    }
}

/// Asks for the turn; a model that nobody has is looked for once more.
async fn begin(balancer: Balancer, turn: ChatTurn) -> Result<Phase, ChatError> {
    let model = full_name(&turn.model);
    let shared = Arc::clone(&balancer.shared);
    if !shared.pool.nodes().iter().any(|node| node.has(&model)) {
        balancer.refresh().await;
    }
    let ask = Arc::new(ask(&turn)?);
    let beginning = turn.text_so_far.map(|text| Beginning {
        text,
        tokens: turn.tokens_so_far,
    });
    let waiting = Waiting::new(|told| async move {
        let json = HeaderValue::from_static("application/json");
        let call = Call {
            method: &Method::POST,
            path: Dialect::OllamaChat.path(),
            headers: &HeaderMap::from_iter([(header::CONTENT_TYPE, json)]),
            ask: &ask,
        };
        forward::forward(&shared, &call, beginning.as_ref(), Some(&told)).await
    });
    Ok(Phase::Open {
        balancer,
        model,
        waiting,
    })
}

fn ask(turn: &ChatTurn) -> Result<Ask, ChatError> {
    let rejected = |message: String| ChatError::Rejected { message };
    let request = ChatRequest {
        model: turn.model.clone(),
        messages: turn.messages.clone(),
        stream: Some(true),
        ..ChatRequest::default()
    };
    let body = serde_json::to_vec(&request).map_err(|error| rejected(error.to_string()))?;
    let dialect = Some(Dialect::OllamaChat);
    let ask = Ask::read(dialect, body.into(), turn.caller).map_err(rejected)?;
    Ok(Ask {
        counted: true,
        ..ask
    })
}

fn queued(place: Place) -> ChatEvent {
    ChatEvent::Queued {
        position: u32::try_from(place.ahead + 1).unwrap_or(u32::MAX),
        eta_ms: place
            .eta
            .map(|eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn unanswered(balancer: &Balancer, model: String, error: Unanswered) -> ChatError {
    match error {
        Unanswered::NoNode(NoNode::UnknownModel) => {
            let catalog = Catalog::of(&balancer.shared);
            let completing = catalog.models.iter().filter(|model| model.completes());
            let known = completing.map(|model| model.name.clone()).collect();
            ChatError::UnknownModel { model, known }
        }
        Unanswered::NoNode(NoNode::Unavailable) => ChatError::NoNode { model },
        Unanswered::NoNode(NoNode::NotResumable) => ChatError::NotResumable { model },
        Unanswered::NoNode(NoNode::QueueFull | NoNode::Late) => ChatError::Overloaded,
        Unanswered::Failed { node, source } => ChatError::NodeLost { node, source },
    }
}

/// The stream that answers, or what a status other than 200 means.
fn reading(answer: Answer) -> Result<Reading, ChatError> {
    let node = answer
        .server
        .map_or_else(String::new, |server| server.node.name.clone());
    let body = match answer.body {
        AnswerBody::Stream(relay) => relay,
        AnswerBody::Whole(body) => return Err(refused(node, answer.head.status, &body)),
        AnswerBody::Plain(_) => return Err(refused(node, answer.head.status, &[])),
    };
    Ok(Reading {
        node,
        body,
        end: None,
    })
}

fn refused(node: String, status: StatusCode, body: &[u8]) -> ChatError {
    let message = serde_json::from_slice::<ErrorBody>(body)
        .map_or_else(|_| status.to_string(), |body| body.error);
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => ChatError::Overloaded,
        status if status.is_client_error() => ChatError::Rejected { message },
        _ => ChatError::NodeFailed { node, message },
    }
}

/// What is read of a record; the figures are the last one's.
#[derive(Deserialize)]
struct Record {
    message: Said,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    prompt_eval_count: u64,
    #[serde(default)]
    eval_count: u64,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<String>,
}

/// An answer that comes.
struct Reading {
    node: String,
    body: Box<Relay>,
    /// The end, once it was read with text before it.
    end: Option<ChatEvent>,
}

impl Reading {
    /// The next event: all the text that has arrived, together.
    async fn next(&mut self) -> Result<ChatEvent, ChatError> {
        loop {
            if let Some(end) = self.end.take() {
                return Ok(end);
            }
            let frame = self.body.frame().await.ok_or(TransportError::Cut);
            let records = match frame {
                Ok(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Ok(Err(error)) => return Err(broken(error)),
                Err(cut) => return Err(self.lost(cut)),
            };
            let text = self
                .read(&records)
                .map_err(|error| self.lost(TransportError::Malformed(error.to_string())))?;
            if !text.is_empty() {
                let tokens = self.body.tokens();
                return Ok(ChatEvent::Text { text, tokens });
            }
        }
    }

    /// The text of whole records: the relay gives no others.
    fn read(&mut self, records: &[u8]) -> serde_json::Result<String> {
        let mut text = String::new();
        for record in Deserializer::from_slice(records).into_iter::<Record>() {
            let record = record?;
            let said = record.message.content.unwrap_or_default();
            if text.is_empty() {
                text = said;
            } else {
                text.push_str(&said);
            }
            if record.done {
                self.end = Some(ChatEvent::Done {
                    prompt_tokens: record.prompt_eval_count,
                    completion_tokens: record.eval_count,
                    node: self.body.node().to_owned(),
                });
                break;
            }
        }
        Ok(text)
    }

    fn lost(&self, source: TransportError) -> ChatError {
        ChatError::NodeLost {
            node: self.node.clone(),
            source,
        }
    }
}

fn broken(error: RelayError) -> ChatError {
    match error.source {
        TransportError::Failed(message) => ChatError::NodeFailed {
            node: error.node,
            message,
        },
        source => ChatError::NodeLost {
            node: error.node,
            source,
        },
    }
}
