//! `jarvis backup`.

use crate::{
    cli::{BackupArgs, Flags as _, KeyArgs},
    commands::{
        print,
        progress::{Shown, contents},
        runtime, secret,
    },
    roles::backend,
};
use anyhow::{Context as _, Result, bail};
use jarvis_domain::Clock;
use jarvis_store::keep::{self, Key, Lock};
use std::process::ExitCode;

/// Takes a backup of the configured installation, which may be running.
///
/// # Errors
/// One sentence for the user; no file is left then.
pub(super) fn run(args: &BackupArgs) -> Result<ExitCode> {
    let loaded = args.installation.sources().load()?;
    let (lock, key) = keys(args)?;
    let stores = backend::stores(&loaded);
    let now = Clock::System.now();
    let mut shown = Shown::default();
    let taken = keep::back_up(&stores, &args.file, &lock, now, |step| shown.step(step));
    let taken = runtime(1)?.block_on(taken);
    shown.end();
    let taken = taken.context("no backup was taken")?;
    let mut verified = "";
    if let Some(key) = key.filter(|_| args.verify) {
        let found = keep::examine(&args.file, &key, |step| shown.step(step));
        shown.end();
        if found.context("the backup that was just written is not whole")? != taken {
            bail!("the backup that was just written is not what was read; do not rely on it");
        }
        verified = " and read again";
    }
    print(&format!(
        "{}{} rows were written to {}{verified}.\n",
        contents(&taken),
        taken.rows(),
        args.file.display()
    ))
}

/// What locks the backup, and what opens it again where that is known here.
fn keys(args: &BackupArgs) -> Result<(Lock, Option<Key>)> {
    if args.recipients.is_empty() {
        if args.key.identity.is_some() {
            bail!("--identity only opens a backup; give the public key by --recipient to lock it");
        }
        let text = match &args.key.passphrase_file {
            Some(file) => secret::file(file)?,
            None => secret::passphrase(true)?,
        };
        return Ok((Lock::passphrase(&text)?, Some(Key::passphrase(&text)?)));
    }
    let key = match &args.key.identity {
        Some(_) => Some(key(&args.key)?),
        None if args.verify => {
            bail!("--verify needs the key that opens the backup: --identity FILE")
        }
        None => None,
    };
    Ok((Lock::recipients(&args.recipients)?, key))
}

/// What opens a backup.
pub(super) fn key(args: &KeyArgs) -> Result<Key> {
    if let Some(file) = &args.identity {
        let text = secret::file(file)?;
        return Key::identities(&text).with_context(|| format!("{} has no key", file.display()));
    }
    let text = match &args.passphrase_file {
        Some(file) => secret::file(file)?,
        None => secret::passphrase(false)?,
    };
    Ok(Key::passphrase(&text)?)
}
