//! The data directory: made, probed and locked before anything is started.

use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The file that says whose the directory is.
const LOCK: &str = "lock";

/// A data directory that this process alone uses, until dropped.
///
/// One that was made for it and holds nothing at the end, as after a start that failed, goes with it.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The directories that were not there before, the innermost first.
    made: Vec<PathBuf>,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, checks that it can be written and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let absent = |directory: &&Path| !directory.as_os_str().is_empty() && !directory.exists();
        let made = path.ancestors().take_while(absent);
        let made = made.map(Path::to_owned).collect();
        create(path)?;
        probe(path)?;
        let file = path.join(LOCK);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) if is_at(&lock, &file) => Ok(Self {
                path: path.to_owned(),
                made,
                _lock: lock,
            }),
            Ok(()) => bail!(
                "another Jarvis, whose start failed, has just removed the data directory {}; start this one again",
                path.display()
            ),
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

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.made.is_empty() || !holds_nothing(&self.path).unwrap_or(false) {
            return;
        }
        // While it is locked: who opens the file in between finds it gone once the lock is free.
        let _ = fs::remove_file(self.path.join(LOCK));
        remove_empty(&self.path);
        for directory in self.made.iter().skip(1) {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Whether the file that is locked is the one that others would lock.
fn is_at(lock: &File, path: &Path) -> bool {
    let of = |found: io::Result<fs::Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
    let found = of(fs::metadata(path));
    found.is_some() && found == of(lock.metadata())
}

/// Whether there is nothing in it but the lock and directories of which the same is true.
fn holds_nothing(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let empty = if entry.file_type()?.is_dir() {
            holds_nothing(&entry.path())?
        } else {
            entry.file_name() == LOCK
        };
        if !empty {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes it and the directories in it, as far as they are empty.
fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
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
        let keep = path.join("kept");
        fs::write(&keep, "").unwrap();
        drop(first);
        drop(DataDir::open(&path).unwrap());
        fs::remove_file(keep).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(
            fs::read_dir(&path).unwrap().count(),
            1,
            "only the lock is left"
        );
    }

    #[test]
    fn one_that_was_made_and_not_filled_goes_and_any_other_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made/on/demand");
        let made = DataDir::open(&path).unwrap();
        fs::create_dir_all(path.join("models/blobs")).unwrap();
        drop(made);
        assert!(!dir.path().join("made").exists());
        let made = DataDir::open(&path).unwrap();
        fs::create_dir_all(path.join("models/blobs")).unwrap();
        fs::write(path.join("models/blobs/one"), "").unwrap();
        drop(made);
        assert!(path.join("models/blobs/one").exists());
        // An empty one that was there is somebody's.
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        drop(DataDir::open(&empty).unwrap());
        assert!(empty.exists());
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
