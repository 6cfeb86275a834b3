//! The stores as their callers see them, on real files.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod answers;
mod conversations;
mod generations;
mod open;
mod sessions;

use jarvis_domain::{Timestamp, User, UserId};
use jarvis_store::{Db, DbOptions, Grant, NewUser, Registered, Synchronous};
use std::path::Path;

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_000_000);

pub(crate) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

pub(crate) async fn open(directory: &Path) -> Db {
    Db::open(&options(directory)).await.unwrap()
}

pub(crate) fn options(directory: &Path) -> DbOptions {
    DbOptions {
        path: directory.join("jarvis.db"),
        synchronous: Synchronous::Normal,
    }
}

pub(crate) fn new_user(email: &str) -> NewUser {
    NewUser {
        id: UserId::new(),
        email: email.parse().unwrap(),
        password_hash: "$argon2id$".into(),
        created_at: NOW,
    }
}

pub(crate) async fn user(db: &Db, email: &str) -> User {
    match db.register(new_user(email), Grant::Open).await.unwrap() {
        Registered::Made(user) => user,
        other => panic!("{other:?}"),
    }
}
