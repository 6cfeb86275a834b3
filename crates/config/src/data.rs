//! `[data]`: where everything that must outlive the process is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where everything that must outlive the process is kept.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataSection {
    /// The data directory; models lie in its `models` folder. Unset: `$XDG_DATA_HOME/jarvis`, or
    /// `~/.local/share/jarvis`.
    pub dir: Option<PathBuf>,
}
