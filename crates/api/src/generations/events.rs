//! Following an answer from any byte on: live from the log while it is made, from SQL once it has ended.

use super::task::HANDED_OVER;
use crate::{app::App, messages::UsageBody};
use futures_util::{Stream, stream};
use jarvis_domain::{Epoch, Generation, GenerationId, Status, UserId, sentence};
use jarvis_store::{AnswerEvent, AnswerReader, Outcome};
use serde::Serialize;
use std::{pin::Pin, time::Duration};
use tokio::time::{Instant, sleep};

/// Bytes of text in one event, at most.
const PART: usize = 32 * 1024;
/// How long an unfinished answer may have no writer before its follower is told so: it is begun in SQL a moment before its
/// log is opened.
const UNATTENDED: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
    /// It was cut off or failed; the text so far stays.
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
    epoch: Epoch,
    /// Bytes told, or held by the client from before.
    offset: usize,
    unsaid: Option<Unsaid>,
    state: State,
}

impl Follower {
    /// Follows an answer that this user may see, for a client that holds `offset` bytes of it.
    pub(crate) fn new(app: App, generation: &Generation, offset: usize) -> Self {
        Self {
            app,
            user: generation.user_id,
            id: generation.id,
            epoch: generation.epoch,
            offset,
            unsaid: None,
            state: State::Opening(None),
        }
    }

    /// The events, each with the bytes that the client holds after it.
    pub(crate) fn events(self) -> Pin<Box<dyn Stream<Item = (Event, Epoch, usize)> + Send>> {
        Box::pin(stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            let place = (event, follower.epoch, follower.offset);
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
                State::Live(reader) => match reader.next().await {
                    Some(AnswerEvent::Text { offset, text }) => {
                        self.unsaid = Some(Unsaid {
                            text,
                            start: 0,
                            base: offset,
                            resync: false,
                        });
                    }
                    Some(AnswerEvent::Queued(place)) => {
                        return Some(Event::Queued {
                            generation_id: self.id,
                            position: place.position,
                            eta_ms: place.eta_ms,
                        });
                    }
                    Some(AnswerEvent::End(outcome)) => self.state = State::Ending(outcome),
                    None => self.state = State::Over,
                },
                State::Ending(outcome) => {
                    let outcome = outcome.clone();
                    self.state = State::Over;
                    return self.end(outcome);
                }
                State::Over => return None,
            }
        }
    }

    /// The next part of the text that has been read.
    fn say(&mut self) -> Option<Event> {
        let unsaid = self.unsaid.as_mut()?;
        let rest = &unsaid.text[unsaid.start..];
        let text = rest[..rest.floor_char_boundary(PART)].to_owned();
        let offset = unsaid.base + unsaid.start;
        unsaid.start += text.len();
        self.offset = offset + text.len();
        let (generation_id, epoch) = (self.id, self.epoch);
        let event = if std::mem::take(&mut unsaid.resync) {
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
        };
        if unsaid.start >= unsaid.text.len() {
            self.unsaid = None;
        }
        Some(event)
    }

    /// Finds the answer: in the log, or else in SQL.
    async fn open(&mut self, since: Instant) {
        if self.open_log() {
            return;
        }
        match self.open_sql().await {
            Ok(true) => {}
            Ok(false) if since.elapsed() < UNATTENDED => sleep(LOOK_AGAIN).await,
            Ok(false) => self.break_off("unattended", "nobody makes this answer right now"),
            Err(error) => {
                tracing::error!(error = sentence(&error), "an answer could not be read");
                self.break_off("store_unavailable", "the database does not answer");
            }
        }
    }

    fn break_off(&mut self, code: &str, message: &str) {
        self.state = State::Ending(Outcome {
            status: Status::Interrupted,
            usage: None,
            error: Some(jarvis_domain::GenerationError {
                code: code.to_owned(),
                message: message.to_owned(),
            }),
        });
    }

    fn open_log(&mut self) -> bool {
        let Some(reader) = self.app.answers.reader(self.id, self.offset) else {
            return false;
        };
        self.epoch = reader.epoch();
        if reader.offset() == self.offset {
            self.state = State::Live(reader);
            return true;
        }
        let Some(text) = self.app.answers.text(self.id) else {
            return false;
        };
        let Some(reader) = self.app.answers.reader(self.id, text.len()) else {
            return false;
        };
        self.unsaid = Some(whole(text));
        self.state = State::Live(reader);
        true
    }

    /// True if it has ended, so that SQL has all of it.
    async fn open_sql(&mut self) -> Result<bool, jarvis_store::StoreError> {
        let Some(generation) = self.app.db.generation(self.user, self.id).await? else {
            self.state = State::Over;
            return Ok(true);
        };
        if generation.status.is_live() {
            return Ok(false);
        }
        let message = self
            .app
            .db
            .message(generation.conversation_id, generation.message_id)
            .await?;
        let text = message.map(|message| message.content).unwrap_or_default();
        self.epoch = generation.epoch;
        if !text.is_char_boundary(self.offset) {
            self.unsaid = Some(whole(text));
        } else if self.offset < text.len() {
            self.unsaid = Some(Unsaid {
                text: text[self.offset..].to_owned(),
                start: 0,
                base: self.offset,
                resync: false,
            });
        }
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
                offset: self.offset,
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
