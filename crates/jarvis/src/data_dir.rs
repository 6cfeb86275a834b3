//! The data directory: made, probed and locked before anything is started.

use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

/// A data directory that this process alone uses, until dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, checks that it can be written and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        create(path)?;
        probe(path)?;
        let file = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => bail!(
                "the data directory {} is in use by another Jarvis; stop that one, or choose another directory with --data-dir",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", file.display()))
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes the directory, readable by its owner only.
pub(crate) fn create(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| explain(path, &error))
}

/// Writes, syncs and removes a small file.
pub(crate) fn probe(path: &Path) -> Result<()> {
    let file = path.join(format!(".probe-{}", std::process::id()));
    let write = || {
        let mut probe = File::create(&file)?;
        probe.write_all(&[0; 8 * 1024])?;
        probe.sync_all()
    };
    let outcome = write();
    // Whatever the outcome, nothing is to be left; if it never was there, that is fine too.
    let _ = fs::remove_file(&file);
    outcome.map_err(|error| explain(path, &error))
}

fn explain(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let shown = path.display();
    let other = "choose another with --data-dir";
    let text = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => format!(
            "the data directory {shown} cannot be written ({error}); give this user the right to, or {other}"
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!(
                "the disk that holds the data directory {shown} is full; free some space, or {other}"
            )
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            format!("the data directory {shown} is not a directory; {other}")
        }
        _ => format!("the data directory {shown} cannot be used ({error}); {other}"),
    };
    anyhow::Error::msg(text)
}

/// Bytes free for this user on the disk that holds `path`.
pub(crate) fn free_bytes(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_use_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/on/demand");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("in use by another Jarvis"), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(
            fs::read_dir(&path).unwrap().count(),
            1,
            "only the lock is left"
        );
    }

    #[test]
    fn a_file_in_its_place_is_explained() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = DataDir::open(file.path()).unwrap_err().to_string();
        assert!(error.contains("is not a directory"), "{error}");
    }

    #[test]
    fn a_full_disk_is_explained() {
        // Every write to this device fails as on a full disk.
        let error = File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
            .write_all(&[0; 64])
            .unwrap_err();
        let text = explain(Path::new("/data"), &error).to_string();
        assert!(text.contains("is full"), "{text}");
    }
}
