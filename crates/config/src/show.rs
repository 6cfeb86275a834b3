//! The configuration in force, as a `jarvis.toml` that says where each value came from.

use crate::Loaded;
use serde_json::Value as Json;
use std::fmt::Write as _;

impl Loaded {
    /// Valid TOML: values that are set, with their source; keys that are unset, as comments.
    /// Secrets show as `<redacted>`.
    pub fn show(&self) -> String {
        let mut out = String::new();
        let file = self
            .file
            .as_ref()
            .map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        let _ = writeln!(out, "# file read: {file}");
        let _ = writeln!(out, "# data directory: {}", self.data_dir.display());
        let whole = serde_json::to_value(&self.config).unwrap_or_default();
        for (section, keys) in whole.as_object().into_iter().flatten() {
            let _ = writeln!(out, "\n[{section}]");
            for (key, value) in keys.as_object().into_iter().flatten() {
                let origin = self
                    .origins
                    .get(&format!("{section}.{key}"))
                    .map_or("default", String::as_str);
                let _ = match value {
                    Json::Null => writeln!(out, "# {key} is not set"),
                    value => writeln!(out, "{key} = {}  # {origin}", toml(value)),
                };
            }
        }
        out
    }
}

/// A value as TOML has it: as JSON does, but for tables.
fn toml(value: &Json) -> String {
    match value {
        Json::Array(items) => {
            let items: Vec<_> = items.iter().map(toml).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(members) => {
            let member = |(key, value)| format!("{key} = {}", toml(value));
            let members: Vec<_> = members.iter().map(member).collect();
            format!("{{ {} }}", members.join(", "))
        }
        plain => plain.to_string(),
    }
}
