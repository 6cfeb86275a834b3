//! An archive: lines of JSON, compressed (gzip), encrypted (age). Nothing of it is ever on a disk in the clear, and a person with the
//! key can read it without Jarvis: `age -d FILE | gunzip`.
//!
//! ```text
//! {"jarvis_backup":1,"program":"0.1.0","schema":5,"taken_at":"2026-11-22T10:27:45.123456Z"}
//! {"table":"users","columns":["id","email",…]}
//! ["0199…","ada@example.org",…]
//! {"rows":1,"checksum":"…"}
//! {"table":"invites",…}
//! …
//! {"end":true}
//! ```
//!
//! age authenticates every piece and its place, so that a change, a lost piece and a cut-off end are noticed; the counts and checksums
//! guard what went in against what comes out of a database.

mod lock;
mod read;
mod write;

pub use lock::{Key, KeyError, Lock};
use lock::{LockError, OpenError};
pub(super) use read::{Line, Reader};
pub(super) use write::Writer;

use jarvis_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the format.
pub(super) const FORMAT: i64 = 1;

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) jarvis_backup: i64,
    pub(super) program: String,
    pub(super) schema: i64,
    pub(super) taken_at: Timestamp,
}

/// Any line that is not a row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Mark {
    Table { table: String, columns: Vec<String> },
    Sum { rows: u64, checksum: String },
    End { end: bool },
}
