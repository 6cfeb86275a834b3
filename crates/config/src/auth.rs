//! `[auth]`: accounts, tokens and the secrets behind them.

use crate::{Problem, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Accounts, tokens and the secrets behind them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSection {
    /// Who may create an account once the first one (the administrator's) exists.
    pub registration: Registration,
    /// Seconds an access token is valid.
    pub access_token_seconds: u64,
    /// Days a signed-in browser stays signed in without being used.
    pub refresh_token_days: u64,
    /// The key that signs access tokens, at least 32 characters. Unset: made at the first start
    /// and kept in the data directory. All backends of an installation share one.
    pub secret: Option<Secret>,
    /// A file that holds `secret`.
    pub secret_file: Option<PathBuf>,
    /// The token the first account needs when the listener is not loopback. Unset: made at start
    /// and printed.
    pub setup_token: Option<Secret>,
    /// A file that holds `setup_token`.
    pub setup_token_file: Option<PathBuf>,
}

/// Who may create an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Anyone who reaches the page.
    #[default]
    Open,
    /// Whoever holds an invitation, which an administrator makes on the page.
    Invite,
    /// Nobody, and no invitation is made.
    Closed,
}

impl Default for AuthSection {
    fn default() -> Self {
        Self {
            registration: Registration::Open,
            access_token_seconds: 900,
            refresh_token_days: 30,
            secret: None,
            secret_file: None,
            setup_token: None,
            setup_token_file: None,
        }
    }
}

impl AuthSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        if !(30..=86_400).contains(&self.access_token_seconds) {
            problems.push(Problem::new(
                "auth.access_token_seconds",
                "must be from 30 to 86400",
            ));
        }
        if !(1..=366).contains(&self.refresh_token_days) {
            problems.push(Problem::new(
                "auth.refresh_token_days",
                "must be from 1 to 366",
            ));
        }
        if self.secret.as_ref().is_some_and(|s| s.expose().len() < 32) {
            problems.push(Problem::new(
                "auth.secret",
                "must have at least 32 characters; `openssl rand -hex 32` makes one",
            ));
        }
        if self
            .setup_token
            .as_ref()
            .is_some_and(|s| s.expose().len() < 8)
        {
            problems.push(Problem::new(
                "auth.setup_token",
                "must have at least 8 characters",
            ));
        }
    }
}
