//! Passwords: argon2id, off the async threads, a few at a time.

use crate::{options::PasswordCost, problem::Problem};
use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _},
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
    /// The hash of a password nobody knows: checked where there is no account, so that its absence costs as much time.
    nobody: String,
}

impl Passwords {
    pub(crate) fn new(
        cost: PasswordCost,
        tasks: TaskTracker,
    ) -> Result<Self, argon2::password_hash::Error> {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None)
            .map_err(|_| argon2::password_hash::Error::ParamsInvalid)?;
        let mut unknown = [0; 32];
        getrandom::fill(&mut unknown).map_err(|_| argon2::password_hash::Error::Crypto)?;
        let nobody = hasher(&params).hash_password(&unknown)?.to_string();
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
