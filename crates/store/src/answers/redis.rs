//! The writer of an answer whose log is a stream in Redis.
//!
//! While the stream's master is away, nothing can be logged: text is kept here, unshown, until SQL has taken it. After that
//! the stream alone does not prove that this is the owner still: a server may come back with less than it had acknowledged,
//! the entry of a later owner included. So the log is first taken up again, which refuses earlier owners, then SQL must take
//! a commit under this owner's epoch, and only then the log is written to, beginning with what it lacks.

use super::{
    LogError,
    live::Live,
    stream::{ENDED, EntryId, Stored, Streams, millis},
};
use crate::shared::{RedisFault, Standing};
use jarvis_domain::{Epoch, GenerationId, Outcome, durable::Bases};
use redis::Pipeline;
use std::sync::Arc;

/// The log as it was taken up, over one connection.
#[derive(Debug, Clone)]
struct Hold {
    standing: Standing,
    /// The bytes of the answer that it holds.
    reaches: usize,
}

/// What a writer stands on.
#[derive(Debug)]
enum Footing {
    /// The log.
    Log(Hold),
    /// Nothing: SQL must take what is unshown. The log may have been taken up again; that this is the owner still, only a
    /// commit from then on proves.
    Lost {
        fault: RedisFault,
        hold: Option<Hold>,
    },
    /// There is a later owner.
    Fenced,
}

/// The one writer of an answer's stream.
#[derive(Debug)]
pub(super) struct StreamWriter {
    streams: Arc<Streams>,
    key: String,
    epoch: Epoch,
    /// The number of the next entry. None is used twice, whatever became of it.
    next: u64,
    bases: Bases,
    tokens: u64,
    /// Given to be shown, and neither logged nor committed as far as is known.
    pending: String,
    footing: Footing,
}

/// A stream that was taken up.
#[derive(Debug)]
pub(super) struct StreamHold {
    streams: Arc<Streams>,
    key: String,
    epoch: Epoch,
    standing: Standing,
    pub(super) stored: Stored,
}

impl Streams {
    /// Takes up the writing of an answer.
    pub(super) async fn hold(
        self: &Arc<Self>,
        id: GenerationId,
        epoch: Epoch,
    ) -> Result<StreamHold, LogError> {
        let key = self.key(id);
        let (stored, standing) = self.take_up(&key, EntryId { epoch, n: 0 }).await?;
        Ok(StreamHold {
            streams: Arc::clone(self),
            key,
            epoch,
            standing,
            stored,
        })
    }

    /// A writer without a log, for now.
    pub(super) fn writer_away(
        self: &Arc<Self>,
        id: GenerationId,
        epoch: Epoch,
        bases: Bases,
        tokens: u64,
    ) -> StreamWriter {
        StreamWriter {
            streams: Arc::clone(self),
            key: self.key(id),
            epoch,
            next: 0,
            bases,
            tokens,
            pending: String::new(),
            footing: Footing::Lost {
                fault: RedisFault::Unserved,
                hold: None,
            },
        }
    }
}

impl StreamHold {
    /// The writer; the first `reaches` bytes of its text lie in the log.
    pub(super) fn writer(self, bases: Bases, tokens: u64, reaches: usize) -> StreamWriter {
        let mut writer = StreamWriter {
            streams: self.streams,
            key: self.key,
            epoch: self.epoch,
            next: 0,
            bases,
            tokens,
            pending: String::new(),
            footing: Footing::Log(Hold {
                standing: self.standing,
                reaches,
            }),
        };
        writer.note(&self.stored);
        writer
    }
}

impl StreamWriter {
    /// What is kept back.
    pub(super) fn pending(&self) -> &str {
        &self.pending
    }

    pub(super) fn is_away(&self) -> bool {
        matches!(self.footing, Footing::Lost { .. })
    }

    /// Logs all that is kept back and `text`, then shows it.
    pub(super) async fn append(
        &mut self,
        live: &Live,
        text: &str,
        tokens: u64,
    ) -> Result<(), LogError> {
        self.pending.push_str(text);
        self.tokens = tokens;
        let done = self.flush(live).await;
        self.learn(done)
    }

    /// Takes the log up again: how much of the text, what is kept back included, it holds.
    pub(super) async fn take_up(&mut self, live: &Live) -> Result<usize, LogError> {
        if let Footing::Fenced = self.footing {
            return Err(LogError::Fenced);
        }
        let id = self.next_id();
        let taken = self.streams.take_up(&self.key, id).await;
        let (stored, standing) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                self.lose(&error);
                return Err(error);
            }
        };
        self.note(&stored);
        let agreed = self
            .bases
            .agreed(stored.logged.epoch, stored.logged.text.len());
        let reaches = agreed.min(live.len() + self.pending.len());
        let fault = match &self.footing {
            Footing::Lost { fault, .. } => fault.clone(),
            Footing::Log(_) | Footing::Fenced => RedisFault::Unserved,
        };
        let hold = Some(Hold { standing, reaches });
        self.footing = Footing::Lost { fault, hold };
        Ok(reaches)
    }

    /// SQL has the first `to` bytes: shows them.
    pub(super) fn show_committed(&mut self, live: &Live, to: usize) {
        let more = to.saturating_sub(live.len()).min(self.pending.len());
        if more > 0 {
            let rest = self
                .pending
                .split_off(self.pending.floor_char_boundary(more));
            live.push(&std::mem::replace(&mut self.pending, rest));
        }
    }

    /// A commit that began after the log was taken up has succeeded: this is the owner still.
    pub(super) fn proven(&mut self) {
        if let Footing::Lost { hold, .. } = &mut self.footing
            && let Some(hold) = hold.take()
        {
            self.footing = Footing::Log(hold);
        }
    }

    /// Writes down how it ended.
    pub(super) async fn decide(&mut self, live: &Live, outcome: &Outcome) -> Result<(), LogError> {
        let json = json(outcome)?;
        let done = self.add_end(live, |writer| {
            let mut entry = writer.entry(live.len(), "");
            entry.arg("e").arg(json);
            entry
        });
        let done = done.await;
        self.learn(done)
    }

    /// Tells readers elsewhere that it has ended.
    pub(super) async fn show_end(
        &mut self,
        live: &Live,
        outcome: &Outcome,
    ) -> Result<(), LogError> {
        let json = json(outcome)?;
        let done = self.add_end(live, |writer| {
            let mut entry = writer.numbered();
            entry.arg("s").arg(json);
            entry
        });
        let done = done.await;
        self.learn(done)
    }

    /// Lets the stream go, after a while.
    pub(super) async fn expire(&self) -> Result<(), LogError> {
        let mut ask = redis::pipe();
        ask.cmd("PEXPIRE").arg(&self.key).arg(millis(ENDED));
        self.streams.redis.ask(&self.key, &ask).await?;
        Ok(())
    }

    /// Tells readers elsewhere something that is not worth logging; it may get lost.
    pub(super) async fn hint(&self, what: &str) {
        if let Footing::Log(hold) = &self.footing {
            let mut ask = redis::pipe();
            ask.cmd("SPUBLISH").arg(&self.key).arg(what);
            let _ = self
                .streams
                .redis
                .ask_at(&self.key, &hold.standing, &ask)
                .await;
        }
    }

    async fn flush(&mut self, live: &Live) -> Result<(), LogError> {
        let hold = self.hold()?;
        let shown = live.len();
        if hold.reaches < shown + self.pending.len() {
            let entry = if hold.reaches == shown {
                self.entry(shown, &self.pending)
            } else {
                let all = live.with_text(|text| format!("{text}{}", self.pending));
                self.entry(hold.reaches, all.get(hold.reaches..).unwrap_or_default())
            };
            self.add(&hold.standing, entry).await?;
            self.reached(shown + self.pending.len());
        }
        if !self.pending.is_empty() {
            live.push(&self.pending);
            self.pending.clear();
        }
        Ok(())
    }

    /// After all text, what `entry` makes.
    async fn add_end(
        &mut self,
        live: &Live,
        entry: impl FnOnce(&Self) -> Pipeline,
    ) -> Result<(), LogError> {
        self.flush(live).await?;
        let (hold, entry) = (self.hold()?, entry(self));
        self.add(&hold.standing, entry).await
    }

    fn hold(&self) -> Result<Hold, LogError> {
        match &self.footing {
            Footing::Log(hold) => Ok(hold.clone()),
            Footing::Lost { fault, .. } => Err(fault.clone().into()),
            Footing::Fenced => Err(LogError::Fenced),
        }
    }

    fn reached(&mut self, to: usize) {
        if let Footing::Log(hold) = &mut self.footing {
            hold.reaches = to;
        }
    }

    fn note(&mut self, stored: &Stored) {
        if stored.last.epoch == self.epoch {
            self.next = self.next.max(stored.last.n + 1);
        }
    }

    async fn add(&mut self, standing: &Standing, mut entry: Pipeline) -> Result<(), LogError> {
        entry
            .cmd("SPUBLISH")
            .arg(&self.key)
            .arg(self.next_id().to_string());
        self.next += 1;
        self.streams.add(&self.key, standing, &entry).await
    }

    fn entry(&self, offset: usize, text: &str) -> Pipeline {
        let mut entry = self.numbered();
        entry.arg("b").arg(self.bases.base()).arg("o").arg(offset);
        entry.arg("t").arg(text).arg("k").arg(self.tokens);
        entry
    }

    fn numbered(&self) -> Pipeline {
        let mut entry = redis::pipe();
        entry
            .cmd("XADD")
            .arg(&self.key)
            .arg("NOMKSTREAM")
            .arg(self.next_id().to_string());
        entry
    }

    fn next_id(&self) -> EntryId {
        EntryId {
            epoch: self.epoch,
            n: self.next,
        }
    }

    /// What was stood on stands no more after an error.
    fn learn(&mut self, done: Result<(), LogError>) -> Result<(), LogError> {
        if let (Err(error), Footing::Log(_)) = (&done, &self.footing) {
            self.lose(error);
        }
        done
    }

    fn lose(&mut self, error: &LogError) {
        match error {
            LogError::Fenced => self.footing = Footing::Fenced,
            LogError::Away(fault) => {
                let fault = fault.clone();
                self.footing = Footing::Lost { fault, hold: None };
            }
            LogError::Full(_) | LogError::Io(_) => {}
        }
    }
}

fn json(outcome: &Outcome) -> Result<String, LogError> {
    Ok(serde_json::to_string(outcome).map_err(std::io::Error::from)?)
}
