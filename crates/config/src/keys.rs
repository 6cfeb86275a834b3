//! The table of valid keys, read from the schema so that it cannot disagree with the structs.

use crate::Config;
use figment::value::Value;
use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

/// What a key holds, as far as text has to be turned into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Boolean,
    List,
}

/// One valid key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// `section.key`.
    pub(crate) path: String,
    pub(crate) kind: Kind,
}

impl Key {
    /// The environment variable that sets it.
    pub(crate) fn variable(&self) -> String {
        format!("JARVIS_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// The value that `text`, from a variable, means.
    pub(crate) fn parse(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            Kind::Text => Ok(Value::from(text)),
            Kind::Integer => text
                .trim()
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| format!("`{text}` is not a whole number")),
            Kind::Boolean => match text.trim() {
                "true" | "1" => Ok(Value::from(true)),
                "false" | "0" => Ok(Value::from(false)),
                _ => Err(format!("`{text}` is neither true nor false")),
            },
            Kind::List => Ok(Value::from(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )),
        }
    }
}

/// All valid keys, in the order of the structs.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Key>);

impl Keys {
    pub(crate) fn new() -> Self {
        let schema = SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<Config>();
        let mut keys = Vec::new();
        collect(schema.as_value(), "", &mut keys);
        Self(keys)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.path == path)
    }

    pub(crate) fn by_variable(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.variable() == name)
    }

    /// Whether `path` is a section.
    pub(crate) fn is_section(&self, path: &str) -> bool {
        self.0
            .iter()
            .any(|key| key.path.split_once('.').is_some_and(|(s, _)| s == path))
    }

    /// The valid key most like the unknown `path`.
    pub(crate) fn nearest(&self, path: &str) -> Option<&Key> {
        self.0.iter().min_by_key(|key| likeness(&key.path, path))
    }

    /// The section most like the unknown `name`.
    pub(crate) fn nearest_section(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .filter_map(|key| key.path.split_once('.').map(|(section, _)| section))
            .min_by_key(|section| strsim::damerau_levenshtein(section, name))
    }

    /// The variable most like the unknown `name`.
    pub(crate) fn nearest_variable(&self, name: &str) -> Option<String> {
        self.0
            .iter()
            .map(Key::variable)
            .min_by_key(|variable| strsim::damerau_levenshtein(variable, name))
    }
}

/// Edits between two paths; the right key in the wrong section is one edit away.
fn likeness(valid: &str, given: &str) -> usize {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let whole = strsim::damerau_levenshtein(valid, given);
    let key_only = strsim::damerau_levenshtein(&last(valid), &last(given)) + 1;
    whole.min(key_only)
}

fn collect(schema: &Json, path: &str, keys: &mut Vec<Key>) {
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else {
        keys.push(Key {
            path: path.to_owned(),
            kind: kind_of(schema),
        });
        return;
    };
    for (name, inner) in properties {
        let inner_path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        collect(inner, &inner_path, keys);
    }
}

fn kind_of(schema: &Json) -> Kind {
    let named = |name: &str| match schema.get("type") {
        Some(Json::String(only)) => only == name,
        Some(Json::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    if named("integer") {
        Kind::Integer
    } else if named("boolean") {
        Kind::Boolean
    } else if named("array") {
        Kind::List
    } else {
        Kind::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_from_the_schema() {
        let keys = Keys::new();
        let kind = |path: &str| keys.get(path).map(|key| key.kind);
        assert_eq!(kind("engine.parallel"), Some(Kind::Integer));
        assert_eq!(kind("engine.threads"), Some(Kind::Integer));
        assert_eq!(kind("engine.prefix_reuse"), Some(Kind::Boolean));
        assert_eq!(kind("nodes.urls"), Some(Kind::List));
        assert_eq!(kind("log.format"), Some(Kind::Text));
        assert_eq!(kind("server.listen"), Some(Kind::Text));
        assert_eq!(kind("auth.secret"), Some(Kind::Text));
    }

    #[test]
    fn variables_are_unambiguous() {
        let keys = Keys::new();
        let mut variables: Vec<_> = keys.iter().map(Key::variable).collect();
        variables.sort();
        let before = variables.len();
        variables.dedup();
        assert_eq!(variables.len(), before);
    }

    #[test]
    fn the_nearest_key_is_found_across_sections() {
        let keys = Keys::new();
        let nearest = |path: &str| keys.nearest(path).map(|key| key.path.clone());
        assert_eq!(nearest("engine.paralel"), Some("engine.parallel".into()));
        assert_eq!(nearest("server.parallel"), Some("engine.parallel".into()));
        assert_eq!(nearest("listen"), Some("server.listen".into()));
    }
}
