//! The models on disk: `blobs/sha256-<hex>` and `manifests/<name>.json`.
//!
//! Files come into being under another name (`.partial`) and are renamed when they are whole, so a reader sees
//! all of a model or nothing of it. The directory is the truth; nothing is cached, so several processes may
//! share it.

mod import;
mod manifest;
mod name;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use jarvis_domain::Clock;

pub use import::Import;
pub use manifest::{Kind, Manifest};
pub use name::ModelName;

use crate::error::EngineError;

/// The model store.
#[derive(Debug)]
pub struct Catalog {
    root: PathBuf,
    clock: Clock,
    /// One change at a time within this process.
    change: Mutex<()>,
}

impl Catalog {
    /// Opens the store, making its directories where they are missing.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn open(root: impl Into<PathBuf>, clock: Clock) -> Result<Self, EngineError> {
        let root = root.into();
        for part in ["blobs", "manifests"] {
            let path = root.join(part);
            fs::create_dir_all(&path)
                .map_err(EngineError::io(format!("creating {}", path.display())))?;
        }
        let catalog = Self {
            root,
            clock,
            change: Mutex::new(()),
        };
        catalog.sweep();
        Ok(catalog)
    }

    /// Removes what a process left half written when it died. What another writes at present is younger.
    fn sweep(&self) {
        const ABANDONED: Duration = Duration::from_hours(1);
        let now = Duration::from_micros(u64::try_from(self.clock.now().micros()).unwrap_or(0));
        let entries = ["blobs", "manifests"]
            .into_iter()
            .filter_map(|part| fs::read_dir(self.root.join(part)).ok());
        for entry in entries.flatten().flatten() {
            let path = entry.path();
            let age = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .and_then(|written| now.checked_sub(written));
            if path.extension().is_some_and(|end| end == "partial")
                && age.is_some_and(|age| age > ABANDONED)
            {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Removes the half written manifests of a model that nobody else writes at present.
    pub(crate) fn sweep_manifest(&self, name: &ModelName) {
        let _one = self.lock();
        let path = self.manifest_path(name);
        let stem = path.file_stem().unwrap_or_default().to_owned();
        let entries = fs::read_dir(self.root.join("manifests"));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            // `<stem>.<process>.partial`
            let owner = path.file_stem().map(Path::new).and_then(Path::file_stem);
            if path.extension().is_some_and(|end| end == "partial") && owner == Some(&stem) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob lies, whether it exists or not. `digest` is hex.
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{digest}"))
    }

    fn manifest_path(&self, name: &ModelName) -> PathBuf {
        self.root.join("manifests").join(name.file_name())
    }

    /// Every model, by name. A manifest that cannot be read is left out and logged.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Manifest>, EngineError> {
        self.read_all().map(|(models, _)| models)
    }

    /// Every model that can be read, and whether these are all.
    fn read_all(&self) -> Result<(Vec<Manifest>, bool), EngineError> {
        let mut whole = true;
        let path = self.root.join("manifests");
        let reading = || EngineError::io(format!("reading {}", path.display()));
        let mut models = Vec::new();
        for entry in fs::read_dir(&path).map_err(reading())? {
            let path = entry.map_err(reading())?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_manifest(&path) {
                Ok(Some(manifest)) => models.push(manifest),
                Ok(None) => {}
                Err(error) => {
                    whole = false;
                    tracing::warn!(%error, "model left out");
                }
            }
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((models, whole))
    }

    /// One model.
    ///
    /// # Errors
    /// [`EngineError::ModelNotFound`] names those that exist.
    pub fn get(&self, name: &str) -> Result<Manifest, EngineError> {
        let parsed = ModelName::parse(name)?;
        match read_manifest(&self.manifest_path(&parsed))? {
            Some(manifest) => Ok(manifest),
            None => Err(EngineError::ModelNotFound {
                name: name.to_owned(),
                known: self.list()?.into_iter().map(|model| model.name).collect(),
            }),
        }
    }

    /// Gives a model a second name. The weights are not copied.
    ///
    /// # Errors
    /// No such model, or the store cannot be written.
    pub fn copy(&self, source: &str, destination: &str) -> Result<(), EngineError> {
        let name = ModelName::parse(destination)?;
        self.derive(source, &name, |_| {})
    }

    /// Makes a model of the same weights under another name. Meanwhile nobody can delete them.
    ///
    /// # Errors
    /// See [`Self::copy`].
    pub(crate) fn derive(
        &self,
        source: &str,
        name: &ModelName,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(), EngineError> {
        let _one = self.lock();
        let mut manifest = self.get(source)?;
        change(&mut manifest);
        name.as_str().clone_into(&mut manifest.name);
        self.write(&manifest)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a model, and its weights if no other name has them. A manifest that cannot be read could have any.
    ///
    /// # Errors
    /// No such model, or the store cannot be written.
    pub fn delete(&self, name: &str) -> Result<Manifest, EngineError> {
        let _one = self.lock();
        let manifest = self.get(name)?;
        let path = self.manifest_path(&ModelName::parse(name)?);
        fs::remove_file(&path).map_err(EngineError::io(format!("deleting {}", path.display())))?;
        let (left, whole) = self.read_all()?;
        for digest in std::iter::once(&manifest.digest).chain(&manifest.tokenizer) {
            let used = !whole
                || left.iter().any(|other| {
                    other.digest == *digest || other.tokenizer.as_ref() == Some(digest)
                });
            if !used {
                let path = self.blob_path(digest);
                fs::remove_file(&path)
                    .map_err(EngineError::io(format!("deleting {}", path.display())))?;
            }
        }
        Ok(manifest)
    }

    /// Writes a manifest; its blobs must be there already.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn put(&self, manifest: &Manifest) -> Result<(), EngineError> {
        let _one = self.lock();
        self.write(manifest)
    }

    fn write(&self, manifest: &Manifest) -> Result<(), EngineError> {
        let path = self.manifest_path(&ModelName::parse(&manifest.name)?);
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|error| EngineError::Internal(error.to_string()))?;
        import::write_atomically(&path, &text)
    }

    pub(crate) fn now(&self) -> String {
        self.clock.now().to_string()
    }
}

fn read_manifest(path: &Path) -> Result<Option<Manifest>, EngineError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            EngineError::Internal(format!("manifest {}: {error}", path.display()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::io(format!("reading {}", path.display()))(
            error,
        )),
    }
}
