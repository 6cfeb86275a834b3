//! Modelfiles, as far as they describe a GGUF: `FROM`, `PARAMETER`, `SYSTEM`, `TEMPLATE`, `MESSAGE`, `LICENSE`.

use jarvis_protocol::ollama::{Message, Role};
use serde_json::{Map, Value};

use crate::error::EngineError;

/// What a Modelfile says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Modelfile {
    pub from: Option<String>,
    pub template: Option<String>,
    pub system: Option<String>,
    pub license: Vec<String>,
    pub messages: Vec<Message>,
    pub parameters: Map<String, Value>,
}

/// Reads a Modelfile.
///
/// # Errors
/// An instruction that is not known or lacks its argument, with its line.
pub(super) fn parse(text: &str) -> Result<Modelfile, EngineError> {
    let mut file = Modelfile::default();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong =
            |what: &str| EngineError::BadRequest(format!("modelfile line {}: {what}", at + 1));
        let (word, rest) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| wrong("an argument is missing"))?;
        let unclosed = || wrong("closing \"\"\" is missing");
        let word = word.to_ascii_uppercase();
        if word == "MESSAGE" {
            let (role, rest) = said_by(rest).ok_or_else(|| {
                wrong("expected \"system\", \"user\" or \"assistant\", and a text")
            })?;
            let text = argument(rest, &mut lines).ok_or_else(unclosed)?;
            file.messages.push(Message::new(role, text));
            continue;
        }
        let rest = argument(rest, &mut lines).ok_or_else(unclosed)?;
        match word.as_str() {
            "FROM" => file.from = Some(rest),
            "TEMPLATE" => file.template = Some(rest),
            "SYSTEM" => file.system = Some(rest),
            "LICENSE" => file.license.push(rest),
            "PARAMETER" => {
                parameter(&mut file.parameters, &rest)
                    .ok_or_else(|| wrong("a value is missing"))?;
            }
            other => return Err(wrong(&format!("{other} is not supported"))),
        }
    }
    Ok(file)
}

/// An instruction's argument, with the lines of it that follow; `None` if its end is missing.
fn argument<'t>(rest: &str, lines: &mut impl Iterator<Item = (usize, &'t str)>) -> Option<String> {
    let rest = rest.trim();
    let Some(opened) = rest.strip_prefix("\"\"\"") else {
        let quoted = rest
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        return Some(quoted.unwrap_or(rest).to_owned());
    };
    let mut block = opened.to_owned();
    while !block.ends_with("\"\"\"") {
        let (_, more) = lines.next()?;
        block.push('\n');
        block.push_str(more);
    }
    block.truncate(block.len() - 3);
    Some(block)
}

/// A message's role, and the rest of its line.
fn said_by(text: &str) -> Option<(Role, &str)> {
    let (role, rest) = text.trim().split_once(char::is_whitespace)?;
    let role = match role {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return None,
    };
    Some((role, rest))
}

fn parameter(parameters: &mut Map<String, Value>, text: &str) -> Option<()> {
    let (name, value) = text.split_once(char::is_whitespace)?;
    let value = value.trim().trim_matches('"');
    if name == "stop" {
        let stops = parameters
            .entry("stop")
            .or_insert_with(|| Value::Array(Vec::new()));
        stops.as_array_mut()?.push(value.into());
    } else {
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        parameters.insert(name.to_owned(), value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modelfile_is_read() {
        let file = parse("# x\nFROM /m.gguf\nPARAMETER temperature 0.5\nparameter stop \"a\"\nPARAMETER stop b\nSYSTEM \"\"\"You\nare.\"\"\"\nLICENSE \"MIT\"").unwrap();
        assert_eq!(file.from.as_deref(), Some("/m.gguf"));
        assert_eq!(file.system.as_deref(), Some("You\nare."));
        assert_eq!(file.license, ["MIT"]);
        assert_eq!(
            Value::Object(file.parameters),
            serde_json::json!({"temperature": 0.5, "stop": ["a", "b"]})
        );
    }

    #[test]
    fn messages_are_read_as_they_are_shown() {
        let file = parse("FROM a\nMESSAGE user Hi there\nMESSAGE assistant \"\"\"One\ntwo\"\"\"\nMESSAGE user \"x\"").unwrap();
        let expected = [
            Message::new(Role::User, "Hi there"),
            Message::new(Role::Assistant, "One\ntwo"),
            Message::new(Role::User, "x"),
        ];
        assert_eq!(file.messages, expected);
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line) in [
            ("FROM a\nADAPTER x", 2),
            ("FROM", 1),
            ("FROM a\n\nSYSTEM \"\"\"x", 3),
            ("FROM a\nMESSAGE tool x", 2),
            ("FROM a\nMESSAGE user", 2),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}")), "{error}");
        }
    }
}
