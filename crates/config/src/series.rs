//! `[series]`: what is measured over time.

use crate::{PostgresUrl, Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is measured over time: what answers cost and how long they took, how the nodes looked.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeriesSection {
    /// A PostgreSQL database for it alone, best with the extension TimescaleDB. Unset: the database of `store`.
    pub url: Option<PostgresUrl>,
    /// The password of the user in `url`.
    pub password: Option<Secret>,
    /// A file that holds `password`.
    pub password_file: Option<PathBuf>,
    /// Days that the figures of an answer are kept.
    pub keep_answers_days: u64,
    /// Days that the figures of a node are kept.
    pub keep_nodes_days: u64,
}

impl Default for SeriesSection {
    fn default() -> Self {
        Self {
            url: None,
            password: None,
            password_file: None,
            keep_answers_days: 400,
            keep_nodes_days: 30,
        }
    }
}

impl SeriesSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        let days = [
            ("series.keep_answers_days", self.keep_answers_days),
            ("series.keep_nodes_days", self.keep_nodes_days),
        ];
        for (key, value) in days {
            if !(1..=36_500).contains(&value) {
                problems.push(Problem::new(key, "must be from 1 to 36500"));
            }
        }
    }
}
