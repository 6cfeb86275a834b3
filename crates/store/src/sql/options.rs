//! Where the relational store is and how it behaves.

use secrecy::SecretString;
use std::{fmt, path::PathBuf, time::Duration};

/// Where the relational store is and how it behaves.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// Which engine, and where.
    pub location: Location,
    /// A query that takes longer than this is counted and logged as slow.
    pub slow: Duration,
    /// How long a caller waits for a connection, and for one statement on PostgreSQL, before the store counts as unavailable.
    pub deadline: Duration,
    /// How long for one statement, where that may be longer.
    pub statement_deadline: Option<Duration>,
    /// What an operator sets to reach it, as messages name it.
    pub settings: &'static str,
}

/// Which engine, and where.
#[derive(Debug, Clone)]
pub enum Location {
    /// SQLite.
    File {
        /// The database file; made if absent, its directory is not.
        path: PathBuf,
        /// How hard a commit is pressed onto the disk.
        synchronous: Synchronous,
    },
    /// PostgreSQL.
    Postgres(PostgresOptions),
}

/// A PostgreSQL database: one server, or a primary with its standbys, of which any may be the primary.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The servers, at least one.
    pub hosts: Vec<Host>,
    /// Who signs in.
    pub user: String,
    /// With what; `None` where the server asks for nothing.
    pub password: Option<SecretString>,
    /// The database's name.
    pub database: String,
    /// Connections to one server at most.
    pub connections: u32,
}

/// One server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// A name or an IP address.
    pub name: String,
    /// The TCP port.
    pub port: u16,
}

/// How hard a commit is pressed onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// A commit survives the death of the program, not always a power cut (which may take the last ones whole, never half).
    #[default]
    Normal,
    /// A commit survives a power cut, at the price of a disk flush each.
    Full,
}

impl DbOptions {
    /// The defaults with a store at `location`.
    #[must_use]
    pub fn new(location: Location) -> Self {
        Self {
            location,
            slow: Duration::from_secs(1),
            deadline: Duration::from_secs(5),
            statement_deadline: None,
            settings: "store.url and store.password",
        }
    }

    /// How long one statement may take, on PostgreSQL.
    pub(super) fn statement_deadline(&self) -> Duration {
        self.statement_deadline.unwrap_or(self.deadline)
    }

    /// The defaults with a SQLite file at `path`.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Location::File {
            path: path.into(),
            synchronous: Synchronous::default(),
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}
