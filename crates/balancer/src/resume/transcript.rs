//! What a client has been sent of one streamed answer.

use super::{
    Broken, Cause, Dialect, Limits,
    broken::message,
    frame::{Frames, records},
    hidden::{Shown, span},
    record::Record,
    text::{Malformed, says_something, text_of, unescape},
    unread::{Unread, ordinary},
};
use bytes::Bytes;
use jarvis_protocol::{
    ollama::Metrics,
    openai::{DONE, Usage},
};
use std::ops::Range;

/// How an answer ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// `stop`, `length`, … as the dialect says it; empty if it did not say.
    pub(crate) reason: String,
    /// The figures, durations in nanoseconds, 0 where nobody said; the OpenAI dialect has tokens alone, and only if they were asked for.
    pub(crate) metrics: Metrics,
}

/// What every chunk of one stream of the OpenAI dialect repeats, and what the Ollama dialect says of its last record.
#[derive(Debug, Default, Clone)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) fingerprint: String,
    /// Unix seconds, or the last record's RFC 3339 time.
    pub(super) created: String,
}

/// What the client has been sent of one streamed answer.
///
/// Push every chunk of the node's body through it and forward what comes back, after the response's head is known to be a
/// success of this dialect.
#[derive(Debug)]
pub(crate) struct Transcript {
    dialect: Dialect,
    limits: Limits,
    frames: Frames,
    unread: Unread,
    text: String,
    thoughts: String,
    tokens: Vec<i32>,
    /// Records with text that came without token ids.
    untold: u32,
    pieces: u32,
    head: Option<Box<Head>>,
    begun: bool,
    flags: Flags,
    hide: bool,
    finish: Option<Box<End>>,
    ended: bool,
}

/// What makes going on impossible.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations")]
pub(super) struct Flags {
    pub(super) thought: bool,
    pub(super) calls: bool,
    pub(super) logprobs: bool,
    pub(super) several: bool,
    pub(super) too_long: bool,
    pub(super) no_text: bool,
}

impl Transcript {
    /// Of an answer that has not begun.
    pub(crate) fn new(dialect: Dialect, limits: Limits) -> Self {
        Self {
            dialect,
            limits,
            frames: Frames::new(dialect.into(), limits.record),
            unread: Unread::default(),
            text: String::new(),
            thoughts: String::new(),
            tokens: Vec::new(),
            untold: 0,
            pieces: 0,
            head: None,
            begun: false,
            flags: Flags::default(),
            hide: false,
            finish: None,
            ended: false,
        }
    }

    /// The node was asked to tell its tokens ([`super::telling_tokens`]) and the client did not ask for them: they are kept, and
    /// taken out of what is forwarded.
    #[must_use]
    pub(crate) fn hide_tokens(mut self) -> Self {
        self.hide = true;
        self
    }

    /// What it holds has this many tokens, whatever the records that brought it.
    #[must_use]
    pub(crate) fn counting(mut self, tokens: u64) -> Self {
        self.pieces = u32::try_from(tokens).unwrap_or(u32::MAX);
        self
    }

    pub(super) fn hides_tokens(&self) -> bool {
        self.hide
    }

    /// Takes a chunk and gives the records that are whole now, as they came. They are to be forwarded: the transcript counts
    /// them as sent. After the end of the answer nothing is given any more.
    ///
    /// # Errors
    /// The stream is of no use any more; see [`Broken::before`]. What was held back is forgotten.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the usual chunk comes back as it is"
    )]
    pub(crate) fn push(&mut self, chunk: Bytes) -> Result<Bytes, Broken> {
        let (whole, over) = self.frames.push(&chunk);
        if !over && let Some(at) = self.leaves(&whole) {
            return if at == whole.len() {
                Ok(whole)
            } else {
                self.end(&whole, at)
            };
        }
        self.settle()?;
        let taken = self.take(&whole)?;
        if over {
            return Err(Broken {
                before: taken,
                cause: Cause::TooLong,
            });
        }
        Ok(taken)
    }

    /// Up to where these records are to be read later, if ever. With the others the answer ends.
    fn leaves(&mut self, whole: &Bytes) -> Option<usize> {
        if self.limits.unread == 0 || self.hide || self.ended {
            return None;
        }
        let at = ordinary(self.dialect.into(), whole)?;
        let kept = self.unread.keep(&whole.slice(..at), self.limits.unread);
        self.begun |= kept && at > 0;
        kept.then_some(at)
    }

    /// Reads the records that end the answer, and none before them: an answer that is over goes on nowhere.
    fn end(&mut self, whole: &Bytes, at: usize) -> Result<Bytes, Broken> {
        let shown = |tail: &Bytes| whole.slice(..at + tail.len());
        let taken = self.take(&whole.slice(at..));
        if self.ended {
            self.unread.take();
        }
        match taken {
            Ok(tail) => Ok(shown(&tail)),
            Err(broken) => Err(Broken {
                before: shown(&broken.before),
                cause: broken.cause,
            }),
        }
    }

    /// Reads what was forwarded unread. To be called before anything is asked about the text.
    ///
    /// # Errors
    /// A record that was forwarded is malformed: its text cannot be known.
    pub(crate) fn settle(&mut self) -> Result<(), Broken> {
        if self.unread.is_empty() {
            return Ok(());
        }
        for piece in self.unread.take() {
            self.take(&piece).map_err(|broken| {
                self.flags.no_text = true;
                Broken {
                    before: Bytes::new(),
                    cause: broken.cause,
                }
            })?;
        }
        Ok(())
    }

    /// The node's stream ended: gives a last record that lacks its line end, if the answer is complete with it.
    ///
    /// # Errors
    /// [`Cause::Cut`]: the answer is not complete.
    pub(crate) fn finish(&mut self) -> Result<Bytes, Broken> {
        self.settle()?;
        let held = self.frames.take();
        let last = if self.ended || held.is_empty() {
            Bytes::new()
        } else {
            self.last(&held)
        };
        if self.ended {
            return Ok(last);
        }
        Err(Broken {
            before: Bytes::new(),
            cause: Cause::Cut,
        })
    }

    /// A record without its line end counts only if it is the last one.
    fn last(&mut self, held: &Bytes) -> Bytes {
        let ends = records(self.dialect.into(), held).any(|record| {
            record.payload.is_some_and(|payload| {
                &*payload == DONE.as_bytes()
                    || std::str::from_utf8(&payload)
                        .ok()
                        .and_then(|json| Record::read(self.dialect, json).ok())
                        .is_some_and(|record| record.done)
            })
        });
        if ends {
            self.take(held).unwrap_or_default()
        } else {
            Bytes::new()
        }
    }

    /// Forgets the record that is not whole: its node is lost.
    pub(crate) fn cut(&mut self) {
        self.frames.clear();
    }

    /// Reads whole records.
    fn take(&mut self, whole: &Bytes) -> Result<Bytes, Broken> {
        if self.ended {
            return Ok(Bytes::new());
        }
        let mut shown = Shown::default();
        let mut broken = None;
        let mut upto = whole.len();
        for record in records(self.dialect.into(), whole) {
            let Some(payload) = record.payload else {
                continue;
            };
            match self.read(&payload) {
                Ok(hidden) => {
                    if let Some(hidden) = hidden {
                        shown.hide(whole, &record.range, &payload, &hidden);
                    }
                }
                Err(cause) => {
                    self.frames.clear();
                    upto = record.range.start;
                    broken = Some(cause);
                    break;
                }
            }
            self.begun = true;
            if self.ended {
                upto = record.range.end;
                break;
            }
        }
        let before = shown.rest(whole, upto);
        match broken {
            None => Ok(before),
            Some(cause) => Err(Broken { before, cause }),
        }
    }

    /// Reads one record; gives the part of it that the client shall not see.
    fn read(&mut self, payload: &[u8]) -> Result<Option<Range<usize>>, Cause> {
        let json = std::str::from_utf8(payload).map_err(|_| Cause::Malformed)?;
        if json == DONE && !self.dialect.is_ollama() {
            self.finish.get_or_insert_default();
            self.ended = true;
            return Ok(None);
        }
        let record = Record::read(self.dialect, json)?;
        if !record.error.is_empty() {
            return Err(Cause::Failed(message(json)));
        }
        if self.head.is_none() {
            self.head = Some(Box::new(Head::of(&record)?));
        } else if self.dialect.is_ollama() {
            self.note_time(record.created)?;
        }
        self.note_text(&record);
        self.flags.calls |= record.calls;
        self.flags.logprobs |= record.logprobs;
        self.flags.several |= record.several;
        if record.done || says_something(record.reason) || !record.usage.is_empty() {
            self.note_end(&record, json)?;
        }
        Ok(if self.hide && !record.extension.is_empty() {
            Some(span(json, record.extension)?)
        } else {
            None
        })
    }

    fn note_time(&mut self, created: &str) -> Result<(), Malformed> {
        if let (Some(head), false) = (&mut self.head, created.is_empty()) {
            head.created.clear();
            unescape(created, &mut head.created)?;
        }
        Ok(())
    }

    fn note_text(&mut self, record: &Record<'_>) {
        let told = says_something(record.tokens);
        let (thinks, speaks) = (says_something(record.thinking), says_something(record.text));
        self.flags.thought |= thinks;
        if thinks || speaks {
            self.pieces = self.pieces.saturating_add(1);
            self.untold += u32::from(!told);
            self.keep(record);
        }
        if told && !self.flags.too_long {
            let ids: Vec<i32> = serde_json::from_str(record.tokens).unwrap_or_default();
            self.untold += u32::from(ids.is_empty());
            self.tokens.extend(ids);
        }
    }

    fn keep(&mut self, record: &Record<'_>) {
        let unquoted = |value: &str| value.len().saturating_sub(2);
        let kept = self.text.len() + self.thoughts.len();
        if kept + unquoted(record.text) + unquoted(record.thinking) > self.limits.text {
            self.flags.too_long = true;
        }
        if self.flags.too_long {
            (self.text, self.thoughts, self.tokens) = Default::default();
            return;
        }
        for (new, all) in [
            (record.thinking, &mut self.thoughts),
            (record.text, &mut self.text),
        ] {
            if says_something(new) {
                self.flags.no_text |= unescape(new, all).is_err();
            }
        }
    }

    fn note_end(&mut self, record: &Record<'_>, json: &str) -> Result<(), Cause> {
        let mut end = self.finish.take().unwrap_or_default();
        if says_something(record.reason) {
            end.reason = text_of(record.reason)?;
        }
        if record.done {
            end.metrics = serde_json::from_str(json).map_err(|_| Cause::Malformed)?;
            self.ended = true;
        }
        if !record.usage.is_empty() {
            let usage: Usage = serde_json::from_str(record.usage).map_err(|_| Cause::Malformed)?;
            // Some chunks carry a usage of zeros before the real one.
            if usage != Usage::default() {
                end.metrics.prompt_eval_count = usage.prompt_tokens;
                end.metrics.eval_count = usage.completion_tokens;
            }
        }
        // A usage may come with every chunk: it ends nothing.
        if record.done || !end.reason.is_empty() {
            self.finish = Some(end);
        }
        Ok(())
    }

    /// Of which dialect it is.
    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    #[cfg(test)]
    /// Whether the client has been sent anything: before that, another node may simply be asked the same.
    pub(crate) fn begun(&self) -> bool {
        self.begun
    }

    /// How the answer ended, once its last record was released.
    pub(crate) fn ended(&self) -> Option<&End> {
        self.finish.as_deref().filter(|_| self.ended)
    }

    /// Whether the answer's last record was released.
    pub(crate) fn is_complete(&self) -> bool {
        self.ended
    }

    /// The text is complete, though records that close the stream may be lacking.
    pub(super) fn finished(&self) -> Option<&End> {
        self.finish.as_deref()
    }

    /// The text so far.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// What the model thought before the text.
    pub(super) fn thoughts(&self) -> &str {
        &self.thoughts
    }

    /// How many tokens the text (and the thoughts before it) has: exact if the node told every one of them, else the records that carried text.
    pub(crate) fn tokens_used(&self) -> u64 {
        self.tokens_known()
            .map_or(u64::from(self.pieces), |ids| ids.len() as u64)
    }

    /// Whether [`Self::tokens_used`] is exact.
    pub(crate) fn is_exact(&self) -> bool {
        self.tokens_known().is_some()
    }

    /// The tokens of the text, if every one is known.
    pub(super) fn tokens_known(&self) -> Option<&[i32]> {
        (self.untold == 0 && !self.tokens.is_empty()).then_some(&self.tokens)
    }

    pub(super) fn flags(&self) -> Flags {
        self.flags
    }

    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_deref()
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }
}

impl Head {
    fn of(record: &Record<'_>) -> Result<Self, Malformed> {
        let text = |value: &str| {
            if value.starts_with('"') {
                text_of(value)
            } else {
                Ok(value.to_owned())
            }
        };
        Ok(Self {
            id: text(record.id)?,
            model: text(record.model)?,
            fingerprint: text(record.fingerprint)?,
            created: text(record.created)?,
        })
    }
}
