//! The bytes of a node's answers, rendered once per model.

use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Which of the two chat interfaces is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dialect {
    Ollama,
    Openai,
}

impl Dialect {
    /// The path of its chat request.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Ollama => "/api/chat",
            Self::Openai => "/v1/chat/completions",
        }
    }

    /// Line feeds at the end of each record.
    pub(crate) fn feeds_per_record(self) -> usize {
        match self {
            Self::Ollama => 1,
            Self::Openai => 2,
        }
    }
}

/// How a streamed answer comes, said by the model's name, because every proxy passes that on:
/// `stream:BURST-EVERY-COUNT` is BURST records at once, then COUNT records, each EVERY milliseconds later than the one
/// before and written alone; then the end. Any other name: 256 records at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) burst: usize,
    pub(crate) every: Duration,
    pub(crate) count: usize,
}

impl Plan {
    pub(crate) fn of(model: &str) -> Self {
        let named = || {
            let mut parts = model.strip_prefix("stream:")?.splitn(3, '-');
            let mut next = || parts.next()?.parse::<u64>().ok();
            let (burst, every, count) = (next()?, next()?, next()?);
            Some(Self {
                burst: usize::try_from(burst).ok()?,
                every: Duration::from_millis(every),
                count: usize::try_from(count).ok()?,
            })
        };
        named().unwrap_or(Self {
            burst: 256,
            every: Duration::ZERO,
            count: 0,
        })
    }

    /// Records of a whole answer, the one that ends it and, in OpenAI's dialect, `[DONE]` included.
    pub(crate) fn records(&self, dialect: Dialect) -> usize {
        self.burst + self.count + dialect.feeds_per_record()
    }
}

/// One model's answers in one dialect.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) plan: Plan,
    /// A whole answer that is not streamed, with its head.
    pub(crate) small: Vec<u8>,
    /// Head of a stream and its burst.
    pub(crate) opening: Vec<u8>,
    /// Records that come alone, each as an HTTP chunk; taken in turn.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// The last records and the end of the body.
    pub(crate) closing: Vec<u8>,
}

const WORDS: [&str; 8] = [
    " the", " river", " lies", " still", " under", " a", " pale", " morning",
];
const CREATED: &str = "2026-01-01T12:00:00.123456789Z";

impl Rendered {
    pub(crate) fn new(dialect: Dialect, model: &str) -> Self {
        let plan = Plan::of(model);
        let chunks: Vec<Vec<u8>> = WORDS
            .iter()
            .map(|word| chunk(&record(dialect, model, word)))
            .collect();
        let kind = match dialect {
            Dialect::Ollama => "application/x-ndjson",
            Dialect::Openai => "text/event-stream",
        };
        let mut opening = head(kind, "Transfer-Encoding: chunked");
        opening.extend(chunks.iter().cycle().take(plan.burst).flatten());
        let mut closing: Vec<u8> = last(dialect, model)
            .iter()
            .flat_map(|text| chunk(text))
            .collect();
        closing.extend(b"0\r\n\r\n");
        let body = small(dialect, model);
        let mut whole = head(
            "application/json",
            &format!("Content-Length: {}", body.len()),
        );
        whole.extend(body.as_bytes());
        Self {
            plan,
            small: whole,
            opening,
            chunks,
            closing,
        }
    }
}

/// A successful head.
pub(crate) fn head(kind: &str, length: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{length}\r\n\r\n").into_bytes()
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

/// One record, as the real servers write it: about 130 bytes from Ollama, 200 in OpenAI's dialect.
fn record(dialect: Dialect, model: &str, word: &str) -> String {
    match dialect {
        Dialect::Ollama => format!(
            "{{\"model\":\"{model}\",\"created_at\":\"{CREATED}\",\"message\":{{\"role\":\"assistant\",\"content\":\"{word}\"}},\"done\":false}}\n"
        ),
        Dialect::Openai => event(
            model,
            &format!("{{\"role\":\"assistant\",\"content\":\"{word}\"}}"),
            "null",
        ),
    }
}

fn event(model: &str, delta: &str, reason: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-271\",\"object\":\"chat.completion.chunk\",\"created\":1767268800,\"model\":\"{model}\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
    )
}

fn last(dialect: Dialect, model: &str) -> Vec<String> {
    match dialect {
        Dialect::Ollama => vec![format!(
            "{{\"model\":\"{model}\",\"created_at\":\"{CREATED}\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":2561873042,\"load_duration\":1873042,\"prompt_eval_count\":18,\"prompt_eval_duration\":40000000,\"eval_count\":256,\"eval_duration\":2520000000}}\n"
        )],
        Dialect::Openai => {
            vec![
                event(
                    model,
                    "{\"role\":\"assistant\",\"content\":\"\"}",
                    "\"stop\"",
                ),
                "data: [DONE]\n\n".to_owned(),
            ]
        }
    }
}

fn small(dialect: Dialect, model: &str) -> String {
    let content = "Good morning! I am well, thank you. What can I do for you?";
    match dialect {
        Dialect::Ollama => json!({
            "model": model, "created_at": CREATED, "message": {"role": "assistant", "content": content}, "done": true,
            "done_reason": "stop", "total_duration": 181_873_042, "load_duration": 1_873_042, "prompt_eval_count": 18,
            "prompt_eval_duration": 40_000_000, "eval_count": 16, "eval_duration": 140_000_000,
        }),
        Dialect::Openai => json!({
            "id": "chatcmpl-271", "object": "chat.completion", "created": 1_767_268_800, "model": model,
            "system_fingerprint": "fp_ollama", "usage": {"prompt_tokens": 18, "completion_tokens": 16, "total_tokens": 34},
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        }),
    }
    .to_string()
}
