//! What can go wrong in a store, told apart by what the caller can do about it.

use sqlx::error::ErrorKind;

/// A failed call to the relational store. An absent row is not an error: it is `None`.
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
    /// No room left on the device.
    #[error("no space is left for the database")]
    Full,
    /// The database was written by a newer Jarvis.
    #[error(
        "the database has schema version {found}; this program knows versions up to {known}: use the newer program or restore a backup"
    )]
    Newer {
        /// The version found.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The file is damaged or not a database.
    #[error("the database file is damaged or not a database")]
    Damaged(#[source] sqlx::Error),
    /// A stored value that this program cannot read.
    #[error("column `{column}` holds an unreadable value: {reason}")]
    Unreadable {
        /// The column's name.
        column: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The migrations did not run.
    #[error("the database could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Anything else: the store does not answer or refuses the query.
    #[error("the database does not answer")]
    Unavailable(#[source] sqlx::Error),
}

/// SQLite's primary result codes (sqlite.org/rescode.html).
mod sqlite {
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self::Unavailable(error);
        };
        match database.kind() {
            ErrorKind::UniqueViolation => return Self::Taken,
            ErrorKind::ForeignKeyViolation => return Self::Dangling,
            _ => {}
        }
        let primary = database
            .code()
            .and_then(|code| code.parse::<i32>().ok())
            .map(|code| code & 0xff);
        match primary {
            Some(sqlite::FULL) => Self::Full,
            Some(sqlite::CORRUPT | sqlite::NOT_A_DATABASE) => Self::Damaged(error),
            _ => Self::Unavailable(error),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        match error {
            sqlx::migrate::MigrateError::VersionMissing(found)
            | sqlx::migrate::MigrateError::VersionTooNew(found, _) => Self::Newer {
                found,
                known: crate::SCHEMA_VERSION,
            },
            sqlx::migrate::MigrateError::Execute(source) => source.into(),
            other => Self::Migrate(other),
        }
    }
}
