//! `POST /v1/chat/completions`.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use jarvis_protocol::{
    ollama::{Format, Message, Role},
    openai::{
        ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatMessage, ChatRequest, Content,
        Delta, ResponseFormat, Usage,
    },
};

use super::{Sampling, done, event, failure, finish_reason, id, told};
use crate::{
    catalog::Manifest,
    error::EngineError,
    http::{
        State, body,
        chat::{begin, can_chat},
        reply::OpenAiError,
        stream::{self, Dialect},
        wishes,
    },
    prompt::Input,
    service::{Answer, Call, Piece, Started},
};

pub(super) async fn chat(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Response, OpenAiError> {
    let request: ChatRequest = body::json(body, inner.options.max_body).await?;
    let manifest = inner.manifest(&request.model).await?;
    wishes::of_openai_chat(&request)?;
    let streamed = request.stream;
    let mut writer = Writer {
        id: id("chatcmpl"),
        created: inner.options.clock.now().seconds(),
        model: request.model.clone(),
        fingerprint: format!("fp_{}", &manifest.digest[..12.min(manifest.digest.len())]),
        usage: request
            .stream_options
            .is_some_and(|options| options.include_usage),
        begun: false,
    };
    can_chat(&manifest)?;
    let call = call(request, manifest)?;
    match inner.start(call).await? {
        Started::Idle(..) => {
            Err(EngineError::BadRequest("messages must not be empty".to_owned()).into())
        }
        Started::Running(answer) if streamed => Ok(stream::response(answer, writer)),
        Started::Running(answer) => Ok(Json(writer.whole(answer).await?).into_response()),
    }
}

fn call(request: ChatRequest, manifest: Manifest) -> Result<Call, EngineError> {
    if request.messages.is_empty() {
        return Err(EngineError::BadRequest(
            "messages must not be empty".to_owned(),
        ));
    }
    let format = match request.response_format {
        None | Some(ResponseFormat::Text) => None,
        Some(ResponseFormat::JsonObject) => Some(Format::Json),
        Some(ResponseFormat::JsonSchema { json_schema }) => {
            Some(Format::Schema(json_schema.schema))
        }
    };
    let extension = request.jarvis.unwrap_or_default();
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in request.messages {
        messages.push(converted(&request.model, message)?);
    }
    begin(&mut messages, manifest.system.clone(), &manifest.messages);
    let options = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        stop: request.stop,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        max_tokens: request.max_completion_tokens.or(request.max_tokens),
    };
    Ok(Call {
        manifest,
        input: Some(Input::Chat {
            context: Vec::new(),
            messages,
            think: None,
        }),
        options: options.into_options(),
        format,
        keep_alive: None,
        resume: extension.resume,
        report_tokens: extension.report_tokens.unwrap_or(false),
    })
}

fn converted(model: &str, message: ChatMessage) -> Result<Message, EngineError> {
    let parts = match &message.content {
        Content::Text(_) => &[][..],
        Content::Parts(parts) => parts,
    };
    if let Some(part) = parts.iter().find(|part| part.kind != "text") {
        return Err(match part.kind.as_str() {
            "image_url" => EngineError::NotSupported {
                model: model.to_owned(),
                what: "image input",
            },
            kind => EngineError::BadRequest(format!(
                "messages: a part of type {kind:?} cannot be read, only \"text\""
            )),
        });
    }
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => Role::Other(other.to_owned()),
    };
    Ok(Message {
        tool_calls: message.tool_calls,
        tool_call_id: message.tool_call_id,
        ..Message::new(role, message.content.into_text())
    })
}

/// Writes this request's records.
struct Writer {
    id: String,
    created: i64,
    model: String,
    fingerprint: String,
    usage: bool,
    begun: bool,
}

impl Writer {
    fn chunk(&self, delta: Delta, finish_reason: Option<String>) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices: vec![ChatChunkChoice {
                index: 0,
                delta,
                finish_reason,
            }],
            usage: None,
            jarvis: None,
        }
    }

    /// A chunk with text, or with the tokens that have none.
    fn spoken(&mut self, text: Option<String>, tokens: Vec<i32>, reason: Option<String>) -> Bytes {
        let delta = Delta {
            role: self.role(),
            content: text,
        };
        let mut chunk = self.chunk(delta, reason);
        chunk.jarvis = told(tokens);
        event(&chunk)
    }

    /// The role comes once, before the first text.
    fn role(&mut self) -> Option<String> {
        (!std::mem::replace(&mut self.begun, true)).then(|| "assistant".to_owned())
    }

    async fn whole(&mut self, mut answer: Answer) -> Result<ChatCompletion, EngineError> {
        let mut content = String::new();
        loop {
            match answer.next().await? {
                Piece::Text(text, _) => content.push_str(&text),
                Piece::End(end) => {
                    return Ok(ChatCompletion {
                        id: self.id.clone(),
                        object: "chat.completion".to_owned(),
                        created: self.created,
                        model: self.model.clone(),
                        system_fingerprint: self.fingerprint.clone(),
                        choices: vec![ChatChoice {
                            index: 0,
                            message: ChatMessage {
                                role: "assistant".to_owned(),
                                content: Content::Text(content),
                                ..ChatMessage::default()
                            },
                            finish_reason: Some(finish_reason(end.reason)),
                        }],
                        usage: Usage::new(end.metrics.prompt_eval_count, end.metrics.eval_count),
                    });
                }
            }
        }
    }
}

impl Dialect for Writer {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn record(&mut self, piece: Piece) -> Bytes {
        match piece {
            Piece::Text(text, tokens) => self.spoken(Some(text), tokens, None),
            Piece::End(end) => {
                let mut out = BytesMut::new();
                let reason = Some(finish_reason(end.reason));
                out.extend(self.spoken(None, end.outcome.tokens, reason));
                if self.usage {
                    let mut chunk = self.chunk(Delta::default(), None);
                    chunk.choices.clear();
                    chunk.usage = Some(Usage::new(
                        end.metrics.prompt_eval_count,
                        end.metrics.eval_count,
                    ));
                    out.extend(event(&chunk));
                }
                out.extend(done());
                out.freeze()
            }
        }
    }

    fn failure(&mut self, error: &EngineError) -> Bytes {
        failure(error)
    }
}
