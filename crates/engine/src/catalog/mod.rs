//! The models on disk: `blobs/sha256-<hex>` and `manifests/<name>.json`.
//!
//! Files come into being under another name (`.partial`) and are renamed when they are whole, so a reader sees
//! all of a model or nothing of it. The directory is the truth; nothing is cached, so several processes may
//! share it.

mod damaged;
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

pub use damaged::DamagedManifest;
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
    /// Damaged manifests that the log has told of.
    told: Mutex<Vec<DamagedManifest>>,
}

/// What the store holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Every model, by name.
    pub models: Vec<Manifest>,
    /// What should be models too, by name.
    pub damaged: Vec<DamagedManifest>,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq)]
pub enum Removed {
    /// The model of this name, with the weights that no other has.
    Model(String),
    /// A damaged manifest alone: nobody can tell which weights were its own.
    Damaged(DamagedManifest),
}

impl Removed {
    /// The model's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Model(name) => name,
            Self::Damaged(damaged) => &damaged.name,
        }
    }
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
        let catalog = Self::at(root, clock);
        catalog.sweep();
        Ok(catalog)
    }

    /// The store as it is, for looking at: nothing is made and nothing swept.
    pub fn at(root: impl Into<PathBuf>, clock: Clock) -> Self {
        Self {
            root: root.into(),
            clock,
            change: Mutex::new(()),
            told: Mutex::default(),
        }
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

    /// Every model, by name. Damaged manifests are left out; the log tells of each once.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<Manifest>, EngineError> {
        let Survey { models, damaged } = self.survey()?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for new in damaged.iter().filter(|each| !told.contains(each)) {
            tracing::warn!("{new}");
        }
        *told = damaged;
        Ok(models)
    }

    /// Every model and every damaged manifest.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn survey(&self) -> Result<Survey, EngineError> {
        let path = self.root.join("manifests");
        let reading = || EngineError::io(format!("reading {}", path.display()));
        let (mut models, mut damaged) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&path).map_err(reading())? {
            let path = entry.map_err(reading())?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_manifest(&path) {
                Ok(Some(manifest)) => models.push(manifest),
                Ok(None) => {}
                Err(error) => damaged.push(error),
            }
        }
        models.sort_by(|a: &Manifest, b| a.name.cmp(&b.name));
        damaged.sort_by(|a: &DamagedManifest, b| a.name.cmp(&b.name));
        Ok(Survey { models, damaged })
    }

    /// One model.
    ///
    /// # Errors
    /// [`EngineError::ModelNotFound`] names those that exist; [`EngineError::DamagedManifest`].
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

    /// Removes a model, and its weights if no other name has them; or a damaged manifest, which could have any.
    ///
    /// # Errors
    /// No such model, or the store cannot be written.
    pub fn delete(&self, name: &str) -> Result<Removed, EngineError> {
        let _one = self.lock();
        let manifest = match self.get(name) {
            Ok(manifest) => manifest,
            Err(error) => {
                // Of a file that no model could have, the name is the file's.
                let mut damaged = self.survey()?.damaged.into_iter();
                let damaged = match error {
                    EngineError::DamagedManifest(damaged) => damaged,
                    other => damaged.find(|each| each.name == name).ok_or(other)?,
                };
                remove_file(&damaged.path)?;
                return Ok(Removed::Damaged(damaged));
            }
        };
        remove_file(&self.manifest_path(&ModelName::parse(name)?))?;
        let left = self.survey()?;
        for digest in std::iter::once(&manifest.digest).chain(&manifest.tokenizer) {
            let used = left
                .models
                .iter()
                .any(|other| other.digest == *digest || other.tokenizer.as_ref() == Some(digest));
            let path = self.blob_path(digest);
            // They may be what is missing.
            if !used && left.damaged.is_empty() && path.exists() {
                remove_file(&path)?;
            }
        }
        Ok(Removed::Model(manifest.name))
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

fn remove_file(path: &Path) -> Result<(), EngineError> {
    fs::remove_file(path).map_err(EngineError::io(format!("deleting {}", path.display())))
}

fn read_manifest(path: &Path) -> Result<Option<Manifest>, DamagedManifest> {
    let damaged = |reason: String| DamagedManifest::new(path, reason);
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(error.to_string())),
    };
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    manifest.check(path).map_err(damaged)?;
    Ok(Some(manifest))
}
