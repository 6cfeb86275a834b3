//! The few words that SQLite and PostgreSQL do not share.

/// A statement in both dialects; most read the same in each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

impl From<&'static str> for Text {
    fn from(both: &'static str) -> Self {
        Self {
            sqlite: both,
            postgres: both,
        }
    }
}

/// A statement with words between its pieces that each engine has its own of:
///
/// | word | meaning |
/// |---|---|
/// | `now` | the database's own clock, microseconds since 1970, as it runs on within a transaction (SQLite: to the millisecond) |
/// | `bytes` | the type of a column of bytes |
/// | `for_update` | at the end of a `SELECT` in a transaction: nobody else changes these rows until it ends |
/// | `server` | this run of the database's server, a number; 0 of SQLite, which has none |
/// | `json_each` | the elements of the JSON array `$1`, as rows with a column `value` |
/// | `skip_locked` | as `for_update`, but rows that somebody else holds are left out |
///
/// `sql!["SELECT id FROM t WHERE due <= ", now, for_update]`
macro_rules! sql {
    (@sqlite now) => { "CAST(unixepoch('subsec') * 1000000 AS INTEGER)" };
    (@postgres now) => { "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)" };
    (@sqlite bytes) => { "BLOB" };
    (@postgres bytes) => { "BYTEA" };
    // SQLite has one writing transaction at a time.
    (@sqlite for_update) => { "" };
    (@postgres for_update) => { " FOR UPDATE" };
    (@sqlite skip_locked) => { "" };
    (@postgres skip_locked) => { " FOR UPDATE SKIP LOCKED" };
    (@sqlite server) => { "0" };
    (@postgres server) => { "CAST(EXTRACT(EPOCH FROM pg_postmaster_start_time()) * 1000000 AS BIGINT)" };
    (@sqlite json_each) => { "json_each($1)" };
    (@postgres json_each) => { "json_array_elements(CAST($1 AS json))" };
    (@$engine:ident $same:literal) => { $same };
    ($($piece:tt),+ $(,)?) => {
        $crate::sql::dialect::Text {
            sqlite: concat!($($crate::sql::dialect::sql!(@sqlite $piece)),+),
            postgres: concat!($($crate::sql::dialect::sql!(@postgres $piece)),+),
        }
    };
}
pub(crate) use sql;
