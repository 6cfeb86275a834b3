//! One turn: choose a node, wait for its slot, send, and hand the text on as it comes.
//!
//! Before the first text another node may be tried and nobody sees it. After it the error goes to the caller, who holds
//! the text so far and may ask for its continuation.

use crate::{
    Balancer, Catalog, ChatError, Options, TransportError,
    catalog::full_name,
    node::{Node, read},
    slots::{Place, Slot, Ticket},
    transport::ResponseBody,
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use jarvis_protocol::{
    ndjson::LineDecoder,
    ollama::{ChatRequest, ChatResponse, Continue, ErrorBody, Message, RequestExtension},
};
use std::{collections::HashSet, pin::Pin, sync::Arc};
use tokio::time;

/// A turn to be answered.
#[derive(Debug, Clone, Default)]
pub struct ChatTurn {
    /// Name of the model; `:latest` is implied.
    pub model: String,
    /// The conversation, oldest first, ending with the user's message.
    pub messages: Vec<Message>,
    /// The beginning of the answer, if it has one: it is continued, and only new text is reported.
    pub text_so_far: Option<String>,
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
    /// More text; never empty.
    Text(String),
    /// The answer is whole. The last event.
    Done {
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Tokens of the answer, those of [`ChatTurn::text_so_far`] not counted.
        completion_tokens: u64,
    },
}

/// The events of a turn; after an error there are none.
pub type ChatStream = Pin<Box<dyn Stream<Item = Result<ChatEvent, ChatError>> + Send>>;

pub(crate) fn stream(balancer: Balancer, turn: ChatTurn) -> ChatStream {
    let attempt = Attempt {
        balancer,
        turn,
        tried: HashSet::new(),
    };
    let state = Phase::Choose {
        attempt,
        failed: None,
    };
    Box::pin(stream::unfold(Some(state), |state| async {
        match step(state?).await {
            Ok((event, next)) => Some((Ok(event), next)),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

struct Attempt {
    balancer: Balancer,
    turn: ChatTurn,
    tried: HashSet<String>,
}

enum Phase {
    Choose {
        attempt: Attempt,
        failed: Option<ChatError>,
    },
    Wait {
        attempt: Attempt,
        node: Arc<Node>,
        ticket: Ticket,
        told: Option<Place>,
    },
    Read {
        attempt: Attempt,
        answer: Box<Answer>,
    },
}

type Step = Result<(ChatEvent, Option<Phase>), ChatError>;

/// Goes on until there is something to tell.
async fn step(mut phase: Phase) -> Step {
    loop {
        phase = match phase {
            Phase::Choose {
                mut attempt,
                failed,
            } => {
                let name = full_name(&attempt.turn.model);
                let first = attempt.tried.is_empty();
                let catalog = catalog(attempt.balancer.clone(), name, first).await;
                let node = pick(&mut attempt, &catalog).map_err(|error| failed.unwrap_or(error))?;
                match node.slots.enter() {
                    Ok(ticket) => Phase::Wait {
                        attempt,
                        node,
                        ticket,
                        told: None,
                    },
                    Err(_) => Phase::Choose {
                        attempt,
                        failed: Some(ChatError::Overloaded),
                    },
                }
            }
            Phase::Wait {
                attempt,
                node,
                mut ticket,
                told,
            } => match ticket.try_take() {
                Ok(slot) => match open(
                    *attempt.balancer.options(),
                    node,
                    slot,
                    request(&attempt.turn),
                )
                .await
                {
                    Ok(answer) => Phase::Read {
                        attempt,
                        answer: Box::new(answer),
                    },
                    Err(error) => again(attempt, error)?,
                },
                Err(place) if told != Some(place) => {
                    let event = ChatEvent::Queued {
                        position: u32::try_from(place.ahead + 1).unwrap_or(u32::MAX),
                        eta_ms: place
                            .eta
                            .map(|eta| u64::try_from(eta.as_millis()).unwrap_or(u64::MAX)),
                    };
                    return Ok((
                        event,
                        Some(Phase::Wait {
                            attempt,
                            node,
                            ticket,
                            told: Some(place),
                        }),
                    ));
                }
                Err(_) => {
                    ticket.moved().await;
                    Phase::Wait {
                        attempt,
                        node,
                        ticket,
                        told,
                    }
                }
            },
            Phase::Read {
                attempt,
                mut answer,
            } => match answer.next().await {
                Ok(event @ ChatEvent::Done { .. }) => return Ok((event, None)),
                Ok(event) => return Ok((event, Some(Phase::Read { attempt, answer }))),
                Err(error) if answer.begun => return Err(error),
                Err(error) => again(attempt, error)?,
            },
        };
    }
}

/// Another node may do better with a retryable error.
fn again(attempt: Attempt, error: ChatError) -> Result<Phase, ChatError> {
    if error.retryable() || matches!(error, ChatError::Overloaded) {
        Ok(Phase::Choose {
            attempt,
            failed: Some(error),
        })
    } else {
        Err(error)
    }
}

/// What there is; a model that nobody has is looked for once more.
async fn catalog(balancer: Balancer, model: String, first: bool) -> Catalog {
    let catalog = balancer.catalog().await;
    if !first || catalog.model(&model).is_some() {
        return catalog;
    }
    balancer.refresh().await;
    balancer.catalog().await
}

/// The least busy node that has the model and was not tried yet. An answer that has begun goes only to a node that can
/// continue it exactly.
fn pick(attempt: &mut Attempt, catalog: &Catalog) -> Result<Arc<Node>, ChatError> {
    let name = full_name(&attempt.turn.model);
    let Some(model) = catalog.model(&name) else {
        return Err(absent(catalog, name));
    };
    let has =
        |node: &&Arc<Node>| model.nodes.contains(&node.name) && !attempt.tried.contains(&node.name);
    let having: Vec<_> = attempt.balancer.nodes().iter().filter(has).collect();
    let fit = having
        .iter()
        .filter(|node| attempt.turn.text_so_far.is_none() || node.resumes(&name));
    let Some(node) = fit.min_by_key(|node| (node.slots.load(), !node.has_loaded(&name))) else {
        return Err(if having.is_empty() {
            ChatError::NoNode { model: name }
        } else {
            ChatError::NotResumable { model: name }
        });
    };
    let node = Arc::clone(node);
    attempt.tried.insert(node.name.clone());
    Ok(node)
}

fn absent(catalog: &Catalog, model: String) -> ChatError {
    if catalog.nodes.iter().any(|node| !node.ready) || catalog.nodes.is_empty() {
        return ChatError::NoNode { model };
    }
    let known = catalog
        .models
        .iter()
        .filter(|model| model.completes())
        .map(|model| model.name.clone())
        .collect();
    ChatError::UnknownModel { model, known }
}

/// Sends the turn to a node.
async fn open(
    options: Options,
    node: Arc<Node>,
    slot: Slot,
    request: ChatRequest,
) -> Result<Answer, ChatError> {
    let body = serde_json::to_vec(&request).map_err(|error| ChatError::Rejected {
        message: error.to_string(),
    })?;
    let sent = time::timeout(
        options.first_token_timeout,
        node.post("/api/chat", body.into()),
    )
    .await;
    let sent = sent.unwrap_or(Err(TransportError::Silent(options.first_token_timeout)));
    let response = sent.map_err(|error| lost(&node, error))?;
    if response.status() != StatusCode::OK {
        let refused = refused(&node, &request.model, response);
        let silent = ChatError::NodeFailed {
            node: node.name.clone(),
            message: "it began an error and did not end it".to_owned(),
        };
        return Err(time::timeout(options.probe_timeout, refused)
            .await
            .unwrap_or(silent));
    }
    Ok(Answer {
        node,
        body: response.into_body(),
        decoder: LineDecoder::new(options.max_line),
        begun: false,
        end: None,
        options,
        _slot: slot,
    })
}

fn request(turn: &ChatTurn) -> ChatRequest {
    let resume = turn.text_so_far.as_ref().map(|text| Continue {
        text: text.clone(),
        tokens: None,
    });
    ChatRequest {
        model: turn.model.clone(),
        messages: turn.messages.clone(),
        stream: Some(true),
        jarvis: resume.map(|resume| RequestExtension {
            resume: Some(resume),
            report_tokens: None,
        }),
        ..ChatRequest::default()
    }
}

fn lost(node: &Node, source: TransportError) -> ChatError {
    // A broken connection says something of the node; silence or a bad record, of this request alone.
    if matches!(source, TransportError::Connection(_) | TransportError::Cut) {
        node.note_down(&source);
    }
    ChatError::NodeLost {
        node: node.name.clone(),
        source,
    }
}

/// What a status other than 200 means.
async fn refused(node: &Node, model: &str, response: Response<ResponseBody>) -> ChatError {
    const MAX_ERROR: usize = 64 << 10;
    let status = response.status();
    let body = read(response, MAX_ERROR).await.unwrap_or_default();
    let message = serde_json::from_slice::<ErrorBody>(&body)
        .map_or_else(|_| status.to_string(), |body| body.error);
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => ChatError::Overloaded,
        StatusCode::NOT_FOUND => ChatError::NoNode {
            model: model.to_owned(),
        },
        status if status.is_client_error() => ChatError::Rejected { message },
        _ => ChatError::NodeFailed {
            node: node.name.clone(),
            message,
        },
    }
}

/// An answer that comes from a node.
struct Answer {
    node: Arc<Node>,
    body: ResponseBody,
    decoder: LineDecoder,
    begun: bool,
    /// The end, once it was read with text before it.
    end: Option<ChatEvent>,
    options: Options,
    _slot: Slot,
}

impl Answer {
    /// The next event: all the text that has arrived, together.
    async fn next(&mut self) -> Result<ChatEvent, ChatError> {
        loop {
            if let Some(event) = self.decode()? {
                self.begun = true;
                return Ok(event);
            }
            let limit = if self.begun {
                self.options.token_timeout
            } else {
                self.options.first_token_timeout
            };
            let frame = time::timeout(limit, self.body.frame())
                .await
                .map_err(|_| TransportError::Silent(limit));
            let data = match frame {
                Ok(Some(Ok(frame))) => Ok(frame.into_data().unwrap_or_default()),
                Ok(Some(Err(error))) => Err(TransportError::Connection(error)),
                Ok(None) => Err(TransportError::Cut),
                Err(silent) => Err(silent),
            };
            self.decoder
                .push(&data.map_err(|error| lost(&self.node, error))?);
        }
    }

    fn decode(&mut self) -> Result<Option<ChatEvent>, ChatError> {
        if let Some(end) = self.end.take() {
            return Ok(Some(end));
        }
        let mut text = String::new();
        while let Some(line) = self.line()? {
            let record = self.record(&line)?;
            text.push_str(&record.message.content);
            if record.done {
                let figures = record.metrics;
                self.end = Some(ChatEvent::Done {
                    prompt_tokens: figures.prompt_eval_count,
                    completion_tokens: figures.eval_count,
                });
                break;
            }
        }
        Ok(if text.is_empty() {
            self.end.take()
        } else {
            Some(ChatEvent::Text(text))
        })
    }

    fn line(&mut self) -> Result<Option<Bytes>, ChatError> {
        self.decoder
            .next_line()
            .map_err(|error| lost(&self.node, TransportError::Malformed(error.to_string())))
    }

    fn record(&self, line: &Bytes) -> Result<ChatResponse, ChatError> {
        serde_json::from_slice(line).map_err(|error| {
            match serde_json::from_slice::<ErrorBody>(line) {
                Ok(body) => ChatError::NodeFailed {
                    node: self.node.name.clone(),
                    message: body.error,
                },
                Err(_) => lost(&self.node, TransportError::Malformed(error.to_string())),
            }
        })
    }
}
