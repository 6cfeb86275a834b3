//! Keeping: what moves all rows from one database to another ([`migrate`]), into an encrypted archive ([`back_up`]) and back
//! ([`restore`]), and proves that none was lost, changed or doubled on the way.
//!
//! | file | what |
//! |---|---|
//! | `tables` | which tables there are, parents first, and the statements for each |
//! | `rows` | a row as both engines and the archive know it; reading and writing pages of them |
//! | `tally` | the count and checksum of a table's rows, the same on every engine |
//! | `place`, `stores` | a database, opened as it is; all that an installation has |
//! | `unfinished` | the text of answers in the making, from their files |
//! | `transfer` | from one database into another, resumably |
//! | `archive/` | the archive: its lines, and the lock around them |
//! | `backup` | into an archive, out of one, and the comparison of both |

mod archive;
mod backup;
mod error;
mod place;
mod rows;
mod stores;
mod tables;
mod tally;
mod transfer;
mod unfinished;

pub use archive::{Key, KeyError, Lock};
pub use backup::{back_up, compare, examine, restore};
pub use error::{Difference, KeepError};
pub use place::Place;
pub use stores::Stores;
pub use tables::Part;
pub use tally::Tally;
pub use transfer::migrate;

/// How far a table has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is done with it now.
    pub step: Step,
    /// The table.
    pub table: &'static str,
    /// Rows done.
    pub rows: u64,
    /// Rows there are, as far as known.
    pub of: Option<u64>,
}

/// What is done with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its rows are copied.
    Copying,
    /// Its rows are read again and compared.
    Verifying,
}

/// What was kept: each table with the count and checksum of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// When the rows were read, by this machine's clock; `None` where they come straight from a database.
    pub taken_at: Option<jarvis_domain::Timestamp>,
    /// The version of the schema they are in.
    pub schema: i64,
    /// Each table's rows, parents first.
    pub tables: Vec<(&'static str, Tally)>,
}

impl Contents {
    /// Rows in all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, tally)| tally.rows()).sum()
    }
}
