//! `[chat]`: what conversations begin with.

use crate::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What conversations begin with.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChatSection {
    /// The model of conversations that name none. Unset: the first that can chat.
    pub default_model: Option<String>,
    /// What the model is told before every conversation. Unset: nothing.
    pub system_prompt: Option<String>,
}

impl ChatSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        if self.default_model.as_deref().is_some_and(str::is_empty) {
            problems.push(Problem::new(
                "chat.default_model",
                "is empty; leave it out to use the first model that can chat",
            ));
        }
    }
}
