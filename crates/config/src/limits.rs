//! `[limits]`: bounds on what a client may send and a model may answer.

use crate::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds on what a client may send and a model may answer.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Bytes of one message.
    pub message_bytes: usize,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Bytes of one answer; a model that does not find its end is cut off there.
    pub answer_bytes: usize,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            body_bytes: 1024 * 1024,
            answer_bytes: 1024 * 1024,
        }
    }
}

impl LimitsSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        if self.message_bytes == 0 {
            problems.push(Problem::new("limits.message_bytes", "must be at least 1"));
        }
        if self.answer_bytes == 0 {
            problems.push(Problem::new("limits.answer_bytes", "must be at least 1"));
        }
        if self.body_bytes < self.message_bytes.saturating_add(1024) {
            problems.push(Problem::new(
                "limits.body_bytes",
                "must exceed limits.message_bytes by at least 1024, or no message of the allowed size could arrive",
            ));
        }
    }
}
