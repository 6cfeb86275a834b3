//! `[store]`: the database and the answer log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The database and the answer log.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// What a power cut may take. A killed process loses nothing either way.
    pub synchronous: Synchronous,
}

/// When written data is forced to the disk itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// At checkpoints: a power cut may take the last moments, never the consistency.
    #[default]
    Normal,
    /// At every commit and before a character is shown: slower, a power cut takes nothing
    /// acknowledged.
    Full,
}
