//! `POST /api/generate`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jarvis_protocol::{
    ResponseExtension,
    ollama::{DoneReason, GenerateRequest, GenerateResponse, Message, Metrics, Role},
};
use serde_json::Value;

use super::{
    State, body,
    chat::begin,
    reply::OllamaError,
    stream::{self, Dialect},
    wishes,
};
use crate::{
    Inner,
    error::EngineError,
    prompt::Input,
    service::{Answer, Call, Piece, Started},
};

pub(super) async fn generate(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Response, OllamaError> {
    let request: GenerateRequest = body::json(body, inner.options.max_body).await?;
    let streamed = request.stream.unwrap_or(true);
    let writer = Writer {
        extended: request.jarvis.is_some(),
        with_context: !request.raw,
        model: request.model.clone(),
        inner: Arc::clone(&inner),
    };
    let call = call(&inner, request).await?;
    match inner.start(call).await? {
        Started::Idle(reason, metrics) => {
            let record = GenerateResponse {
                done: true,
                done_reason: Some(reason),
                metrics,
                ..writer.record(String::new())
            };
            Ok(Json(record).into_response())
        }
        Started::Running(answer) if streamed => Ok(stream::response(answer, writer)),
        Started::Running(answer) => Ok(Json(writer.whole(answer).await?).into_response()),
    }
}

async fn call(inner: &Inner, request: GenerateRequest) -> Result<Call, EngineError> {
    let manifest = inner.manifest(&request.model).await?;
    wishes::of_generate(&request)?;
    if !request.images.is_empty() {
        return Err(EngineError::NotSupported {
            model: request.model,
            what: "image input",
        });
    }
    if request
        .template
        .as_ref()
        .is_some_and(|text| !text.is_empty())
    {
        return Err(EngineError::BadRequest(
            "a template cannot be given with a request; create a model with it".to_owned(),
        ));
    }
    let extension = request.jarvis.unwrap_or_default();
    let continues = extension.resume.is_some();
    let input = if request.prompt.is_empty() && request.context.is_empty() && !continues {
        None
    } else if request.raw {
        Some(Input::Raw {
            text: request.prompt,
            context: request.context,
        })
    } else {
        let system = request.system.or_else(|| manifest.system.clone());
        // An earlier call has put the model's turns into its context.
        let turns: &[Message] = if request.context.is_empty() {
            &manifest.messages
        } else {
            &[]
        };
        let mut messages = vec![Message::new(Role::User, request.prompt)];
        begin(&mut messages, system.filter(|text| !text.is_empty()), turns);
        Some(Input::Chat {
            context: request.context,
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

/// Writes this request's records.
struct Writer {
    inner: Arc<Inner>,
    model: String,
    extended: bool,
    with_context: bool,
}

impl Writer {
    fn record(&self, response: String) -> GenerateResponse {
        GenerateResponse {
            model: self.model.clone(),
            created_at: self.inner.options.clock.now().to_string(),
            response,
            thinking: None,
            done: false,
            done_reason: None::<DoneReason>,
            context: Vec::new(),
            metrics: Metrics::default(),
            jarvis: None,
        }
    }

    fn last(&self, text: String, mut ids: Vec<i32>, end: crate::service::End) -> GenerateResponse {
        ids.extend(&end.outcome.tokens);
        let extension = ResponseExtension {
            tokens: ids,
            cached_tokens: Some(end.outcome.cached_tokens),
        };
        GenerateResponse {
            done: true,
            done_reason: Some(end.reason),
            context: if self.with_context {
                end.outcome.context
            } else {
                Vec::new()
            },
            metrics: end.metrics,
            jarvis: self.extended.then_some(extension),
            ..self.record(text)
        }
    }

    async fn whole(&self, mut answer: Answer) -> Result<GenerateResponse, EngineError> {
        let mut response = String::new();
        let mut ids = Vec::new();
        loop {
            match answer.next().await? {
                Piece::Text(text, tokens) => {
                    response.push_str(&text);
                    ids.extend(tokens);
                }
                Piece::End(end) => return Ok(self.last(response, ids, end)),
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
            Piece::End(end) => self.last(String::new(), Vec::new(), end),
        };
        stream::line(&record)
    }

    fn failure(&mut self, error: &EngineError) -> Bytes {
        stream::error_line(error)
    }
}
