//! Changing members of a JSON object and leaving everything else as it stands, byte for byte: order decides how a template
//! renders tools and schemas.

use super::text::{Malformed, members};
use serde::Serialize;

/// A JSON object being written.
#[derive(Debug)]
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self(String::from("{"))
    }

    /// The members of `json` but those named in `without` (whatever their case, as Ollama reads them).
    pub(super) fn copy(json: &str, without: &[&str]) -> Result<Self, Malformed> {
        let mut object = Self::new();
        for member in members(json) {
            let (key, value) = member?;
            if !without.iter().any(|name| name.eq_ignore_ascii_case(key)) {
                object.raw(key, value);
            }
        }
        Ok(object)
    }

    /// Adds a member; `key` as it stands between its quotes, `value` as JSON.
    pub(super) fn raw(&mut self, key: &str, value: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
        self.0.push_str(value);
    }

    /// The same for a value that is there.
    pub(super) fn raw_if(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.raw(key, value);
        }
    }

    /// Adds a member.
    pub(super) fn set(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        self.raw(key, &json(value));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 1
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A value as JSON.
pub(super) fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// The member `name` of an object as it stands, the last one if there are several; `None` if absent or `null`.
pub(super) fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    members(json)
        .filter_map(Result::ok)
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .last()
        .map(|(_, value)| value)
        .filter(|value| *value != "null")
}

/// A list with one more element.
pub(super) fn appended(list: &str, element: &str) -> String {
    let open = list.trim_end().strip_suffix(']').unwrap_or("[").trim_end();
    let comma = if open.ends_with('[') { "" } else { "," };
    format!("{open}{comma}{element}]")
}
