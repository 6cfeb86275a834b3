//! Passwords: argon2id, off the async threads, a few at a time.

use crate::{options::PasswordCost, problem::Problem};
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{
        Error, PasswordHasher as _, PasswordVerifier as _,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// What a password may measure, in bytes.
const BYTES: std::ops::RangeInclusive<usize> = 8..=1024;

/// Makes and checks password hashes.
#[derive(Debug)]
pub(crate) struct Passwords {
    params: Params,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    /// What is checked where there is no account, so that its absence costs as much time.
    nobody: String,
}

impl Passwords {
    pub(crate) fn new(cost: PasswordCost, tasks: TaskTracker) -> Result<Self, Error> {
        let params =
            Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|_| Error::ParamsInvalid)?;
        let nobody = nobody(&params)?.to_string();
        Ok(Self {
            params,
            slots: Arc::new(Semaphore::new(cost.concurrency.max(1))),
            tasks,
            nobody,
        })
    }

    /// Refuses what is too short to be safe or too long to be meant.
    pub(crate) fn check(password: &str) -> Result<(), Problem> {
        if BYTES.contains(&password.len()) {
            return Ok(());
        }
        let (least, most) = (BYTES.start(), BYTES.end());
        Err(Problem::new(
            axum::http::StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_password",
            format!("a password has {least} to {most} bytes"),
        ))
    }

    /// The argon2id string of a password.
    pub(crate) async fn hash(&self, password: String) -> Result<String, Problem> {
        let params = self.params.clone();
        let hashed = self
            .aside(move || hasher(&params).hash_password(password.as_bytes()))
            .await?;
        match hashed {
            Ok(hash) => Ok(hash.to_string()),
            Err(error) => Err(Problem::internal("a password could not be hashed", &error)),
        }
    }

    /// Whether `password` is the one behind `hash`; as slow without a hash.
    pub(crate) async fn verify(
        &self,
        password: String,
        hash: Option<String>,
    ) -> Result<bool, Problem> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let params = self.params.clone();
        let good = self
            .aside(move || {
                hasher(&params)
                    .verify_password(password.as_bytes(), hash.as_str())
                    .is_ok()
            })
            .await?;
        Ok(good && known)
    }

    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|error| Problem::internal("the password slots are closed", &error))?;
        self.tasks
            .spawn_blocking(move || {
                let _slot = slot;
                work()
            })
            .await
            .map_err(|error| Problem::internal("a password task died", &error))
    }
}

fn hasher(params: &Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
}

/// What a hash of these costs looks like, with random bytes for its salt and its output: no password leads to it, checking one
/// against it takes the work of a real one, and making it takes none.
fn nobody(params: &Params) -> Result<PasswordHash, Error> {
    let mut random = [0; Salt::RECOMMENDED_LENGTH + Params::DEFAULT_OUTPUT_LEN];
    getrandom::fill(&mut random).map_err(|_| Error::Crypto)?;
    let (salt, output) = random.split_at(Salt::RECOMMENDED_LENGTH);
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(output)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread, time::Duration};

    const COST: PasswordCost = PasswordCost {
        memory_kib: 64,
        passes: 2,
        concurrency: 1,
    };

    /// With these passes one hash takes days.
    #[test]
    fn a_start_hashes_nothing() {
        let (done, made) = mpsc::channel();
        thread::spawn(move || {
            let endless = PasswordCost {
                passes: u32::MAX,
                ..COST
            };
            done.send(Passwords::new(endless, TaskTracker::new()).is_ok())
        });
        assert_eq!(made.recv_timeout(Duration::from_mins(1)), Ok(true));
    }

    /// Whoever measures the time finds no account missing: the work depends on the algorithm, its costs and the lengths alone.
    #[tokio::test]
    async fn an_account_that_is_not_there_takes_the_work_of_one_that_is() {
        let passwords = Passwords::new(COST, TaskTracker::new()).unwrap();
        let real = passwords.hash("a password".into()).await.unwrap();
        let shape = |hash: &str| {
            let hash = PasswordHash::new(hash).unwrap();
            let lengths = (hash.salt.unwrap().len(), hash.hash.unwrap().len());
            (hash.algorithm, hash.version, hash.params, lengths)
        };
        assert_eq!(shape(&passwords.nobody), shape(&real));
        // Refused for its password, and not earlier for its form.
        assert_eq!(
            hasher(&passwords.params).verify_password(b"a password", passwords.nobody.as_str()),
            Err(Error::PasswordInvalid)
        );
        let check = async |hash| passwords.verify("a password".into(), hash).await.unwrap();
        assert!(check(Some(real.clone())).await);
        assert!(!check(None).await);
        assert!(!check(Some(passwords.nobody.clone())).await);
        let other = Passwords::new(COST, TaskTracker::new()).unwrap();
        assert_ne!(other.nobody, passwords.nobody);
    }
}
