//! The store on PostgreSQL under Patroni: real servers, real kills.
//!
//! `cargo test` loses one primary, one leader of etcd and one standby in strict mode; the rest is ignored there for the minutes it takes, and runs with `scripts/chaos/postgres`.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod load;
mod lost_primary;
mod paused_primary;
mod strict;
mod three_etcd;
mod two_nodes;

use jarvis_domain::{Timestamp, User, UserId};
use jarvis_store::{Db, DbOptions, Grant, Host, Location, NewUser, PostgresOptions, Registered};
use jarvis_testkit::services::Patroni;
use std::time::Duration;

/// What the issue of writes after the loss of a primary is measured by: no more may pass until the next one is acknowledged.
pub(crate) const OUTAGE: Duration = Duration::from_secs(30);

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_000_000);

/// The store over all hosts of `cluster`, and an account in it.
pub(crate) async fn open(cluster: &Patroni) -> (Db, User) {
    open_with(cluster, |_| {}).await
}

/// The same, with options of its own.
pub(crate) async fn open_with(cluster: &Patroni, set: impl FnOnce(&mut DbOptions)) -> (Db, User) {
    let hosts = cluster.hosts().into_iter();
    let options = PostgresOptions {
        hosts: hosts.map(|(name, port)| Host { name, port }).collect(),
        user: Patroni::USER.into(),
        password: Some(cluster.password().into()),
        database: Patroni::DATABASE.into(),
        connections: 8,
    };
    let mut options = DbOptions::new(Location::Postgres(options));
    set(&mut options);
    let db = Db::open(&options).await.unwrap();
    let new = NewUser {
        id: UserId::new(),
        email: "enzo@example.org".parse().unwrap(),
        password_hash: "$argon2id$".into(),
        created_at: NOW,
    };
    match db.register(new, Grant::Open).await.unwrap() {
        Registered::Made(user) => (db, user),
        other => panic!("{other:?}"),
    }
}
