//! A counter per user that moves with every committed change of what the user's lists show.
//!
//! It makes an exact cache possible: what was read after the counter stood at `n` may be shown while it still stands at
//! `n`. A writer moves it after its commit and before it answers, so nobody who has seen a write acknowledged is shown
//! a page from before it.

use jarvis_domain::UserId;
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

#[derive(Debug, Default)]
pub(super) struct Versions(RwLock<HashMap<UserId, u64>>);

impl Versions {
    pub(super) fn of(&self, user: UserId) -> u64 {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&user)
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn advance(&self, user: UserId) {
        *self
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(user)
            .or_default() += 1;
    }
}
