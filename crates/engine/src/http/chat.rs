//! `POST /api/chat`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jarvis_protocol::{
    ResponseExtension,
    ollama::{ChatRequest, ChatResponse, DoneReason, Message, Metrics, Role},
};
use serde_json::Value;

use super::{
    State, body,
    reply::OllamaError,
    stream::{self, Dialect},
    wishes,
};
use crate::{
    Inner,
    catalog::Manifest,
    error::EngineError,
    prompt::Input,
    service::{Answer, Call, Piece, Started},
};

pub(super) async fn chat(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Response, OllamaError> {
    let request: ChatRequest = body::json(body, inner.options.max_body).await?;
    let streamed = request.stream.unwrap_or(true);
    let writer = Writer {
        extended: request.jarvis.is_some(),
        model: request.model.clone(),
        inner: Arc::clone(&inner),
    };
    let call = call(&inner, request).await?;
    match inner.start(call).await? {
        Started::Idle(reason, metrics) => {
            Ok(Json(writer.last(String::new(), reason, metrics, None)).into_response())
        }
        Started::Running(answer) if streamed => Ok(stream::response(answer, writer)),
        Started::Running(answer) => Ok(Json(writer.whole(answer).await?).into_response()),
    }
}

async fn call(inner: &Inner, request: ChatRequest) -> Result<Call, EngineError> {
    let manifest = inner.manifest(&request.model).await?;
    wishes::of_chat(&request)?;
    let extension = request.jarvis.unwrap_or_default();
    let mut messages = request.messages;
    let input = if messages.is_empty() {
        None
    } else {
        if messages.iter().any(|message| !message.images.is_empty()) {
            return Err(EngineError::NotSupported {
                model: request.model,
                what: "image input",
            });
        }
        can_chat(&manifest)?;
        begin(&mut messages, manifest.system.clone(), &manifest.messages);
        Some(Input::Chat {
            context: Vec::new(),
            messages,
            think: request.think.as_ref().and_then(Value::as_bool),
        })
    };
    Ok(Call {
        manifest,
        input,
        options: request.options,
        format: request.format,
        keep_alive: request.keep_alive,
        resume: extension.resume,
        report_tokens: extension.report_tokens.unwrap_or(false),
    })
}

/// Refuses a model that does not converse.
pub(super) fn can_chat(manifest: &Manifest) -> Result<(), EngineError> {
    if manifest.can("completion") {
        return Ok(());
    }
    Err(EngineError::NotSupported {
        model: manifest.name.clone(),
        what: "chat",
    })
}

/// Puts first what the model begins every conversation with: its system message, if the conversation has none, and its own
/// turns.
pub(super) fn begin(messages: &mut Vec<Message>, system: Option<String>, turns: &[Message]) {
    let has_one = messages
        .first()
        .is_some_and(|message| message.role == Role::System);
    if let (false, Some(system)) = (has_one, system) {
        messages.insert(0, Message::new(Role::System, system));
    }
    let systems = messages
        .iter()
        .take_while(|message| message.role == Role::System)
        .count();
    messages.splice(systems..systems, turns.iter().cloned());
}

/// Writes this request's records.
struct Writer {
    inner: Arc<Inner>,
    model: String,
    extended: bool,
}

impl Writer {
    fn record(&self, content: String) -> ChatResponse {
        ChatResponse {
            model: self.model.clone(),
            created_at: self.inner.options.clock.now().to_string(),
            message: Message::new(Role::Assistant, content),
            done: false,
            done_reason: None,
            metrics: Metrics::default(),
            jarvis: None,
        }
    }

    fn last(
        &self,
        content: String,
        reason: DoneReason,
        metrics: Metrics,
        jarvis: Option<ResponseExtension>,
    ) -> ChatResponse {
        ChatResponse {
            done: true,
            done_reason: Some(reason),
            metrics,
            jarvis: jarvis.filter(|_| self.extended),
            ..self.record(content)
        }
    }

    async fn whole(&self, mut answer: Answer) -> Result<ChatResponse, EngineError> {
        let mut content = String::new();
        let mut ids = Vec::new();
        loop {
            match answer.next().await? {
                Piece::Text(text, tokens) => {
                    content.push_str(&text);
                    ids.extend(tokens);
                }
                Piece::End(end) => {
                    ids.extend(&end.outcome.tokens);
                    let jarvis = ResponseExtension {
                        tokens: ids,
                        cached_tokens: Some(end.outcome.cached_tokens),
                    };
                    return Ok(self.last(content, end.reason, end.metrics, Some(jarvis)));
                }
            }
        }
    }
}

impl Dialect for Writer {
    const CONTENT_TYPE: &'static str = "application/x-ndjson";

    fn record(&mut self, piece: Piece) -> Bytes {
        let record = match piece {
            Piece::Text(text, tokens) => {
                let mut record = Writer::record(self, text);
                if !tokens.is_empty() {
                    record.jarvis = Some(ResponseExtension {
                        tokens,
                        cached_tokens: None,
                    });
                }
                record
            }
            Piece::End(end) => {
                let jarvis = ResponseExtension {
                    tokens: end.outcome.tokens,
                    cached_tokens: Some(end.outcome.cached_tokens),
                };
                self.last(String::new(), end.reason, end.metrics, Some(jarvis))
            }
        };
        stream::line(&record)
    }

    fn failure(&mut self, error: &EngineError) -> Bytes {
        stream::error_line(error)
    }
}
