//! `[store]`: the database and the answer log.

use crate::{Problem, Secret, address::host_and_port, text::written_as_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf, str::FromStr};

/// The database and the answer log.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSection {
    /// The PostgreSQL database, as `postgres://jarvis@db1:5432,db2:5432/jarvis`: every server that may be the primary.
    /// Unset: a SQLite file in the data directory.
    pub url: Option<PostgresUrl>,
    /// The password of the user in `url`.
    pub password: Option<Secret>,
    /// A file that holds `password`.
    pub password_file: Option<PathBuf>,
    /// Connections to one PostgreSQL server at most.
    pub connections: u32,
    /// Seconds after which a query is counted and logged as slow.
    pub slow_query_seconds: u64,
    /// Seconds a query may take, or wait for a connection, before the database counts as unavailable.
    pub query_deadline_seconds: u64,
    /// What a power cut may take of the SQLite file and the answer log. A killed process loses nothing either way.
    pub synchronous: Synchronous,
}

/// When written data is forced to the disk itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// At checkpoints: a power cut may take the last moments, never the consistency.
    #[default]
    Normal,
    /// At every commit and before a character is shown: slower, a power cut takes nothing
    /// acknowledged.
    Full,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: None,
            password: None,
            password_file: None,
            connections: 10,
            slow_query_seconds: 1,
            query_deadline_seconds: 5,
            synchronous: Synchronous::default(),
        }
    }
}

impl StoreSection {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        if !(2..=1000).contains(&self.connections) {
            problems.push(Problem::new("store.connections", "must be from 2 to 1000"));
        }
        let seconds = [
            ("store.slow_query_seconds", self.slow_query_seconds),
            ("store.query_deadline_seconds", self.query_deadline_seconds),
        ];
        for (key, value) in seconds {
            if !(1..=600).contains(&value) {
                problems.push(Problem::new(key, "must be from 1 to 600"));
            }
        }
    }
}

/// Where a PostgreSQL database is, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresUrl {
    /// Names or IP addresses, with ports; at least one.
    pub hosts: Vec<(String, u16)>,
    /// Who signs in.
    pub user: String,
    /// The database's name.
    pub database: String,
}

/// What is wrong with a [`PostgresUrl`]; never repeats it, for it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not of the form at all.
    #[error("write it as postgres://user@host:5432,other:5432/database")]
    Form,
    /// A password between user and host.
    #[error("must not hold the password; give it as `store.password` or `store.password_file`")]
    Password,
    /// Something after the database.
    #[error("takes no parameters (`?…`)")]
    Parameters,
}

impl FromStr for PostgresUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or(UrlError::Form)?;
        let (user, rest) = rest.rsplit_once('@').ok_or(UrlError::Form)?;
        if user.contains(':') {
            return Err(UrlError::Password);
        }
        if rest.contains('?') {
            return Err(UrlError::Parameters);
        }
        let (hosts, database) = rest.split_once('/').ok_or(UrlError::Form)?;
        let hosts: Option<Vec<_>> = hosts.split(',').map(server).collect();
        let (user, database) = (decoded(user), decoded(database));
        match (user, hosts, database) {
            (Some(user), Some(hosts), Some(database)) => Ok(Self {
                hosts,
                user,
                database,
            }),
            _ => Err(UrlError::Form),
        }
    }
}

/// A server, by default at PostgreSQL's own port.
fn server(text: &str) -> Option<(String, u16)> {
    let (host, port) = host_and_port(text)?;
    Some((host.to_owned(), port.unwrap_or(5432)))
}

/// A part of the URL with its `%xx` resolved; `None` if it is empty or no text.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut pieces = part.split('%');
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@", encoded(&self.user))?;
        for (index, (name, port)) in self.hosts.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if name.contains(':') {
                write!(f, "{comma}[{name}]:{port}")?;
            } else {
                write!(f, "{comma}{name}:{port}")?;
            }
        }
        write!(f, "/{}", encoded(&self.database))
    }
}

fn encoded(part: &str) -> String {
    part.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

written_as_text!(PostgresUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_user_and_database_and_reads_back() {
        let url: PostgresUrl = "postgresql://a%40b@db1,10.0.0.2:6432,[::1]:5433/jar%20vis"
            .parse()
            .unwrap();
        let hosts = [("db1", 5432), ("10.0.0.2", 6432), ("::1", 5433)];
        assert_eq!(url.hosts, hosts.map(|(name, port)| (name.to_owned(), port)));
        assert_eq!((&*url.user, &*url.database), ("a@b", "jar vis"));
        assert_eq!(
            url.to_string(),
            "postgres://a%40b@db1:5432,10.0.0.2:6432,[::1]:5433/jar%20vis"
        );
        assert_eq!(url.to_string().parse(), Ok(url));
    }

    #[test]
    fn other_text_is_refused_and_not_repeated() {
        for (text, why) in [
            ("postgres://jarvis:hush@db/jarvis", UrlError::Password),
            ("postgres://jarvis:hu@sh@db/jarvis", UrlError::Password),
            (
                "postgres://jarvis@db/jarvis?sslmode=require",
                UrlError::Parameters,
            ),
            ("mysql://jarvis@db/jarvis", UrlError::Form),
            ("postgres://db/jarvis", UrlError::Form),
            ("postgres://@db/jarvis", UrlError::Form),
            ("postgres://jarvis@/jarvis", UrlError::Form),
            ("postgres://jarvis@db", UrlError::Form),
            ("postgres://jarvis@db/", UrlError::Form),
            ("postgres://jarvis@db:0/jarvis", UrlError::Form),
            ("postgres://jarvis@db:99999/jarvis", UrlError::Form),
            ("postgres://jarvis@db,/jarvis", UrlError::Form),
            ("postgres://jarvis@[::1/jarvis", UrlError::Form),
            ("postgres://jarvis@[x]/jarvis", UrlError::Form),
            ("postgres://jarvis@d b/jarvis", UrlError::Form),
            ("postgres://jarvis@db/a%0", UrlError::Form),
            ("postgres://jarvis@db/a%00", UrlError::Form),
        ] {
            assert_eq!(text.parse::<PostgresUrl>(), Err(why), "{text}");
            assert!(!why.to_string().contains("hush"));
        }
    }
}
