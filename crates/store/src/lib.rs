//! What Jarvis keeps: rows in SQL, the text of answers in an append-only log, and what its instances tell each other.
//!
//! [`Db`] holds accounts, conversations, messages and generations, in a SQLite file or in PostgreSQL. [`AnswerLog`] holds the text
//! of answers while they are made: a character is shown to nobody before it lies where it outlives this process. [`Bus`] carries
//! hints between the instances, and [`Limiter`] counts tries for all of them. Each of these three is in process and in files,
//! or in the Redis Cluster that the instances share ([`Redis`]).
//! [`series`] holds what is measured, and [`keep`] moves, archives and restores all rows.

mod answers;
mod bus;
mod error;
pub mod keep;
mod limits;
pub mod series;
mod shared;
mod sql;

pub use answers::{
    AnswerEvent, AnswerLog, AnswerReader, AnswerWriter, Hold, LogError, QueuePlace, Snapshot,
};
pub use bus::{Bus, Ear, Notice};
pub use error::{Cause, StoreError};
pub use jarvis_domain::Outcome;
pub use limits::{Limiter, Rate};
pub use shared::{Redis, RedisFault, RedisOpenError, RedisOptions};
pub use sql::{
    Begin, Begun, Checkpoint, Claimed, ConversationPatch, Db, DbOptions, Examined, Grant, Host,
    HostState, Invite, Location, Look, MessageRow, NewUser, Owned, Parent, PlannedMigration,
    PostgresOptions, Registered, RequestKey, Rotation, SCHEMA_VERSION, Start, Synchronous,
};
