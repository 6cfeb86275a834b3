//! A request of the OpenAI dialect in the form of the Ollama dialect, as the nodes themselves translate it; and a conversation
//! with the beginning of its answer.

use super::{
    Origin, Way,
    edit::{Object, appended, member},
    text::{Malformed, elements, text_of},
};

/// The sampling settings; what is absent takes OpenAI's defaults.
pub(super) fn options(origin: &Origin, way: Way, left: Option<u64>) -> String {
    let mut options = Object::new();
    for (name, default) in [("temperature", "1.0"), ("top_p", "1.0")] {
        options.raw(name, origin.said(name).unwrap_or(default));
    }
    for name in ["seed", "frequency_penalty", "presence_penalty"] {
        options.raw_if(name, origin.said(name));
    }
    if let Some(stop) = origin.said("stop") {
        if stop.starts_with('[') {
            options.raw("stop", stop);
        } else {
            options.raw("stop", &format!("[{stop}]"));
        }
    }
    if way == Way::Engine {
        // The engine's own translation switches it off; Ollama's leaves the model's.
        options.raw("repeat_penalty", "1.0");
    }
    if let Some(left) = left {
        options.set("num_predict", &left);
    }
    options.end()
}

/// The question for Jarvis's engine, without `options`.
pub(super) fn body(origin: &Origin) -> Result<Object, Malformed> {
    let mut body = Object::new();
    body.raw_if("model", origin.said("model"));
    body.raw("stream", "true");
    if let Some(list) = origin.said("messages") {
        let messages: Vec<String> = elements(list)
            .map(|message| translated(message?))
            .collect::<Result<_, _>>()?;
        body.raw("messages", &format!("[{}]", messages.join(",")));
        body.raw_if("tools", origin.said("tools"));
    } else {
        let prompt = origin.said("prompt").ok_or(Malformed)?;
        body.raw("raw", "true");
        body.raw("prompt", only(prompt)?);
    }
    Ok(body)
}

/// One prompt, alone or as the only one of a list.
fn only(prompt: &str) -> Result<&str, Malformed> {
    if !prompt.starts_with('[') {
        return Ok(prompt);
    }
    let mut prompts = elements(prompt);
    match (prompts.next(), prompts.next()) {
        (Some(prompt), None) => prompt,
        _ => Err(Malformed),
    }
}

fn translated(message: &str) -> Result<String, Malformed> {
    let mut object = Object::copy(message, &["role", "content"])?;
    let role = member(message, "role").ok_or(Malformed)?;
    object.raw(
        "role",
        if role == "\"developer\"" {
            "\"system\""
        } else {
            role
        },
    );
    match member(message, "content") {
        Some(parts) if parts.starts_with('[') => {
            let mut text = String::new();
            for part in elements(parts) {
                text += &member(part?, "text").map_or(Ok(String::new()), text_of)?;
            }
            object.set("content", &text);
        }
        content => object.raw_if("content", content),
    }
    Ok(object.end())
}

/// The conversation with `text` added to its last message, if that is the assistant's, or else as a new one.
pub(super) fn with_answer(messages: &str, text: &str) -> Option<String> {
    let all: Vec<&str> = elements(messages).collect::<Result<_, _>>().ok()?;
    let last = all.last()?;
    if member(last, "role") != Some("\"assistant\"") {
        let mut message = Object::new();
        message.raw("role", "\"assistant\"");
        message.set("content", text);
        return Some(appended(messages, &message.end()));
    }
    let begun = match member(last, "content") {
        None => String::new(),
        Some(content) => text_of(content).ok()?,
    };
    let mut message = Object::copy(last, &["content"]).ok()?;
    message.set("content", &(begun + text));
    let mut joined = String::from("[]");
    for before in &all[..all.len() - 1] {
        joined = appended(&joined, before);
    }
    Some(appended(&joined, &message.end()))
}
