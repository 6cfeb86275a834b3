//! Answers in Redis: one stream per generation, `<prefix>:{<generation>}:log`.
//!
//! An acknowledged `XADD` is what allows text to be shown. Entries are numbered `<epoch>-<n>`, so that Redis itself refuses an
//! owner that has been followed by another. Their fields:
//!
//! | entry | fields |
//! |---|---|
//! | an owner takes the log up | `c` |
//! | text | `b` the owner's base, `o` offset, `t` text, `k` tokens of the answer up to here |
//! | the decided end | `b`, `o`, `t` (empty), `k`, `e` outcome (JSON) |
//! | the end as shown: SQL has it | `s` outcome (JSON) |
//!
//! After each of them its number goes out on the shard channel of the same name, as a hint to readers elsewhere.

use super::LogError;
use crate::shared::{Redis, RedisFault, Reply, Standing, text};
use jarvis_domain::{
    Epoch, GenerationId, Outcome,
    durable::{self, Logged},
};
use redis::{Pipeline, Value};
use std::{fmt, sync::Arc, time::Duration};

/// How long a log stays that nobody takes up any more.
pub(super) const FORGOTTEN: Duration = Duration::from_hours(24);
/// How long a log stays after its end: those who follow it elsewhere still read from it, and later ones from SQL.
pub(super) const ENDED: Duration = Duration::from_mins(10);
/// How Redis refuses an entry that is not the newest. It has no code for that.
const LATE: &str = "equal or smaller";
/// Entries read at once.
const PAGE: usize = 512;

/// The number of an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) epoch: Epoch,
    pub(super) n: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.n)
    }
}

/// An entry as it was read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) said: Said,
}

/// What an entry says.
#[derive(Debug)]
pub(super) enum Said {
    /// An owner takes the log up.
    Mine,
    /// Text, or how it ended.
    Part(durable::Entry),
    /// Readers were told that it has ended.
    Shown(Outcome),
}

/// What a stream holds, all told.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) last: EntryId,
    pub(super) logged: Logged,
    pub(super) shown: Option<Outcome>,
}

impl Stored {
    fn take(&mut self, entry: Entry) {
        self.last = entry.id;
        match entry.said {
            Said::Mine => {}
            Said::Part(part) => self.logged.add(part),
            Said::Shown(outcome) => self.shown = Some(outcome),
        }
    }
}

/// Part of a stream.
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    /// Whether there is a stream at all.
    pub(super) exists: bool,
}

impl Page {
    /// Whether there may be more.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= PAGE
    }
}

/// The streams of an installation.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) redis: Redis,
    pub(super) follows: super::follow::Follows,
}

impl Streams {
    pub(super) fn new(redis: Redis) -> Arc<Self> {
        let follows = super::follow::Follows::default();
        Arc::new(Self { redis, follows })
    }

    /// The key of a stream, and the name of its channel.
    pub(super) fn key(&self, id: GenerationId) -> String {
        self.redis.name(format_args!("{{{id}}}:log"))
    }

    /// Makes `id` the newest entry, so that whoever came before is refused from now on, and reads what there is.
    /// [`LogError::Fenced`] if there is a later owner.
    pub(super) async fn take_up(
        &self,
        key: &str,
        id: EntryId,
    ) -> Result<(Stored, Standing), LogError> {
        let mut ask = redis::pipe();
        ask.cmd("XADD")
            .arg(key)
            .arg(id.to_string())
            .arg("c")
            .arg("");
        ask.cmd("PEXPIRE").arg(key).arg(millis(FORGOTTEN));
        range(&mut ask, key, EntryId::default());
        let mut reply = self.redis.ask(key, &ask).await?;
        let standing = reply.standing.clone();
        let mut stored = Stored::default();
        loop {
            let entries = entries(&reply)?;
            let more = entries.len() >= PAGE;
            for entry in entries {
                stored.take(entry);
            }
            if !more {
                break;
            }
            let mut ask = redis::pipe();
            range(&mut ask, key, stored.last);
            // Over the same connection: it is the same server still.
            reply = self.redis.ask_at(key, &standing, &ask).await?;
        }
        if stored.last.epoch > id.epoch {
            return Err(LogError::Fenced);
        }
        if stored.last < id {
            // Taken away since.
            return Err(RedisFault::foreign(standing.node()).into());
        }
        Ok((stored, standing))
    }

    /// Adds an entry: only to a stream that is there, and only over the connection on which it was taken up, which a
    /// restarted server does not have.
    pub(super) async fn add(
        &self,
        key: &str,
        standing: &Standing,
        entry: &Pipeline,
    ) -> Result<(), LogError> {
        let reply = self.redis.ask_at(key, standing, entry).await?;
        match reply.values.first() {
            Some(Value::BulkString(_) | Value::SimpleString(_)) => Ok(()),
            // By its number: there is a later one, and it is not ours, for ours are used once.
            Some(Value::ServerError(error))
                if error.details().is_some_and(|why| why.contains(LATE)) =>
            {
                Err(LogError::Fenced)
            }
            Some(Value::ServerError(error)) => {
                let why = error.details().unwrap_or_default();
                Err(RedisFault::refused(standing.node(), why).into())
            }
            _ => Err(RedisFault::foreign(standing.node()).into()),
        }
    }

    /// What comes after an entry.
    pub(super) async fn page(&self, key: &str, after: EntryId) -> Result<Page, RedisFault> {
        let mut ask = redis::pipe();
        ask.cmd("EXISTS").arg(key);
        range(&mut ask, key, after);
        let reply = self.redis.ask(key, &ask).await?;
        let exists = matches!(reply.values.first(), Some(Value::Int(1)));
        let entries = entries(&reply)?;
        Ok(Page { entries, exists })
    }

    /// What a stream holds; `None` where there is none.
    pub(super) async fn read(&self, id: GenerationId) -> Result<Option<Stored>, RedisFault> {
        let key = self.key(id);
        let mut stored = Stored::default();
        loop {
            let page = self.page(&key, stored.last).await?;
            if !page.exists {
                return Ok(None);
            }
            let more = page.is_full();
            for entry in page.entries {
                stored.take(entry);
            }
            if !more {
                return Ok(Some(stored));
            }
        }
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn range(ask: &mut Pipeline, key: &str, after: EntryId) {
    ask.cmd("XRANGE").arg(key).arg(format!("({after}")).arg("+");
    ask.arg("COUNT").arg(PAGE);
}

/// The entries that the last command was answered by.
fn entries(reply: &Reply) -> Result<Vec<Entry>, RedisFault> {
    let foreign = || RedisFault::foreign(reply.standing.node());
    let Some(Value::Array(entries)) = reply.values.last() else {
        return Err(foreign());
    };
    entries
        .iter()
        .map(|entry| read_entry(entry).ok_or_else(foreign))
        .collect()
}

/// `None` for what we have not written.
fn read_entry(entry: &Value) -> Option<Entry> {
    let Value::Array(entry) = entry else {
        return None;
    };
    let [id, Value::Array(fields)] = &entry[..] else {
        return None;
    };
    let (epoch, n) = text(id)?.split_once('-')?;
    let id = EntryId {
        epoch: epoch.parse().ok()?,
        n: n.parse().ok()?,
    };
    let mut part = durable::Entry {
        epoch: id.epoch,
        base: 0,
        offset: 0,
        text: String::new(),
        tokens: 0,
        end: None,
    };
    let mut said = Said::Mine;
    for field in fields.chunks_exact(2) {
        let value = text(&field[1])?;
        match text(&field[0])? {
            "b" => part.base = value.parse().ok()?,
            "o" => part.offset = value.parse().ok()?,
            "t" => value.clone_into(&mut part.text),
            "k" => part.tokens = value.parse().ok()?,
            "e" => part.end = Some(serde_json::from_str(value).ok()?),
            "s" => said = Said::Shown(serde_json::from_str(value).ok()?),
            _ => {}
        }
    }
    // Every part has a text, if an empty one.
    if fields.first().and_then(text) == Some("b") {
        said = Said::Part(part);
    }
    Some(Entry { id, said })
}
