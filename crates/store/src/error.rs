//! What can go wrong in a store, told apart by what the caller can do about it.

use crate::Host;
use sqlx::{error::ErrorKind, postgres::PgDatabaseError};

/// A failed call to the relational store. An absent row is not an error: it is `None`. No error tells a secret, nor what a statement
/// was given.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another row holds this value already.
    #[error("the value is taken already")]
    Taken,
    /// A row that this one refers to is not there.
    #[error("the row refers to one that does not exist")]
    Dangling,
    /// A later owner has taken over; the write was refused.
    #[error("a later owner has taken this generation over")]
    Fenced,
    /// A text with a NUL character, which PostgreSQL cannot keep, so neither engine takes it.
    #[error("a text holds a NUL character, which cannot be kept")]
    Nul,
    /// Undone for another transaction's sake; it can be tried again.
    #[error("another transaction was in the way")]
    Conflict(#[source] Cause),
    /// The connection was lost while a change was being confirmed: it was kept, or it was not.
    #[error("the database was lost while it confirmed a change; it may or may not have been kept")]
    Unsure(#[source] Option<Cause>),
    /// No answer within the deadline.
    #[error("the database did not answer in time")]
    Deadline,
    /// The server lets nobody in and refuses nobody: within the deadline it says nothing.
    #[error("the database server {host} did not answer in time")]
    Silent {
        /// The server.
        host: Host,
    },
    /// No room left on the device.
    #[error("no space is left for the database")]
    Full,
    /// The database was written by a newer Jarvis that this one cannot work beside.
    #[error(
        "the database has schema version {found}; this program knows versions up to {known}: use the newer program or restore a backup"
    )]
    Newer {
        /// The version found.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// A migration was applied with another text than the one this program has.
    #[error(
        "migration {version} of the database is not the one this program knows: it was made by another program than Jarvis, or by one that was never released"
    )]
    Changed {
        /// The migration.
        version: i64,
    },
    /// A migration could not be applied; none was.
    #[error("migration {version} could not be applied; the schema is as it was")]
    Migration {
        /// The migration.
        version: i64,
        /// Why not.
        source: Box<StoreError>,
    },
    /// Rows are being moved into it, and not all are there.
    #[error(
        "the database holds an unfinished move from {source_place}; run the same `jarvis migrate data` again to finish it, or begin anew with an empty database"
    )]
    HalfMoved {
        /// Where they come from.
        source_place: String,
    },
    /// The file is damaged or not a database.
    #[error("the database file is damaged or not a database")]
    Damaged(#[source] Cause),
    /// The server does not accept a connection.
    #[error("the database server {host} cannot be reached")]
    Unreachable {
        /// The server.
        host: Host,
        /// Why not.
        source: Cause,
    },
    /// The server does not know the user, or not by this password.
    #[error("the database server {host} does not let `{user}` in; look at {settings}")]
    SignIn {
        /// The server.
        host: Host,
        /// Who tried.
        user: String,
        /// Where an operator says so.
        settings: &'static str,
        /// The server's words.
        source: Cause,
    },
    /// The server has no such database.
    #[error(
        "the database server {host} has no database `{database}`; create it, owned by Jarvis' user"
    )]
    NoDatabase {
        /// The server.
        host: Host,
        /// The database.
        database: String,
    },
    /// The user may not do what Jarvis needs.
    #[error("the database user lacks a right; it must own the database")]
    Forbidden(#[source] Cause),
    /// The user may not do what Jarvis needs, as is seen before anything is tried.
    #[error(
        "the database user `{user}` lacks the right to {what} in `{database}`; it must own the database"
    )]
    NoRight {
        /// Who it is.
        user: String,
        /// The right that is missing, after "the right to".
        what: &'static str,
        /// The database.
        database: String,
    },
    /// The server's version is not supported.
    #[error("the database server {host} runs PostgreSQL {found}; Jarvis needs {oldest} or newer")]
    TooOld {
        /// The server.
        host: Host,
        /// Its version.
        found: u32,
        /// The oldest one supported.
        oldest: u32,
    },
    /// The server is a standby, where a primary is needed.
    #[error("the database server {host} is a standby")]
    NotPrimary {
        /// The server.
        host: Host,
    },
    /// No server accepts writes now.
    #[error("no database server is the primary now")]
    NoPrimary,
    /// It can be read, and takes no changes.
    #[error("the database can be read, but not written: {why}")]
    Unwritable {
        /// In the words of the database.
        why: String,
    },
    /// A stored value that this program cannot read.
    #[error("column `{column}` holds an unreadable value: {reason}")]
    Unreadable {
        /// The column's name.
        column: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// Anything else: the store does not answer or refuses the query.
    #[error("the database does not answer")]
    Unavailable(#[source] Cause),
}

/// What sqlx says. Its words hold those of what was below it, so there is nothing below this.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(sqlx::Error);

impl From<sqlx::Error> for Cause {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl StoreError {
    /// Whether the store may well answer in a moment: it is away, busy, or changing its primary.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Conflict(_)
                | Self::Unsure(_)
                | Self::Deadline
                | Self::Silent { .. }
                | Self::Unreachable { .. }
                | Self::NotPrimary { .. }
                | Self::NoPrimary
                | Self::Unwritable { .. }
                | Self::Unavailable(_)
        )
    }
}

/// SQLite's primary result codes (sqlite.org/rescode.html).
mod sqlite {
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

/// PostgreSQL's codes (postgresql.org/docs/current/errcodes-appendix.html).
mod postgres {
    pub(super) const SERIALIZATION_FAILURE: &str = "40001";
    pub(super) const DEADLOCK_DETECTED: &str = "40P01";
    pub(super) const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub(super) const DISK_FULL: &str = "53100";
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self::Unavailable(error.into());
        };
        match database.kind() {
            ErrorKind::UniqueViolation => return Self::Taken,
            ErrorKind::ForeignKeyViolation => return Self::Dangling,
            _ => {}
        }
        if let Some(refusal) = database.try_downcast_ref::<PgDatabaseError>() {
            return match refusal.code() {
                postgres::DISK_FULL => Self::Full,
                postgres::SERIALIZATION_FAILURE | postgres::DEADLOCK_DETECTED => {
                    Self::Conflict(error.into())
                }
                postgres::INSUFFICIENT_PRIVILEGE => Self::Forbidden(error.into()),
                _ => Self::Unavailable(error.into()),
            };
        }
        let extended = database.code().and_then(|code| code.parse::<i32>().ok());
        match extended.map(|code| code & 0xff) {
            Some(sqlite::FULL) => Self::Full,
            Some(sqlite::CORRUPT | sqlite::NOT_A_DATABASE) => Self::Damaged(error.into()),
            _ => Self::Unavailable(error.into()),
        }
    }
}
