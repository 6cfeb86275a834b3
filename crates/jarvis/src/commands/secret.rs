//! Passwords, passphrases and keys for one command: from a file, the environment or a person, never from the command line.

use anyhow::{Context as _, Result, bail};
use jarvis_config::Secret;
use secrecy::SecretString;
use std::{
    env, fs,
    io::{IsTerminal as _, stdin},
    path::Path,
};

/// A database user's password: from the file, else from the environment, else none.
pub(super) fn password(file: Option<&Path>, variable: &str) -> Result<Option<Secret>> {
    match file {
        Some(file) => {
            let text = read(file)?;
            Ok(Some(Secret::new(text.trim_end().to_owned())))
        }
        None => Ok(env::var(variable).ok().map(Secret::new)),
    }
}

/// The content of a file that holds a secret.
pub(super) fn file(path: &Path) -> Result<SecretString> {
    read(path).map(SecretString::from)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// A passphrase that somebody types, unseen; asked for again where it is new.
pub(super) fn passphrase(new: bool) -> Result<SecretString> {
    if !stdin().is_terminal() {
        bail!("nobody is there to type a passphrase; give it by --passphrase-file, or use keys");
    }
    let ask = |what| rpassword::prompt_password(what).context("no passphrase could be read");
    let typed = ask("Passphrase: ")?;
    if new && ask("Once more: ")? != typed {
        bail!("the two passphrases differ");
    }
    Ok(SecretString::from(typed))
}
