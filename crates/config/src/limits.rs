//! `[limits]`: bounds on what a client may send and a model may answer.

use crate::{Problem, RequestRate};
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
    /// Requests of one user, at all instances together: `20r/s`, `90r/m`, or `off`. Unset: 20r/s, and no bound where only this
    /// machine reaches the listener.
    pub user_rate: Option<RequestRate>,
    /// Requests from one address (of IPv6 one network of 64 bits), signed in or not. Many users may share one. Unset: 100r/s,
    /// and no bound where only this machine reaches the listener.
    pub address_rate: Option<RequestRate>,
    /// Requests at once, before either rate counts.
    pub request_burst: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            body_bytes: 1024 * 1024,
            answer_bytes: 1024 * 1024,
            user_rate: None,
            address_rate: None,
            request_burst: 100,
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
        if !(1..=1_000_000).contains(&self.request_burst) {
            problems.push(Problem::new(
                "limits.request_burst",
                "must be from 1 to 1000000",
            ));
        }
        if self.body_bytes < self.message_bytes.saturating_add(1024) {
            problems.push(Problem::new(
                "limits.body_bytes",
                "must exceed limits.message_bytes by at least 1024, or no message of the allowed size could arrive",
            ));
        }
    }
}
