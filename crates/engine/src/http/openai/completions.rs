//! `POST /v1/completions`: the prompt is used as it is, without a template.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use jarvis_protocol::openai::{Completion, CompletionChoice, CompletionRequest, Prompt, Usage};

use super::{Sampling, done, event, failure, finish_reason, id, told};
use crate::{
    error::EngineError,
    http::{
        State, body,
        reply::OpenAiError,
        stream::{self, Dialect},
        wishes,
    },
    prompt::Input,
    service::{Answer, Call, End, Piece, Started},
};

/// OpenAI's own default.
const DEFAULT_MAX_TOKENS: u32 = 16;

pub(super) async fn completions(
    axum::extract::State(inner): State,
    body: Body,
) -> Result<Response, OpenAiError> {
    let request: CompletionRequest = body::json(body, inner.options.max_body).await?;
    let manifest = inner.manifest(&request.model).await?;
    wishes::of_openai_completion(&request)?;
    let prompt = match request.prompt {
        Prompt::One(text) => text,
        Prompt::Many(texts) => only(texts)?,
    };
    let mut writer = Writer {
        id: id("cmpl"),
        created: inner.options.clock.now().seconds(),
        model: request.model.clone(),
        fingerprint: format!("fp_{}", &manifest.digest[..12.min(manifest.digest.len())]),
        usage: request
            .stream_options
            .is_some_and(|options| options.include_usage),
        echo: request.echo.then(|| prompt.clone()),
    };
    let extension = request.jarvis.unwrap_or_default();
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p,
        seed: request.seed,
        stop: request.stop,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        max_tokens: Some(request.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS)),
    };
    let call = Call {
        manifest,
        input: Some(Input::Raw {
            text: prompt,
            context: Vec::new(),
        }),
        options: sampling.into_options(),
        format: None,
        keep_alive: None,
        resume: extension.resume,
        report_tokens: extension.report_tokens.unwrap_or(false),
    };
    match inner.start(call).await? {
        Started::Idle(..) => Err(EngineError::Internal("nothing was started".to_owned()).into()),
        Started::Running(answer) if request.stream => Ok(stream::response(answer, writer)),
        Started::Running(answer) => Ok(Json(writer.whole(answer).await?).into_response()),
    }
}

fn only(texts: Vec<String>) -> Result<String, EngineError> {
    let [text] = <[String; 1]>::try_from(texts).map_err(|_| {
        EngineError::BadRequest("exactly one prompt is supported: ask once for each".to_owned())
    })?;
    Ok(text)
}

/// Writes this request's records.
struct Writer {
    id: String,
    created: i64,
    model: String,
    fingerprint: String,
    usage: bool,
    echo: Option<String>,
}

impl Writer {
    fn completion(&self, text: String, finish_reason: Option<String>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            choices: vec![CompletionChoice {
                index: 0,
                text,
                finish_reason,
            }],
            usage: None,
            jarvis: None,
        }
    }

    async fn whole(&mut self, mut answer: Answer) -> Result<Completion, EngineError> {
        let mut text = self.echo.take().unwrap_or_default();
        loop {
            match answer.next().await? {
                Piece::Text(more, _) => text.push_str(&more),
                Piece::End(end) => {
                    let mut completion = self.completion(text, Some(finish_reason(end.reason)));
                    completion.usage = Some(used(&end));
                    return Ok(completion);
                }
            }
        }
    }
}

fn used(end: &End) -> Usage {
    Usage::new(end.metrics.prompt_eval_count, end.metrics.eval_count)
}

impl Dialect for Writer {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn record(&mut self, piece: Piece) -> Bytes {
        let echo = self.echo.take().unwrap_or_default();
        match piece {
            Piece::Text(text, tokens) => {
                let mut chunk = self.completion(echo + &text, None);
                chunk.jarvis = told(tokens);
                event(&chunk)
            }
            Piece::End(mut end) => {
                let mut out = BytesMut::new();
                let mut last = self.completion(echo, Some(finish_reason(end.reason)));
                last.jarvis = told(std::mem::take(&mut end.outcome.tokens));
                out.extend(event(&last));
                if self.usage {
                    let mut chunk = self.completion(String::new(), None);
                    chunk.choices.clear();
                    chunk.usage = Some(used(&end));
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
