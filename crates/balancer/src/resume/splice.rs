//! Writing what another node goes on with in the form of the first stream.

use super::{
    Broken, Cause, Dialect, Origin, Transcript,
    broken::message,
    edit::{Object, json, member},
    frame::{Frames, records},
    record::Record,
    text::{Malformed, elements, says_something, text_of},
    transcript::Head,
};
use bytes::Bytes;
use jarvis_protocol::{
    ollama::Metrics,
    openai::{DONE, Usage},
};
use std::{fmt::Write as _, time::Duration};

/// The time that went into the parts before, which no node will report.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    /// Since the request came.
    pub(crate) total: Duration,
    /// Of that, since the first text came.
    pub(crate) decoding: Duration,
}

/// Rewrites the records of a node that goes on. Its output goes through the answer's [`Transcript`] before it is forwarded.
///
/// The model, the `id` and `created` stay those of the first stream, no second role is announced, the figures cover all parts, and
/// the answer ends once.
#[derive(Debug)]
pub(crate) struct Splice {
    target: Dialect,
    source: Dialect,
    frames: Frames,
    head: Head,
    used: u64,
    spent: Spent,
    usage: bool,
    extended: bool,
    ended: bool,
}

impl Splice {
    /// Over the stream that answers an [`super::Ask`]. The half record of the lost node is forgotten here.
    pub(crate) fn new(
        origin: &Origin,
        transcript: &mut Transcript,
        answers: Dialect,
        spent: Spent,
    ) -> Self {
        transcript.cut();
        Self {
            target: transcript.dialect(),
            source: answers,
            frames: Frames::new(answers.into(), transcript.limits().record),
            head: transcript.head().cloned().unwrap_or_default(),
            used: transcript.tokens_used(),
            spent,
            usage: origin.wants_usage(),
            extended: origin.is_extended() || transcript.hides_tokens(),
            ended: false,
        }
    }

    /// Takes a chunk of the node that goes on and gives what the client shall see of it.
    ///
    /// # Errors
    /// This node's stream is of no use any more; [`Broken::before`] goes through the transcript first.
    #[expect(clippy::needless_pass_by_value, reason = "as Transcript::push")]
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<Bytes, Broken> {
        let (whole, over) = self.frames.push(&chunk);
        let mut out = String::with_capacity(whole.len() + 64);
        let mut broken = over.then_some(Cause::TooLong);
        for record in records(self.source.into(), &whole) {
            if self.ended {
                break;
            }
            let Some(payload) = record.payload else {
                continue;
            };
            if let Err(cause) = self.write(&payload, &mut out) {
                self.frames.clear();
                broken = Some(cause);
                break;
            }
        }
        match broken {
            None => Ok(out.into()),
            Some(cause) => Err(Broken {
                before: out.into(),
                cause,
            }),
        }
    }

    fn write(&mut self, payload: &[u8], out: &mut String) -> Result<(), Cause> {
        let json = std::str::from_utf8(payload).map_err(|_| Cause::Malformed)?;
        if json == DONE && !self.source.is_ollama() {
            self.ended = true;
            event(out, DONE);
            return Ok(());
        }
        let record = Record::read(self.source, json)?;
        if !record.error.is_empty() {
            return Err(Cause::Failed(message(json)));
        }
        self.ended |= record.done;
        if self.source == self.target {
            return Ok(self.same(&record, json, out)?);
        }
        if record.calls || says_something(record.thinking) {
            // Neither comes of raw text; if it does, the node did not do what it was asked.
            return Err(Cause::Malformed);
        }
        Ok(self.converted(&record, json, out)?)
    }

    /// A record that has the first stream's form already.
    fn same(&self, record: &Record<'_>, json: &str, out: &mut String) -> Result<(), Malformed> {
        if !self.source.is_ollama() {
            return self.same_openai(record, json, out);
        }
        if !record.done {
            line(out, json);
            return Ok(());
        }
        let mut without = vec![
            "total_duration",
            "load_duration",
            "prompt_eval_count",
            "prompt_eval_duration",
            "eval_count",
            "eval_duration",
        ];
        if !self.extended {
            without.push("jarvis");
        }
        let mut object = Object::copy(json, &without)?;
        figures(&mut object, self.merged(json)?);
        line(out, &object.end());
        Ok(())
    }

    fn same_openai(
        &self,
        record: &Record<'_>,
        json: &str,
        out: &mut String,
    ) -> Result<(), Malformed> {
        let without = [
            "id",
            "object",
            "created",
            "model",
            "system_fingerprint",
            "choices",
            "usage",
        ];
        let rest = Object::copy(json, &without)?;
        let mut choices = String::new();
        let mut empty = true;
        for choice in elements(member(json, "choices").unwrap_or("[]")) {
            let choice = choice?;
            let mut object = Object::copy(choice, &["delta"])?;
            if let Some(delta) = member(choice, "delta") {
                let delta = Object::copy(delta, &["role"])?;
                empty &= delta.is_empty();
                object.raw("delta", &delta.end());
            } else {
                empty = false;
            }
            choices.push_str(if choices.is_empty() { "" } else { "," });
            choices.push_str(&object.end());
        }
        if record.role && empty && !says_something(record.reason) {
            return Ok(());
        }
        let mut object = self.chunk(&format!("[{choices}]"));
        if !record.usage.is_empty() {
            let usage: Usage = serde_json::from_str(record.usage).map_err(|_| Malformed)?;
            let merged = self.sum(Metrics {
                prompt_eval_count: usage.prompt_tokens,
                eval_count: usage.completion_tokens,
                ..Metrics::default()
            });
            let zero = usage == Usage::default();
            object.set("usage", &if zero { usage } else { used(merged) });
        }
        if !rest.is_empty() {
            for member in super::text::members(&rest.end()) {
                let (key, value) = member?;
                object.raw(key, value);
            }
        }
        event(out, &object.end());
        Ok(())
    }

    /// A record of the Ollama dialect for a stream of another form.
    fn converted(
        &self,
        record: &Record<'_>,
        json: &str,
        out: &mut String,
    ) -> Result<(), Malformed> {
        let says = says_something(record.text);
        if self.target.is_ollama() {
            if says || record.done {
                let mut object = self.ollama(record.created, record.text);
                if record.done {
                    object.raw("done", "true");
                    object.raw_if("done_reason", Some(record.reason).filter(|r| !r.is_empty()));
                    figures(&mut object, self.merged(json)?);
                } else {
                    object.raw("done", "false");
                }
                line(out, &object.end());
            }
            return Ok(());
        }
        let told = Some(record.extension).filter(|told| self.extended && !told.is_empty());
        if says || (told.is_some() && !record.done) {
            let text = if says { record.text } else { "" };
            let mut chunk = self.chunk(&self.choice(text, "null"));
            chunk.raw_if("jarvis", told);
            event(out, &chunk.end());
        }
        if record.done {
            let reason = if says_something(record.reason) {
                text_of(record.reason)?
            } else {
                String::new()
            };
            self.close(out, &reason, told, Some(self.merged(json)?));
        }
        Ok(())
    }

    /// The records that end a stream of the OpenAI dialect.
    fn close(&self, out: &mut String, reason: &str, told: Option<&str>, figures: Option<Metrics>) {
        let reason = if reason == "length" { "length" } else { "stop" };
        let mut chunk = self.chunk(&self.choice("", &json(reason)));
        chunk.raw_if("jarvis", told);
        event(out, &chunk.end());
        self.close_after_reason(out, figures);
    }

    fn close_after_reason(&self, out: &mut String, all: Option<Metrics>) {
        if let (true, Some(all)) = (self.usage, all) {
            let mut object = self.chunk("[]");
            object.set("usage", &used(all));
            event(out, &object.end());
        }
        event(out, DONE);
    }

    /// A record of the first stream's form with this text, but for what says whether it is done.
    fn ollama(&self, created: &str, text: &str) -> Object {
        let text = if text.is_empty() { "\"\"" } else { text };
        let mut object = Object::new();
        object.set("model", &self.head.model);
        if created.is_empty() {
            object.set("created_at", &self.head.created);
        } else {
            object.raw("created_at", created);
        }
        if self.target == Dialect::OllamaChat {
            object.raw(
                "message",
                &format!("{{\"role\":\"assistant\",\"content\":{text}}}"),
            );
        } else {
            object.raw("response", text);
        }
        object
    }

    /// A chunk of the first stream with these choices, without its closing brace.
    fn chunk(&self, choices: &str) -> Object {
        let mut object = Object::new();
        object.set("id", &self.head.id);
        object.raw(
            "object",
            if self.target == Dialect::OpenAiChat {
                "\"chat.completion.chunk\""
            } else {
                "\"text_completion\""
            },
        );
        if !self.head.created.is_empty() {
            object.raw("created", &self.head.created);
        }
        object.set("model", &self.head.model);
        if !self.head.fingerprint.is_empty() {
            object.set("system_fingerprint", &self.head.fingerprint);
        }
        object.raw("choices", choices);
        object
    }

    /// The one choice of a chunk; `text` and `reason` as JSON, no text at all at the end of a chat.
    fn choice(&self, text: &str, reason: &str) -> String {
        match (self.target, text) {
            (Dialect::OpenAiChat, "") => {
                format!("[{{\"index\":0,\"delta\":{{}},\"finish_reason\":{reason}}}]")
            }
            (Dialect::OpenAiChat, text) => format!(
                "[{{\"index\":0,\"delta\":{{\"content\":{text}}},\"finish_reason\":{reason}}}]"
            ),
            (_, "") => format!("[{{\"text\":\"\",\"index\":0,\"finish_reason\":{reason}}}]"),
            (_, text) => format!("[{{\"text\":{text},\"index\":0,\"finish_reason\":{reason}}}]"),
        }
    }

    fn merged(&self, json: &str) -> Result<Metrics, Malformed> {
        let figures: Figures = serde_json::from_str(json).map_err(|_| Malformed)?;
        Ok(self.sum(figures.metrics))
    }

    /// The figures of all parts. The prompt of this part holds the parts before, so their tokens are taken off.
    fn sum(&self, part: Metrics) -> Metrics {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let prompt = part.prompt_eval_count;
        Metrics {
            total_duration: part.total_duration.saturating_add(nanos(self.spent.total)),
            eval_duration: part
                .eval_duration
                .saturating_add(nanos(self.spent.decoding)),
            prompt_eval_count: prompt
                .checked_sub(self.used)
                .filter(|own| *own > 0)
                .unwrap_or(prompt),
            eval_count: part.eval_count + self.used,
            ..part
        }
    }

    /// The node's stream ended.
    ///
    /// # Errors
    /// [`Cause::Cut`]: the answer did not end before.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Broken> {
        let held = self.frames.take();
        let mut out = String::new();
        for record in records(self.source.into(), &held) {
            let Some(payload) = record.payload.filter(|_| !self.ended) else {
                continue;
            };
            let mut last = String::new();
            if self.write(&payload, &mut last).is_ok() && self.ended {
                out = last;
            }
        }
        if self.ended {
            return Ok(out.into());
        }
        Err(Broken {
            before: Bytes::new(),
            cause: Cause::Cut,
        })
    }
}

#[derive(serde::Deserialize)]
struct Figures {
    #[serde(flatten)]
    metrics: Metrics,
}

fn figures(object: &mut Object, metrics: Metrics) {
    let written = json(&metrics);
    for (key, value) in super::text::members(&written).filter_map(Result::ok) {
        object.raw(key, value);
    }
}

fn used(figures: Metrics) -> Usage {
    Usage::new(figures.prompt_eval_count, figures.eval_count)
}

fn line(out: &mut String, json: &str) {
    out.push_str(json);
    out.push('\n');
}

fn event(out: &mut String, data: &str) {
    let _ = write!(out, "data: {data}\n\n");
}

/// What closes a stream whose text is whole: because its end was said already, or for `reason`.
pub(super) fn closing(origin: &Origin, transcript: &Transcript, reason: &str) -> Bytes {
    let splice = Splice {
        target: transcript.dialect(),
        source: transcript.dialect(),
        frames: Frames::new(transcript.dialect().into(), 0),
        head: transcript.head().cloned().unwrap_or_default(),
        used: transcript.tokens_used(),
        spent: Spent::default(),
        usage: origin.wants_usage(),
        extended: false,
        ended: true,
    };
    let own = Metrics {
        eval_count: splice.used,
        ..Metrics::default()
    };
    let mut out = String::new();
    if splice.target.is_ollama() {
        let mut object = splice.ollama("", "");
        object.raw("done", "true");
        object.set("done_reason", reason);
        figures(&mut object, own);
        line(&mut out, &object.end());
        return out.into();
    }
    match transcript.finished() {
        None => splice.close(&mut out, reason, None, Some(own)),
        Some(end) => {
            let told = end.metrics != Metrics::default();
            splice.close_after_reason(&mut out, (!told).then_some(own));
        }
    }
    out.into()
}
