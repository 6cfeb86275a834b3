use std::path::{Path, PathBuf};

use super::ModelName;

/// A manifest that says nothing of use: its model cannot be listed or loaded, only removed or made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "model '{name}' is damaged: {}: {reason}; `jarvis model remove {name}` removes it", .path.display()
)]
pub struct DamagedManifest {
    /// The model's name, by the file's.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl DamagedManifest {
    pub(super) fn new(path: &Path, reason: String) -> Self {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self {
            name: ModelName::of_file(&stem).map_or_else(|| stem.into(), |name| name.to_string()),
            path: path.to_owned(),
            reason,
        }
    }
}
