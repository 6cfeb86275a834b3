//! Access tokens: short-lived, signed, and checked against the store so that a revoked sign-in ends at once.

use super::crypto;
use crate::{options::Options, problem::Problem};
use jarvis_domain::{Clock, SessionId, Timestamp, UserId, UserRole};
use jarvis_store::Db;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const ISSUER: &str = "jarvis";
const AUDIENCE: &str = "jarvis-api";
/// Tokens remembered as verified, at most.
const REMEMBERED: usize = 16_384;
/// How long the store's word about a sign-in is taken. Revocations by this process are noticed at once; those by another
/// one within this time.
const RECHECK: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

/// Who makes a request, by right of a token that is good now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The account.
    pub(crate) user: UserId,
    /// What it may do, by the store's word.
    pub(crate) role: UserRole,
    /// The sign-in.
    pub(crate) session: SessionId,
    /// When the token ends.
    pub(crate) expires_at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Verified {
    principal: Principal,
    /// [`Tokens::revocations`] before the store was asked.
    revocations: u64,
    /// When the store was asked.
    at: Timestamp,
}

/// Makes and checks access tokens.
pub(crate) struct Tokens {
    db: Db,
    clock: Clock,
    lifetime: Duration,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    verified: RwLock<HashMap<[u8; 32], Verified>>,
    /// Moves with every revocation: what was verified before asks the store again.
    revocations: AtomicU64,
}

impl Tokens {
    pub(crate) fn new(options: &Options, db: Db, clock: Clock) -> Self {
        crypto::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The time is compared with our own clock, below.
        validation.validate_exp = false;
        Self {
            db,
            clock,
            lifetime: options.access_token_lifetime,
            signing: EncodingKey::from_secret(options.secret.bytes()),
            verifying: DecodingKey::from_secret(options.secret.bytes()),
            validation,
            verified: RwLock::default(),
            revocations: AtomicU64::new(0),
        }
    }

    /// A token for a sign-in, from now on.
    pub(crate) fn issue(&self, user: UserId, session: SessionId) -> Result<String, Problem> {
        let now = self.clock.now();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user,
            sid: session,
            iat: now.seconds(),
            exp: (now + self.lifetime).seconds(),
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|error| Problem::internal("a token could not be signed", &error))
    }

    /// Call after a sign-in was revoked in the store.
    pub(crate) fn revoked(&self) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
    }

    /// Who this token speaks for, if it is good now.
    pub(crate) async fn verify(&self, token: &str) -> Result<Principal, Problem> {
        let key: [u8; 32] = Sha256::digest(token).into();
        let known = {
            let verified = self.verified.read().unwrap_or_else(PoisonError::into_inner);
            verified.get(&key).copied()
        };
        let now = self.clock.now();
        if let Some(known) = known {
            not_expired(known.principal.expires_at, now)?;
            if self.is_fresh(&known, now) {
                return Ok(known.principal);
            }
        }
        let claims = self.read(token, now)?;
        let expires_at = Timestamp::from_micros(claims.exp.saturating_mul(1_000_000));
        let verified = self.ask(claims.sub, claims.sid, expires_at).await?;
        self.remember(key, verified, now);
        Ok(verified.principal)
    }

    /// Whether a principal that was verified before is good still.
    pub(crate) async fn still_good(&self, principal: &Principal) -> Result<(), Problem> {
        not_expired(principal.expires_at, self.clock.now())?;
        self.ask(principal.user, principal.session, principal.expires_at)
            .await
            .map(drop)
    }

    fn read(&self, token: &str, now: Timestamp) -> Result<Claims, Problem> {
        let claims = decode::<Claims>(token, &self.verifying, &self.validation)
            .map_err(|_| invalid())?
            .claims;
        not_expired(
            Timestamp::from_micros(claims.exp.saturating_mul(1_000_000)),
            now,
        )?;
        Ok(claims)
    }

    async fn ask(
        &self,
        user: UserId,
        session: SessionId,
        expires_at: Timestamp,
    ) -> Result<Verified, Problem> {
        let revocations = self.revocations.load(Ordering::Acquire);
        let at = self.clock.now();
        if !self.db.session_is_live(session).await? {
            return Err(Problem::unauthorized(
                "unauthorized",
                "this sign-in has ended; sign in again",
            ));
        }
        let account = self.db.user(user).await?.ok_or_else(invalid)?;
        Ok(Verified {
            principal: Principal {
                user,
                role: account.role,
                session,
                expires_at,
            },
            revocations,
            at,
        })
    }

    fn is_fresh(&self, known: &Verified, now: Timestamp) -> bool {
        known.revocations == self.revocations.load(Ordering::Acquire)
            && now.since(known.at) < RECHECK
            && now >= known.at
    }

    fn remember(&self, key: [u8; 32], token: Verified, now: Timestamp) {
        let mut verified = self
            .verified
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED {
            verified.retain(|_, known| self.is_fresh(known, now));
            if verified.len() >= REMEMBERED {
                verified.clear();
            }
        }
        verified.insert(key, token);
    }
}

fn invalid() -> Problem {
    Problem::unauthorized(
        "unauthorized",
        "sign in first: the token is missing or not valid",
    )
}

/// The problem of a request without a token.
pub(super) fn missing() -> Problem {
    invalid()
}

fn not_expired(expires_at: Timestamp, now: Timestamp) -> Result<(), Problem> {
    if now < expires_at {
        return Ok(());
    }
    Err(Problem::unauthorized(
        "token_expired",
        "the access token has expired; refresh it",
    ))
}
