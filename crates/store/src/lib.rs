//! What Jarvis keeps: rows in SQL, and the text of answers in an append-only log.
//!
//! [`Db`] holds accounts, conversations, messages and generations, in a SQLite file or in PostgreSQL. [`AnswerLog`] holds the text
//! of answers while they are made: a character is shown to nobody before it lies where it outlives this process.

mod answers;
mod error;
mod sql;

pub use answers::{
    AnswerEvent, AnswerLog, AnswerReader, AnswerWriter, LogError, Outcome, QueuePlace,
};
pub use error::StoreError;
pub use sql::{
    Begin, Begun, ConversationPatch, Db, DbOptions, Grant, Host, Location, MessageRow, NewUser,
    Parent, PlannedMigration, PostgresOptions, Registered, RequestKey, Rotation, SCHEMA_VERSION,
    Start, Synchronous,
};
