//! What is asked, as far as choosing a node and reading its answer need to know it.

use crate::{
    catalog::full_name,
    policy::{Job, Link},
    queue::Priority,
    resume::Dialect,
};
use bytes::Bytes;
use jarvis_protocol::ollama::KeepAlive;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    hash::{Hash, Hasher as _},
    time::Duration,
};

/// Who asks, and how urgent it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller {
    /// Requests of one user wait behind one another, not behind everybody's.
    pub user: u64,
    /// How urgent it is.
    pub priority: Priority,
}

impl Caller {
    /// A user, by whatever names them, at the usual priority.
    pub fn user(name: &impl Hash) -> Self {
        let mut hash = std::hash::DefaultHasher::new();
        name.hash(&mut hash);
        Self {
            user: hash.finish(),
            ..Self::default()
        }
    }
}

/// A request for a model.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// With its tag.
    pub(crate) model: String,
    /// Where the answer is one of the known streams.
    pub(crate) dialect: Option<Dialect>,
    /// Whether the answer comes piece by piece.
    pub(crate) stream: bool,
    pub(crate) prompt_bytes: u32,
    pub(crate) prefix: Vec<Link>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) caller: Caller,
    /// It asks nothing, and has the model unloaded.
    pub(crate) unloads: bool,
    /// The request as it came.
    pub(crate) body: Bytes,
    /// Whether its tokens are counted as they come, so that every record is read at once.
    pub(crate) counted: bool,
}

/// The fields that are looked at; everything else stays as it came.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default)]
    messages: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    keep_alive: Option<&'a RawValue>,
    #[serde(default)]
    options: Option<Limits>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Limits {
    #[serde(default)]
    num_predict: Option<i64>,
}

impl Ask {
    /// Reads a request's body. An answer streams where the body does not say so in Ollama's own dialect, and does not in
    /// OpenAI's.
    ///
    /// # Errors
    /// Why the body is no request, for the client.
    pub(crate) fn read(
        dialect: Option<Dialect>,
        body: Bytes,
        caller: Caller,
    ) -> Result<Self, String> {
        let fields: Fields<'_> =
            serde_json::from_slice(&body).map_err(|error| format!("invalid request: {error}"))?;
        let model = fields.model.filter(|name| !name.is_empty());
        let model = model.ok_or("model is required")?;
        if model.len() > 512 || model.chars().any(char::is_control) {
            return Err("invalid model name".into());
        }
        let parts = fields.messages.as_deref().unwrap_or_default();
        let rest = fields.prompt.or(fields.input);
        let is_empty = parts.is_empty() && rest.is_none_or(|rest| rest.get() == "\"\"");
        let streams_unless_told = dialect.is_some_and(Dialect::is_ollama);
        let prefix = chain(&model, parts.iter().chain(&rest).map(|part| part.get()));
        let limit = fields.options.unwrap_or_default().num_predict;
        let limit = limit.or(fields.max_completion_tokens).or(fields.max_tokens);
        Ok(Self {
            model: full_name(&model),
            dialect,
            stream: fields.stream.unwrap_or(streams_unless_told),
            prompt_bytes: prefix.last().map_or(0, |link| link.bytes),
            prefix,
            max_tokens: limit.and_then(|limit| u32::try_from(limit).ok()),
            caller,
            unloads: is_empty && streams_unless_told && fields.keep_alive.is_some_and(is_zero),
            counted: false,
            body,
        })
    }

    pub(crate) fn job(&self) -> Job<'_> {
        Job {
            model: &self.model,
            prompt_bytes: self.prompt_bytes,
            prefix: &self.prefix,
            max_tokens: self.max_tokens,
        }
    }
}

fn is_zero(keep_alive: &RawValue) -> bool {
    serde_json::from_str(keep_alive.get())
        .is_ok_and(|keep_alive: KeepAlive| keep_alive == KeepAlive::For(Duration::ZERO))
}

/// The hash chain over the parts of a prompt: two prompts share a cached beginning as far as their chains agree.
fn chain<'a>(model: &str, parts: impl Iterator<Item = &'a str>) -> Vec<Link> {
    // Keyed alike in every process: several balancers may share what they know, and a trace is compared over time.
    let mut hash = std::hash::DefaultHasher::new();
    hash.write(model.as_bytes());
    let mut bytes = 0_u32;
    parts
        .map(|part| {
            hash.write(part.as_bytes());
            hash.write_u8(0);
            bytes = bytes.saturating_add(u32::try_from(part.len()).unwrap_or(u32::MAX));
            Link {
                hash: hash.finish(),
                bytes,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(dialect: Dialect, body: &'static str) -> Result<Ask, String> {
        Ask::read(
            Some(dialect),
            Bytes::from_static(body.as_bytes()),
            Caller::default(),
        )
    }

    #[test]
    fn what_matters_is_read_and_the_rest_is_left() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}],"strange":1,
            "options":{"num_predict":7,"other":[]}}"#;
        let ask = ask(Dialect::OllamaChat, body).unwrap();
        assert_eq!(
            (ask.model.as_str(), ask.stream, ask.max_tokens),
            ("m:latest", true, Some(7))
        );
        assert_eq!(ask.prefix.len(), 2);
        let message = r#"{"role":"user","content":"a"}"#;
        assert_eq!(ask.prompt_bytes as usize, 2 * message.len());
    }

    #[test]
    fn what_asks_nothing_and_keeps_the_model_for_no_time_unloads_it() {
        let unloads = |dialect, body| ask(dialect, body).unwrap().unloads;
        for (dialect, body) in [
            (Dialect::OllamaGenerate, r#"{"model":"m","keep_alive":0}"#),
            (
                Dialect::OllamaGenerate,
                r#"{"model":"m","prompt":"","keep_alive":"0s"}"#,
            ),
            (
                Dialect::OllamaChat,
                r#"{"model":"m","messages":[],"keep_alive":0.0}"#,
            ),
        ] {
            assert!(unloads(dialect, body), "{body}");
        }
        for (dialect, body) in [
            (
                Dialect::OllamaGenerate,
                r#"{"model":"m","prompt":"a","keep_alive":0}"#,
            ),
            (
                Dialect::OllamaChat,
                r#"{"model":"m","messages":[{}],"keep_alive":0}"#,
            ),
            (
                Dialect::OllamaGenerate,
                r#"{"model":"m","keep_alive":"1s"}"#,
            ),
            (Dialect::OllamaGenerate, r#"{"model":"m","keep_alive":-1}"#),
            (Dialect::OllamaGenerate, r#"{"model":"m","keep_alive":"x"}"#),
            (Dialect::OllamaGenerate, r#"{"model":"m"}"#),
            (
                Dialect::OpenAiChat,
                r#"{"model":"m","messages":[],"keep_alive":0}"#,
            ),
        ] {
            assert!(!unloads(dialect, body), "{body}");
        }
    }

    #[test]
    fn dialects_differ_in_what_silence_means() {
        let body = r#"{"model":"m:1b","messages":[]}"#;
        assert!(ask(Dialect::OllamaChat, body).unwrap().stream);
        assert!(!ask(Dialect::OpenAiChat, body).unwrap().stream);
    }

    #[test]
    fn a_longer_conversation_shares_the_chain_of_the_shorter() {
        let short = chain("m", ["a", "b"].into_iter());
        let long = chain("m", ["a", "b", "c"].into_iter());
        assert_eq!(long[..2], short);
        assert_ne!(chain("n", ["a"].into_iter())[0], short[0]);
        assert_ne!(chain("m", ["ab"].into_iter())[0].hash, short[1].hash);
    }

    #[test]
    fn what_is_no_request_says_why() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"model":""}"#,
            r#"{"model":7}"#,
            "{\"model\":\"a\\u0000b\"}",
        ] {
            assert!(ask(Dialect::OllamaChat, body).is_err(), "{body}");
        }
    }
}
