//! What one record of a stream says, read in place.

use super::{
    Dialect,
    text::{Malformed, elements, members, says_something},
};

/// What matters of a record. Values stand as in the JSON, strings with their quotes; absent ones are empty.
#[derive(Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations")]
pub(super) struct Record<'a> {
    /// The new text.
    pub(super) text: &'a str,
    /// The new reasoning.
    pub(super) thinking: &'a str,
    /// It calls a tool.
    pub(super) calls: bool,
    /// It carries logarithms of probabilities.
    pub(super) logprobs: bool,
    /// It belongs to a second answer, or to several.
    pub(super) several: bool,
    /// What the node says went wrong: any value.
    pub(super) error: &'a str,
    /// The last record of the Ollama dialect.
    pub(super) done: bool,
    /// Why the answer ended.
    pub(super) reason: &'a str,
    /// `created_at` (a string) or `created` (a number).
    pub(super) created: &'a str,
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    pub(super) fingerprint: &'a str,
    /// The `usage` object.
    pub(super) usage: &'a str,
    /// The ids of the new tokens, from Jarvis's extension.
    pub(super) tokens: &'a str,
    /// Jarvis's extension.
    pub(super) extension: &'a str,
    /// It says whose turn it is, and so begins a message.
    pub(super) role: bool,
}

impl<'a> Record<'a> {
    /// Reads one record.
    ///
    /// # Errors
    /// It is not JSON, or not a record of this dialect.
    pub(super) fn read(dialect: Dialect, json: &'a str) -> Result<Self, Malformed> {
        let mut record = Self::default();
        if dialect.is_ollama() {
            record.ollama(dialect, json)?;
        } else {
            record.openai(json)?;
        }
        Ok(record)
    }

    fn ollama(&mut self, dialect: Dialect, json: &'a str) -> Result<(), Malformed> {
        let mut known = false;
        for member in members(json) {
            let (key, value) = member?;
            match key {
                "message" if dialect == Dialect::OllamaChat => self.message(value)?,
                "response" if dialect == Dialect::OllamaGenerate => self.text = string(value)?,
                "thinking" => self.thinking = string(value)?,
                "tool_calls" => self.calls |= says_something(value),
                "logprobs" => self.logprobs |= says_something(value),
                "done" => {
                    known = true;
                    self.done = value == "true";
                }
                "done_reason" => self.reason = string(value)?,
                "created_at" => self.created = string(value)?,
                "model" => self.model = string(value)?,
                "error" => {
                    known = true;
                    self.error = value;
                }
                "jarvis" => self.extension(value)?,
                _ => {}
            }
        }
        known.then_some(()).ok_or(Malformed)
    }

    fn openai(&mut self, json: &'a str) -> Result<(), Malformed> {
        let mut known = false;
        for member in members(json) {
            let (key, value) = member?;
            match key {
                "choices" => {
                    known = true;
                    self.choices(value)?;
                }
                "id" => self.id = string(value)?,
                "created" => self.created = value,
                "model" => self.model = string(value)?,
                "system_fingerprint" => self.fingerprint = string(value)?,
                "usage" if says_something(value) => self.usage = value,
                "jarvis" => self.extension(value)?,
                "error" if says_something(value) => {
                    known = true;
                    self.error = value;
                }
                _ => {}
            }
        }
        known.then_some(()).ok_or(Malformed)
    }

    fn choices(&mut self, list: &'a str) -> Result<(), Malformed> {
        for (at, choice) in elements(list).enumerate() {
            self.several |= at > 0;
            for member in members(choice?) {
                let (key, value) = member?;
                match key {
                    "index" => self.several |= value != "0",
                    "delta" => self.message(value)?,
                    "text" => self.text = string(value)?,
                    "finish_reason" => self.reason = string(value)?,
                    "logprobs" => self.logprobs |= says_something(value),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A `message` or a `delta`.
    fn message(&mut self, json: &'a str) -> Result<(), Malformed> {
        for member in members(json) {
            let (key, value) = member?;
            match key {
                "content" => self.text = string(value)?,
                "role" => self.role = true,
                "thinking" | "reasoning" | "reasoning_content" => {
                    let thinking = string(value)?;
                    if says_something(thinking) {
                        self.thinking = thinking;
                    }
                }
                "tool_calls" | "function_call" => self.calls |= says_something(value),
                _ => {}
            }
        }
        Ok(())
    }

    fn extension(&mut self, json: &'a str) -> Result<(), Malformed> {
        self.extension = json;
        if json == "null" {
            return Ok(());
        }
        for member in members(json) {
            if let ("tokens", list) = member? {
                self.tokens = list;
            }
        }
        Ok(())
    }
}

/// A string or nothing.
fn string(value: &str) -> Result<&str, Malformed> {
    match value.as_bytes().first() {
        Some(b'"') => Ok(value),
        _ if value == "null" => Ok(""),
        _ => Err(Malformed),
    }
}
