//! Following an answer from any byte on: live from the log while it is made, from SQL once it has ended.

use super::task::{HANDED_OVER, goes_on};
use crate::{app::App, messages::UsageBody};
use futures_util::{Stream, stream};
use jarvis_domain::{
    Epoch, Generation, GenerationId, Outcome, Status, UserId,
    durable::{Bases, News, Reader},
    sentence,
};
use jarvis_store::{AnswerEvent, AnswerReader, LogError, StoreError};
use serde::Serialize;
use std::{pin::Pin, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Bytes of text in one event, at most.
const PART: usize = 32 * 1024;
/// How long an unfinished answer may have no writer before its follower is told so: it is begun in SQL a moment before its
/// log is opened. Where other instances may take it up, one waits for them.
const UNATTENDED: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The same once it has lasted.
const LOOK_SELDOM: Duration = Duration::from_millis(250);
const LASTED: Duration = Duration::from_secs(1);
/// After so long without a word from the log of an answer that is made elsewhere, one looks into SQL: its owner may be
/// without a log.
const SILENCE: Duration = Duration::from_secs(1);

/// The code with which a log says that its writer was dropped.
const WRITER_LOST: &str = "writer_lost";

/// What a follower is told, as JSON, on WebSockets and event streams alike.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event {
    /// It waits for a node.
    Queued {
        generation_id: GenerationId,
        position: u32,
        eta_ms: Option<u64>,
    },
    /// More text, from byte `offset` on.
    Delta {
        generation_id: GenerationId,
        epoch: Epoch,
        offset: usize,
        text: String,
    },
    /// The text from its beginning: what the client holds is not a beginning of it.
    Resync {
        generation_id: GenerationId,
        epoch: Epoch,
        offset: usize,
        text: String,
    },
    /// It is whole, or its user stopped it.
    Done {
        generation_id: GenerationId,
        offset: usize,
        usage: Option<UsageBody>,
        status: Status,
    },
    /// It was cut off or failed; the text so far stays. With the status `running` it has not ended, but could not be followed or
    /// kept to its end just now: it is ended or gone on with, from the text so far, as soon as the stores can be used again.
    Interrupted {
        generation_id: GenerationId,
        reason: String,
        message: String,
        status: Status,
    },
}

impl Event {
    /// Its type's name, as on the wire.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Delta { .. } => "delta",
            Self::Resync { .. } => "resync",
            Self::Done { .. } => "done",
            Self::Interrupted { .. } => "interrupted",
        }
    }
}

/// Text that has been read and not yet told.
struct Unsaid {
    text: String,
    /// Where in `text` the next part begins.
    start: usize,
    /// The offset of `text`'s first byte in the answer.
    base: usize,
    resync: bool,
}

enum State {
    /// Looking for where the answer is, since a moment.
    Opening(Option<Instant>),
    Live(AnswerReader),
    /// All text is in [`Follower::unsaid`]; this remains to be told.
    Ending(Outcome),
    Over,
}

/// One who follows one answer.
pub(crate) struct Follower {
    app: App,
    user: UserId,
    id: GenerationId,
    /// What the client holds: what it was told, or has from before.
    held: Reader,
    /// The epoch of the last owner that SQL has told of.
    owner: Epoch,
    unsaid: Option<Unsaid>,
    state: State,
}

impl Follower {
    /// Follows an answer that this user may see, for a client that holds a part of it.
    pub(crate) fn new(app: App, generation: &Generation, mut held: Reader) -> Self {
        if held.epoch > generation.epoch {
            // There has been no such owner: nothing is known of what it holds.
            held.epoch = 0;
        }
        Self {
            app,
            user: generation.user_id,
            id: generation.id,
            held,
            owner: generation.epoch,
            unsaid: None,
            state: State::Opening(None),
        }
    }

    /// The events, each with the bytes that the client holds after it.
    pub(crate) fn events(self) -> Pin<Box<dyn Stream<Item = (Event, Epoch, usize)> + Send>> {
        // It goes from hand to hand with every event.
        let follower = Box::new(self);
        Box::pin(stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await?;
            let place = (event, follower.held.epoch, follower.held.offset);
            Some((place, follower))
        }))
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.say() {
                return Some(event);
            }
            match &mut self.state {
                State::Opening(since) => {
                    let since = *since.get_or_insert_with(Instant::now);
                    self.open(since).await;
                }
                State::Live(reader) => {
                    let elsewhere = self.app.is_shared() && !self.app.generations.is_here(self.id);
                    let next = if elsewhere {
                        timeout(SILENCE, reader.next()).await
                    } else {
                        Ok(reader.next().await)
                    };
                    match next {
                        Ok(event) => {
                            if let Some(event) = self.heard(event) {
                                return Some(event);
                            }
                        }
                        Err(_) => self.look().await,
                    }
                }
                State::Ending(outcome) => {
                    let outcome = outcome.clone();
                    self.state = State::Over;
                    return self.end(outcome);
                }
                State::Over => return None,
            }
        }
    }

    /// What the log has said: an event for the client, if it is one already.
    fn heard(&mut self, event: Option<AnswerEvent>) -> Option<Event> {
        match event {
            Some(AnswerEvent::Text { offset, text }) => self.hear(offset, text),
            Some(AnswerEvent::Resync { text }) => {
                if let State::Live(reader) = &self.state {
                    let bases = reader.bases();
                    self.compare(&bases, text, true);
                }
            }
            Some(AnswerEvent::Away) => self.state = State::Opening(None),
            Some(AnswerEvent::Queued(place)) => {
                return Some(Event::Queued {
                    generation_id: self.id,
                    position: place.position,
                    eta_ms: place.eta_ms,
                });
            }
            Some(AnswerEvent::End(outcome)) if self.goes_on(&outcome) => {
                self.state = State::Opening(None);
            }
            Some(AnswerEvent::End(outcome)) => {
                if let State::Live(reader) = &mut self.state
                    && self.held.offset > reader.reaches()
                {
                    let (bases, text) = (reader.bases(), reader.whole());
                    self.compare(&bases, text, false);
                }
                self.state = State::Ending(outcome);
            }
            None => self.state = State::Over,
        }
        None
    }

    /// Text from the log. The client may hold some of it from SQL, and then from a later owner, too.
    fn hear(&mut self, offset: usize, text: String) {
        let State::Live(reader) = &mut self.state else {
            return;
        };
        if reader.epoch() < self.held.epoch {
            return;
        }
        let Some(known) = self.held.offset.checked_sub(offset) else {
            self.state = State::Opening(None);
            return;
        };
        self.held.epoch = reader.epoch();
        if known < text.len() {
            self.unsaid = Some(if text.is_char_boundary(known) {
                Unsaid {
                    text,
                    start: known,
                    base: offset,
                    resync: false,
                }
            } else {
                whole(reader.whole())
            });
        }
    }

    /// The text as it stands whole: what of it is new to the client. Unless there may be `more` than that, what the client
    /// holds beyond it is no part of the answer.
    fn compare(&mut self, bases: &Bases, text: String, more: bool) {
        let before = self.held.offset;
        let news = if before > text.len() && !more {
            self.held.epoch = bases.epoch();
            News::Resync
        } else {
            self.held.text(bases, text.len())
        };
        match news {
            News::From(base) if text.is_char_boundary(base) => {
                self.unsaid = Some(Unsaid {
                    text,
                    start: base,
                    base: 0,
                    resync: false,
                });
            }
            News::From(_) | News::Resync => self.unsaid = Some(whole(text)),
            News::Nothing | News::Unclear => {}
        }
        // It counts as held when it is said.
        self.held.offset = before;
    }

    /// Whether another instance goes on with it, so that this follower can, too.
    fn goes_on(&self, outcome: &Outcome) -> bool {
        let lost = |error: &jarvis_domain::GenerationError| error.code == WRITER_LOST;
        let left = goes_on(outcome) || outcome.error.as_ref().is_some_and(lost);
        left && self.app.is_shared() && !self.app.stopping.is_cancelled()
    }

    /// The next part of the text that has been read.
    fn say(&mut self) -> Option<Event> {
        let mut unsaid = self.unsaid.take()?;
        let (offset, resync) = (unsaid.base + unsaid.start, unsaid.resync);
        let rest = &unsaid.text[unsaid.start..];
        let end = unsaid.start + rest.floor_char_boundary(PART);
        let text = if end < unsaid.text.len() {
            let part = unsaid.text[unsaid.start..end].to_owned();
            (unsaid.start, unsaid.resync) = (end, false);
            self.unsaid = Some(unsaid);
            part
        } else {
            // The last part, and nearly always the only one.
            unsaid.text.drain(..unsaid.start);
            unsaid.text
        };
        self.held.offset = offset + text.len();
        let (generation_id, epoch) = (self.id, self.held.epoch);
        Some(if resync {
            Event::Resync {
                generation_id,
                epoch,
                offset,
                text,
            }
        } else {
            Event::Delta {
                generation_id,
                epoch,
                offset,
                text,
            }
        })
    }

    /// Finds the answer: in the log, or else in SQL.
    async fn open(&mut self, since: Instant) {
        match self.open_log().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(
                error = sentence(&error),
                "an answer's log could not be read"
            ),
        }
        match self.open_sql().await {
            Ok(true) => {}
            Ok(false) => self.wait(since).await,
            Err(error) if self.app.is_shared() && error.is_outage() => self.wait(since).await,
            Err(error) => {
                tracing::error!(error = sentence(&error), "an answer could not be read");
                self.break_off("store_unavailable", "the database does not answer");
            }
        }
    }

    /// Nobody makes it right now, as far as one sees.
    async fn wait(&mut self, since: Instant) {
        let waited = since.elapsed();
        if waited < UNATTENDED || self.app.is_shared() {
            sleep(if waited < LASTED {
                LOOK_AGAIN
            } else {
                LOOK_SELDOM
            })
            .await;
        } else {
            self.break_off("unattended", "nobody makes this answer right now");
        }
    }

    /// Looks into SQL while the log is silent.
    async fn look(&mut self) {
        if let Err(error) = self.open_sql().await {
            tracing::warn!(error = sentence(&error), "an answer could not be looked at");
        }
    }

    /// Ends what this follower is told; not the answer, of which nobody knows here.
    fn break_off(&mut self, code: &str, message: &str) {
        self.state = State::Ending(Outcome {
            status: Status::Running,
            usage: None,
            error: Some(jarvis_domain::GenerationError {
                code: code.to_owned(),
                message: message.to_owned(),
            }),
        });
    }

    /// True if it is there, and of use.
    async fn open_log(&mut self) -> Result<bool, LogError> {
        let Some(mut reader) = self.app.answers.reader(self.id, self.held.offset).await? else {
            return Ok(false);
        };
        // While it has missed an owner, it may have text which that owner did not find.
        if reader.epoch() < self.owner.max(self.held.epoch) {
            return Ok(false);
        }
        let Reader { epoch, offset } = self.held;
        if offset == reader.offset() && (offset == 0 || epoch == reader.epoch()) {
            self.held.epoch = reader.epoch();
        } else {
            let bases = self.bases(&reader).await;
            if bases.epoch() > reader.epoch() {
                return Ok(false);
            }
            // Where there are several stores, each may be behind what was shown from another one.
            self.compare(&bases, reader.whole(), self.app.is_shared());
        }
        self.state = State::Live(reader);
        Ok(true)
    }

    /// Where the owners began, by SQL if it can say: the log may not know of all.
    async fn bases(&self, reader: &AnswerReader) -> Bases {
        match self.app.db.kept(self.id).await {
            Ok(Some(kept)) if kept.bases.epoch() >= reader.epoch() => kept.bases,
            _ => reader.bases(),
        }
    }

    /// What SQL has of it beyond what the client holds. True if it has ended, so that SQL has all of it.
    async fn open_sql(&mut self) -> Result<bool, StoreError> {
        // First how it stands, then its text: what has ended does not change.
        let Some(generation) = self.app.db.generation(self.user, self.id).await? else {
            self.state = State::Over;
            return Ok(true);
        };
        let Some(kept) = self.app.db.kept(self.id).await? else {
            self.state = State::Over;
            return Ok(true);
        };
        let live = generation.status.is_live();
        self.owner = generation.epoch;
        // Of an answer that is being made SQL may be behind; what the client holds is then no other text.
        self.compare(&kept.bases, kept.text, live);
        if live {
            return Ok(false);
        }
        self.held.epoch = generation.epoch;
        self.state = State::Ending(Outcome {
            status: generation.status,
            usage: generation.usage,
            error: generation.error,
        });
        Ok(true)
    }

    /// The last event; none where another process goes on, to which the client comes by reconnecting.
    fn end(&self, outcome: Outcome) -> Option<Event> {
        let generation_id = self.id;
        let status = outcome.status;
        if matches!(status, Status::Done | Status::Stopped) {
            return Some(Event::Done {
                generation_id,
                offset: self.held.offset,
                usage: outcome.usage.map(Into::into),
                status,
            });
        }
        let (reason, message) = outcome
            .error
            .map_or_else(Default::default, |error| (error.code, error.message));
        (reason != HANDED_OVER).then_some(Event::Interrupted {
            generation_id,
            reason,
            message,
            status,
        })
    }
}

/// The text from its beginning, in place of what the client holds.
fn whole(text: String) -> Unsaid {
    Unsaid {
        text,
        start: 0,
        base: 0,
        resync: true,
    }
}
