//! Streams as nodes send them.

use super::Dialect;
use serde_json::json;

pub(super) const ALL: [Dialect; 4] = [
    Dialect::OllamaChat,
    Dialect::OllamaGenerate,
    Dialect::OpenAiChat,
    Dialect::OpenAiCompletions,
];

pub(super) const PIECES: [&str; 9] = [
    "Il",
    " était",
    " \"une\" fois\n",
    "<b>日本</b>",
    " 😀",
    "\t\\path\\",
    " \"content\":\"x\"",
    "",
    " fin.",
];

/// One record with text.
pub(super) fn piece(dialect: Dialect, text: &str) -> String {
    // As Go writes it: these characters as escapes.
    let text = json!(text)
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e");
    match dialect {
        Dialect::OllamaChat => format!(
            "{{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{{\"role\":\"assistant\",\"content\":{text}}},\"done\":false}}\n"
        ),
        Dialect::OllamaGenerate => format!(
            "{{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\",\"response\":{text},\"done\":false}}\n"
        ),
        Dialect::OpenAiChat => chunk(
            "chat.completion.chunk",
            &format!(
                "{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":{text}}},\"finish_reason\":null}}"
            ),
        ),
        Dialect::OpenAiCompletions => chunk(
            "text_completion",
            &format!("{{\"text\":{text},\"index\":0,\"finish_reason\":null}}"),
        ),
    }
}

fn chunk(object: &str, choice: &str) -> String {
    format!(
        "data: {{\"id\":\"c-1\",\"object\":\"{object}\",\"created\":1767225600,\"model\":\"m\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[{choice}]}}\n\n"
    )
}

/// The records that end an answer of 8 tokens to a prompt of 5.
pub(super) fn end(dialect: Dialect) -> String {
    let figures = "\"done\":true,\"done_reason\":\"stop\",\"total_duration\":9,\"prompt_eval_count\":5,\"eval_count\":8";
    match dialect {
        Dialect::OllamaChat => format!(
            "{{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:01Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},{figures}}}\n"
        ),
        Dialect::OllamaGenerate => format!(
            "{{\"model\":\"m\",\"created_at\":\"2026-01-01T00:00:01Z\",\"response\":\"\",{figures},\"context\":[1,2]}}\n"
        ),
        Dialect::OpenAiChat | Dialect::OpenAiCompletions => {
            let (object, last) = if dialect == Dialect::OpenAiChat {
                (
                    "chat.completion.chunk",
                    "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}",
                )
            } else {
                (
                    "text_completion",
                    "{\"text\":\"\",\"index\":0,\"finish_reason\":\"stop\"}",
                )
            };
            let usage = format!(
                "data: {{\"id\":\"c-1\",\"object\":\"{object}\",\"created\":1767225600,\"model\":\"m\",\"system_fingerprint\":\"fp_ollama\",\"choices\":[],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":8,\"total_tokens\":13}}}}\n\n"
            );
            chunk(object, last) + &usage + "data: [DONE]\n\n"
        }
    }
}

/// A whole answer.
pub(super) fn whole(dialect: Dialect) -> String {
    let text: String = PIECES.iter().map(|text| piece(dialect, text)).collect();
    text + &end(dialect)
}
