//! `[log]`: what is logged, and how.

use crate::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is logged, and how. The log goes to standard error.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or directives per module
    /// (`info,jarvis_api=debug`).
    pub filter: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: LogFormat::Text,
        }
    }
}

impl LogSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        if self.filter.trim().is_empty() {
            problems.push(Problem::new(
                "log.filter",
                "is empty; write a level such as info",
            ));
        }
    }
}
