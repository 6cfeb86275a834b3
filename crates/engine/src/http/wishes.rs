//! What a request may ask for and no model here can do. It is refused: who gets an answer takes it for the one asked for.

use jarvis_protocol::{ollama, openai};
use serde_json::{Map, Value};

use crate::error::EngineError;

/// A field that asks for such a thing.
struct Wish {
    field: &'static str,
    /// What it asks for, in the words of the refusal.
    what: &'static str,
    /// Whether a value asks for nothing.
    idle: fn(&Value) -> bool,
}

const fn wish(field: &'static str, what: &'static str, idle: fn(&Value) -> bool) -> Wish {
    Wish { field, what, idle }
}

/// Of `/api/chat` and `/api/generate`.
const OLLAMA: [Wish; 5] = [
    wish("logprobs", "logprobs", is_nothing),
    wish("top_logprobs", "logprobs", is_nothing),
    wish("truncate", "refusing long conversations", is_true),
    wish("shift", "ending at the context window", is_true),
    wish("_debug_render_only", "rendering only", is_nothing),
];

/// Of `/api/create`.
const CREATE: [Wish; 5] = [
    wish("adapters", "adapters", is_nothing),
    wish("quantize", "quantization", is_nothing),
    wish("quantization", "quantization", is_nothing),
    wish("renderer", "renderers", is_nothing),
    wish("parser", "parsers", is_nothing),
];

/// Of `/v1/chat/completions`.
const OPENAI_CHAT: [Wish; 12] = [
    wish("functions", "tools", is_nothing),
    wish("tool_choice", "tools", is_free_choice),
    wish("function_call", "tools", is_free_choice),
    wish("logprobs", "logprobs", is_nothing),
    wish("top_logprobs", "logprobs", is_nothing),
    wish("logit_bias", "logit bias", is_nothing),
    wish("reasoning_effort", "thinking", is_none),
    wish("modalities", "other answers than text", is_text_alone),
    wish("audio", "audio", is_nothing),
    wish("web_search_options", "web search", Value::is_null),
    wish("store", "stored answers", is_nothing),
    wish("verbosity", "verbosity", is_medium),
];

/// Of `/v1/completions`.
const OPENAI_COMPLETION: [Wish; 4] = [
    wish("suffix", "insert", is_nothing),
    wish("best_of", "several answers", is_one),
    // 0 asks for that of the token that was chosen.
    wish("logprobs", "logprobs", is_nothing_but_zero),
    wish("logit_bias", "logit bias", is_nothing),
];

/// Refuses what `/api/chat` asks for in vain.
pub(super) fn of_chat(request: &ollama::ChatRequest) -> Result<(), EngineError> {
    of_tools(&request.model, &request.tools)?;
    of_thinking(&request.model, request.think.as_ref())?;
    refuse(&request.model, &request.other, &OLLAMA)
}

/// Refuses what `/api/generate` asks for in vain.
pub(super) fn of_generate(request: &ollama::GenerateRequest) -> Result<(), EngineError> {
    of_thinking(&request.model, request.think.as_ref())?;
    if !request.suffix.is_empty() {
        return Err(not_supported(&request.model, "insert", "suffix"));
    }
    refuse(&request.model, &request.other, &OLLAMA)
}

/// Refuses what `/api/create` asks for in vain.
pub(super) fn of_create(request: &ollama::CreateRequest) -> Result<(), EngineError> {
    refuse(&request.model, &request.other, &CREATE)
}

/// Refuses what `/v1/chat/completions` asks for in vain.
pub(super) fn of_openai_chat(request: &openai::ChatRequest) -> Result<(), EngineError> {
    of_tools(&request.model, &request.tools)?;
    of_number(&request.model, request.n)?;
    refuse(&request.model, &request.other, &OPENAI_CHAT)
}

/// Refuses what `/v1/completions` asks for in vain.
pub(super) fn of_openai_completion(request: &openai::CompletionRequest) -> Result<(), EngineError> {
    of_number(&request.model, request.n)?;
    refuse(&request.model, &request.other, &OPENAI_COMPLETION)
}

fn refuse(model: &str, fields: &Map<String, Value>, wishes: &[Wish]) -> Result<(), EngineError> {
    let asks = |wish: &&Wish| {
        fields
            .get(wish.field)
            .is_some_and(|value| !(wish.idle)(value))
    };
    match wishes.iter().find(asks) {
        Some(wish) => Err(not_supported(model, wish.what, wish.field)),
        None => Ok(()),
    }
}

fn not_supported(model: &str, what: &'static str, field: &'static str) -> EngineError {
    EngineError::FieldNotSupported {
        model: model.to_owned(),
        what,
        field,
    }
}

fn of_tools(model: &str, tools: &[Value]) -> Result<(), EngineError> {
    if tools.is_empty() {
        return Ok(());
    }
    Err(not_supported(model, "tools", "tools"))
}

/// Ollama's own values: `true`, or how hard.
fn of_thinking(model: &str, think: Option<&Value>) -> Result<(), EngineError> {
    match think {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(Value::Bool(true)) => Err(not_supported(model, "thinking", "think")),
        Some(Value::String(level)) if level.is_empty() => Ok(()),
        Some(Value::String(level))
            if matches!(level.as_str(), "high" | "medium" | "low" | "max") =>
        {
            Err(not_supported(model, "thinking", "think"))
        }
        Some(other) => Err(EngineError::BadRequest(format!(
            "invalid think value: {other} (must be \"high\", \"medium\", \"low\", \"max\", true, or false)"
        ))),
    }
}

/// Only one answer at a time is made.
fn of_number(model: &str, n: Option<u32>) -> Result<(), EngineError> {
    match n {
        None | Some(1) => Ok(()),
        Some(0) => Err(EngineError::BadRequest("n: expected at least 1".to_owned())),
        Some(_) => Err(not_supported(model, "several answers", "n")),
    }
}

fn is_nothing_but_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn is_nothing(value: &Value) -> bool {
    is_nothing_but_zero(value) || value.as_f64() == Some(0.0)
}

fn is_true(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(true))
}

fn is_one(value: &Value) -> bool {
    value.is_null() || value.as_u64() == Some(1)
}

fn is_none(value: &Value) -> bool {
    is_nothing(value) || value == "none"
}

/// The model need not call any.
fn is_free_choice(value: &Value) -> bool {
    is_none(value) || value == "auto"
}

fn is_medium(value: &Value) -> bool {
    is_nothing(value) || value == "medium"
}

fn is_text_alone(value: &Value) -> bool {
    let text = |values: &Vec<Value>| values.iter().all(|value| value == "text");
    value.is_null() || value.as_array().is_some_and(text)
}
