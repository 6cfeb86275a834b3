//! The signing key that an installation makes for itself.

use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

const BYTES: usize = 32;

/// The key kept in the data directory `dir`, made on first use. The directory must be locked.
pub(crate) fn kept_in(dir: &Path) -> Result<Vec<u8>> {
    let path = dir.join("signing-key");
    match fs::read(&path) {
        Ok(key) if key.len() == BYTES => return Ok(key),
        Ok(key) => bail!(
            "{} has {} bytes in place of {BYTES}; remove it to have a new one made (everybody then signs in again)",
            path.display(),
            key.len()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let key = random().context("the system gives no random bytes")?;
    write(dir, &path, &key).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(key)
}

fn random() -> std::io::Result<Vec<u8>> {
    let mut key = vec![0; BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// Whole or not at all, for the owner's eyes only.
fn write(dir: &Path, path: &Path, key: &[u8]) -> std::io::Result<()> {
    let partial = dir.join("signing-key.partial");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(key)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let key = kept_in(dir.path()).unwrap();
        assert_eq!(key.len(), BYTES);
        assert_eq!(kept_in(dir.path()).unwrap(), key);
        let path = dir.path().join("signing-key");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let other = tempfile::tempdir().unwrap();
        assert_ne!(kept_in(other.path()).unwrap(), key);
    }

    #[test]
    fn a_cut_key_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("signing-key"), b"short").unwrap();
        let error = kept_in(dir.path()).unwrap_err().to_string();
        assert!(error.contains("5 bytes in place of 32"), "{error}");
    }
}
