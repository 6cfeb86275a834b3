//! What locks an archive and what opens it: age (age-encryption.org/v1), so that the program `age` opens it too.

use age::{
    DecryptError, Decryptor, EncryptError, Encryptor, Identity, Recipient, scrypt,
    stream::{StreamReader, StreamWriter},
    x25519,
};
use secrecy::{ExposeSecret as _, SecretString};
use std::{
    fmt,
    io::{self, BufRead, Write},
};

/// What an archive is locked with.
#[derive(Clone)]
pub enum Lock {
    /// Whoever knows it opens the archive.
    Passphrase(SecretString),
    /// Whoever has one of the keys that belong to these opens it; this machine need not.
    Recipients(Vec<x25519::Recipient>),
}

/// What opens an archive.
#[derive(Clone)]
pub enum Key {
    /// A passphrase.
    Passphrase(SecretString),
    /// Secret keys, of which one must fit.
    Identities(Vec<x25519::Identity>),
}

/// A passphrase or key that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An empty passphrase.
    #[error("the passphrase is empty")]
    Empty,
    /// Not a public key of age; not repeated, for it may be the secret one.
    #[error("a recipient is no public key of age; one looks like age1…, as age-keygen prints it")]
    Recipient,
    /// A file without a usable secret key.
    #[error(
        "line {line} is no secret key of age; one looks like AGE-SECRET-KEY-1…, as age-keygen writes it"
    )]
    Identity {
        /// Counted from one.
        line: usize,
    },
    /// A file without any key.
    #[error("there is no key in it")]
    None,
}

impl Lock {
    /// A passphrase; the line break at the end of a file is no part of it.
    pub fn passphrase(text: &SecretString) -> Result<Self, KeyError> {
        trimmed(text).map(Self::Passphrase)
    }

    /// Public keys, as `age-keygen` prints them.
    pub fn recipients(keys: &[String]) -> Result<Self, KeyError> {
        let parsed = keys
            .iter()
            .map(|key| key.trim().parse().map_err(|_| KeyError::Recipient));
        let parsed: Vec<_> = parsed.collect::<Result<_, _>>()?;
        if parsed.is_empty() {
            return Err(KeyError::None);
        }
        Ok(Self::Recipients(parsed))
    }

    /// Everything written into the result goes encrypted into `out`.
    pub(super) fn close_in<W: Write>(&self, out: W) -> Result<StreamWriter<W>, LockError> {
        let encryptor = match self {
            Self::Passphrase(text) => Encryptor::with_user_passphrase(text.clone()),
            Self::Recipients(keys) => {
                Encryptor::with_recipients(keys.iter().map(|key| key as &dyn Recipient))?
            }
        };
        Ok(encryptor.wrap_output(out)?)
    }
}

impl Key {
    /// A passphrase; the line break at the end of a file is no part of it.
    pub fn passphrase(text: &SecretString) -> Result<Self, KeyError> {
        trimmed(text).map(Self::Passphrase)
    }

    /// The secret keys of a file as `age-keygen` writes it: one a line, empty lines and `#` left out.
    pub fn identities(file: &SecretString) -> Result<Self, KeyError> {
        let lines = file.expose_secret().lines().map(str::trim).enumerate();
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let parsed = keys.map(|(at, line)| {
            line.parse()
                .map_err(|_| KeyError::Identity { line: at + 1 })
        });
        let parsed: Vec<_> = parsed.collect::<Result<_, _>>()?;
        if parsed.is_empty() {
            return Err(KeyError::None);
        }
        Ok(Self::Identities(parsed))
    }

    /// Whether it is a passphrase.
    pub(super) fn is_passphrase(&self) -> bool {
        matches!(self, Self::Passphrase(_))
    }

    /// Opens what is read from `input`.
    pub(super) fn open<R: BufRead>(&self, input: R) -> Result<StreamReader<R>, OpenError> {
        let decryptor = Decryptor::new_buffered(input).map_err(OpenError::NotAge)?;
        if decryptor.is_scrypt() != self.is_passphrase() {
            return Err(OpenError::OtherLock);
        }
        let opened = match self {
            Self::Passphrase(text) => {
                let identity = scrypt::Identity::new(text.clone());
                decryptor.decrypt(std::iter::once(&identity as &dyn Identity))
            }
            Self::Identities(keys) => {
                decryptor.decrypt(keys.iter().map(|key| key as &dyn Identity))
            }
        };
        opened.map_err(OpenError::Refused)
    }
}

fn trimmed(text: &SecretString) -> Result<SecretString, KeyError> {
    let text = text.expose_secret().trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    Ok(SecretString::from(text.to_owned()))
}

/// An archive cannot be begun.
#[derive(Debug)]
pub(super) enum LockError {
    Encrypt(EncryptError),
    Io(io::Error),
}

impl From<EncryptError> for LockError {
    fn from(error: EncryptError) -> Self {
        Self::Encrypt(error)
    }
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An archive cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    NotAge(DecryptError),
    OtherLock,
    Refused(DecryptError),
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Lock(passphrase)",
            Self::Recipients(_) => "Lock(recipients)",
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Key(passphrase)",
            Self::Identities(_) => "Key(identities)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn an_empty_passphrase_is_none() {
        for text in ["", "\n", "\r\n"] {
            assert_eq!(
                Lock::passphrase(&secret(text)).unwrap_err(),
                KeyError::Empty
            );
            assert_eq!(Key::passphrase(&secret(text)).unwrap_err(), KeyError::Empty);
        }
    }

    #[test]
    fn keys_are_read_as_age_writes_them() {
        let identity = x25519::Identity::generate();
        let file = format!(
            "# created: today\n# public key: {}\n{}\n\n",
            identity.to_public(),
            identity.to_string().expose_secret()
        );
        assert!(Key::identities(&secret(&file)).is_ok());
        assert_eq!(
            Key::identities(&secret("# nothing\n")).unwrap_err(),
            KeyError::None
        );
        assert_eq!(
            Key::identities(&secret("\nAGE-SECRET-KEY-1\n")).unwrap_err(),
            KeyError::Identity { line: 2 }
        );
        assert!(Lock::recipients(&[identity.to_public().to_string()]).is_ok());
        assert!(matches!(
            Lock::recipients(&["ssh-ed25519 AAAA".into()]).unwrap_err(),
            KeyError::Recipient
        ));
        assert_eq!(Lock::recipients(&[]).unwrap_err(), KeyError::None);
    }
}
