//! What keeps rows from being moved, archived or restored: one sentence each, with what to do.

use super::tally::Tally;
use crate::StoreError;
use std::{io, path::PathBuf};

/// Why nothing, or not all, was done.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A database does not do what it is asked.
    #[error("{place}")]
    Store {
        /// Which one, without a password.
        place: String,
        /// What it says.
        source: Box<StoreError>,
    },
    /// There is no database where rows should come from.
    #[error("there is no database at {place}")]
    Absent {
        /// Where.
        place: String,
    },
    /// Answers ended all the time while the text of others was looked for.
    #[error("answers end so quickly on {place} that no moment could be caught; try again")]
    Restless {
        /// Which database.
        place: String,
    },
    /// The schema is older than this program's.
    #[error(
        "{place} has schema version {found}, this program works with {known}: bring it up to date with `jarvis migrate schema` (or a start of Jarvis), then try again"
    )]
    OlderSchema {
        /// Which database.
        place: String,
        /// Its version.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// The schema is newer than this program's, which would miss some of it.
    #[error(
        "{place} has schema version {found}, this program knows versions up to {known} and would miss what is new: use the newer program"
    )]
    NewerSchema {
        /// Which database.
        place: String,
        /// Its version.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// Running instances would go on writing where the rows come from.
    #[error(
        "{running} running Jarvis use {place}; stop them first, so that nothing is written meanwhile"
    )]
    InUse {
        /// Which database.
        place: String,
        /// How many.
        running: i64,
    },
    /// Answers had not ended when Jarvis did: the last characters that were shown lie in their log, not among the rows.
    #[error(
        "answers are unfinished in {place} ({answers}); start Jarvis on it once more, let them end, stop it, then move"
    )]
    Unfinished {
        /// Which database.
        place: String,
        /// How many.
        answers: i64,
    },
    /// The target holds rows already.
    #[error(
        "{place} is not empty (there are rows in `{table}`); rows are moved and restored into an empty database only"
    )]
    NotEmpty {
        /// Which database.
        place: String,
        /// A table with rows.
        table: &'static str,
    },
    /// The target is half filled from somewhere else.
    #[error(
        "{place} holds an unfinished move from {source_place}; finish that one, or begin anew with an empty database"
    )]
    OtherMove {
        /// Which database.
        place: String,
        /// Where its rows come from.
        source_place: String,
    },
    /// The target is half filled from the same place, but other tables are to come.
    #[error(
        "{place} holds an unfinished move that began {}; finish it in the same way first, or begin anew with an empty database",
        match part.as_str() {
            "all" => "without `--only`".into(),
            part => format!("with `--only {part}`"),
        }
    )]
    OtherPart {
        /// Which database.
        place: String,
        /// What is being moved: `all`, `main` or `series`.
        part: String,
    },
    /// Another process fills the same target.
    #[error("another process is moving rows into {place}")]
    Contended {
        /// Which database.
        place: String,
    },
    /// What was written is not what was read.
    #[error(transparent)]
    Differs(Box<Difference>),
    /// The archive is there already.
    #[error("{} exists already; choose another name", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not an archive at all.
    #[error("{} is not an archive of Jarvis, or only its first bytes", .0.display())]
    NotAnArchive(PathBuf),
    /// The key does not open it.
    #[error("{} cannot be opened with this {}", path.display(), if *passphrase { "passphrase" } else { "key" })]
    WrongKey {
        /// The archive.
        path: PathBuf,
        /// Whether a passphrase was tried.
        passphrase: bool,
    },
    /// It is locked in the other way.
    #[error(
        "{} is locked with {}, not with {}",
        path.display(),
        if *passphrase { "a passphrase" } else { "a key" },
        if *passphrase { "a key" } else { "a passphrase" }
    )]
    OtherLock {
        /// The archive.
        path: PathBuf,
        /// Whether it wants a passphrase.
        passphrase: bool,
    },
    /// Cut off or changed.
    #[error("{} is damaged or cut off ({what})", path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Made by a later program.
    #[error(
        "{} was made by Jarvis {program} in {what} {found}; this program knows {what}s up to {known}: use the newer program",
        path.display()
    )]
    NewerArchive {
        /// The archive.
        path: PathBuf,
        /// Who made it.
        program: String,
        /// Format or schema.
        what: &'static str,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The machine has no randomness, or the recipients do not go together.
    #[error("the archive cannot be encrypted: {0}")]
    Encrypt(String),
}

/// A table that has not the same rows on two sides.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{table}` differs: {expected} in {expected_in}, {found} in {found_in}. If one was changed meanwhile, that is why; a move begins anew with an empty target"
)]
pub struct Difference {
    /// The table.
    pub table: &'static str,
    /// Where the rows come from.
    pub expected_in: String,
    /// Their count and checksum.
    pub expected: Tally,
    /// Where they should be, too.
    pub found_in: String,
    /// The count and checksum there.
    pub found: Tally,
}

impl From<Difference> for KeepError {
    fn from(difference: Difference) -> Self {
        Self::Differs(Box::new(difference))
    }
}
