use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use jarvis_protocol::ollama::Message;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Catalog, Kind, Manifest, ModelName};
use crate::{error::EngineError, gguf::Gguf};

/// What a new model is made of besides its weights.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Replaces the template inside the file.
    pub template: Option<String>,
    /// System message.
    pub system: Option<String>,
    /// Default options.
    pub parameters: Map<String, Value>,
    /// The licence's name or text.
    pub license: String,
    /// Turns that every conversation starts with.
    pub messages: Vec<Message>,
    /// A small model that only shows that everything works.
    pub demonstration: bool,
}

impl Catalog {
    /// Takes a local GGUF file into the store under a name, after checking that it is whole. The file is copied.
    ///
    /// # Errors
    /// [`EngineError::BadModelFile`] for a file that is missing, truncated or no GGUF; I/O errors.
    pub fn import_gguf(
        &self,
        name: &str,
        file: &Path,
        import: Import,
    ) -> Result<Manifest, EngineError> {
        let name = ModelName::parse(name)?;
        if fs::metadata(file).is_ok_and(|found| !found.is_file()) {
            // A pipe or a device would be read for ever.
            return Err(EngineError::BadRequest(format!(
                "{} is no regular file",
                file.display()
            )));
        }
        check(file)?;
        let digest = self.add_blob_file(file, None)?;
        self.create_from_blob(&name, &digest, import)
    }

    /// Makes a model of a GGUF blob that is in the store.
    ///
    /// # Errors
    /// No such blob, or it is no whole GGUF file.
    pub fn create_from_blob(
        &self,
        name: &ModelName,
        digest: &str,
        import: Import,
    ) -> Result<Manifest, EngineError> {
        let _one = self.lock();
        let path = self.blob_path(digest);
        if !path.exists() {
            return Err(EngineError::BlobNotFound(format!("sha256:{digest}")));
        }
        let gguf = check(&path)?;
        let size = fs::metadata(&path)
            .map_err(EngineError::io(format!("reading {}", path.display())))?
            .len();
        let embeds = gguf
            .metadata
            .keys()
            .any(|key| key.ends_with(".pooling_type"));
        let manifest = Manifest {
            name: name.as_str().to_owned(),
            kind: Kind::Gguf,
            digest: digest.to_owned(),
            size,
            tokenizer: None,
            modified_at: self.now(),
            details: gguf.details(),
            capabilities: vec![if embeds { "embedding" } else { "completion" }.to_owned()],
            template: import.template,
            system: import.system,
            parameters: import.parameters,
            messages: import.messages,
            license: if import.license.is_empty() {
                gguf.text("general.license").unwrap_or_default().to_owned()
            } else {
                import.license
            },
            demonstration: import.demonstration,
        };
        self.write(&manifest)?;
        Ok(manifest)
    }

    /// Copies a file into the store; returns its hex sha256. With `expected`, anything else is refused.
    ///
    /// # Errors
    /// [`EngineError::DigestMismatch`]; I/O errors. Nothing is left behind then.
    pub fn add_blob_file(
        &self,
        file: &Path,
        expected: Option<&str>,
    ) -> Result<String, EngineError> {
        let source =
            File::open(file).map_err(EngineError::io(format!("opening {}", file.display())))?;
        self.add_blob(source, expected)
    }

    /// The same for any source of bytes.
    ///
    /// # Errors
    /// See [`Self::add_blob_file`].
    pub fn add_blob(
        &self,
        mut source: impl Read,
        expected: Option<&str>,
    ) -> Result<String, EngineError> {
        let mut upload = self.upload()?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return upload.finish(expected),
                Ok(read) => upload.write(&buffer[..read])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(EngineError::io("reading a model file")(error)),
            }
        }
    }

    /// Moves a file of the same file system into the store, if it is what it should be; returns its hex sha256. Unlike a copy, it
    /// leaves nothing of its own when the process dies meanwhile.
    ///
    /// # Errors
    /// [`EngineError::DigestMismatch`]; I/O errors.
    pub fn adopt_blob(&self, file: &Path, expected: &str) -> Result<String, EngineError> {
        let reading = || EngineError::io(format!("reading {}", file.display()));
        let mut source = File::open(file).map_err(reading())?;
        let actual = digest(&mut source).map_err(reading())?;
        if actual != expected {
            return Err(EngineError::DigestMismatch {
                expected: expected.to_owned(),
                actual,
            });
        }
        let path = self.blob_path(&actual);
        source
            .sync_all()
            .and_then(|()| fs::rename(file, &path))
            .map_err(EngineError::io(format!("writing {}", path.display())))?;
        Ok(actual)
    }

    /// A blob that is written piece by piece.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn upload(&self) -> Result<Upload<'_>, EngineError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let path = self.root.join("blobs").join(format!(
            "{}-{}.partial",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        ));
        let file =
            File::create(&path).map_err(EngineError::io(format!("creating {}", path.display())))?;
        Ok(Upload {
            catalog: self,
            partial: Partial(path),
            file,
            hash: Sha256::new(),
        })
    }
}

/// The hex sha256 of what remains to be read.
fn digest(source: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(read) => hash.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A blob in the making; dropped unfinished, nothing is left of it.
pub struct Upload<'c> {
    catalog: &'c Catalog,
    partial: Partial,
    file: File,
    hash: Sha256,
}

impl Upload<'_> {
    /// Appends bytes.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(EngineError::io(format!(
            "writing {}",
            self.partial.0.display()
        )))
    }

    /// Makes it a blob; returns its hex sha256.
    ///
    /// # Errors
    /// [`EngineError::DigestMismatch`]; I/O errors.
    pub fn finish(self, expected: Option<&str>) -> Result<String, EngineError> {
        let actual = hex(&self.hash.finalize());
        if let Some(expected) = expected
            && expected != actual
        {
            return Err(EngineError::DigestMismatch {
                expected: expected.to_owned(),
                actual,
            });
        }
        let path = self.catalog.blob_path(&actual);
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.partial.0, &path))
            .map_err(EngineError::io(format!("writing {}", path.display())))?;
        Ok(actual)
    }
}

/// A file that is removed unless it was renamed.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Replaces a file as a whole or not at all.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let partial = Partial(path.with_extension(format!("{}.partial", std::process::id())));
    File::create(&partial.0)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&partial.0, path))
        .map_err(EngineError::io(format!("writing {}", path.display())))
}

fn check(path: &Path) -> Result<Gguf, EngineError> {
    Gguf::open(path)
        .and_then(|gguf| gguf.check_vocabulary().map(|()| gguf))
        .map_err(|cause| EngineError::BadModelFile {
            path: path.to_owned(),
            cause,
        })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(64), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}
