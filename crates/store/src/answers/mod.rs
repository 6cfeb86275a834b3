//! The text of answers while they are made: for each generation an append-only log, addressed by UTF-8 byte offset.
//!
//! The rule: a character is shown to nobody before it lies where it outlives this process: in a file (`file`), in a stream of
//! the Redis Cluster (`stream`, `redis`), or, while that is away, in SQL, which the owner then says
//! ([`AnswerWriter::show_committed`]). What an owner does when is decided by [`jarvis_domain::durable`].
//!
//! Readers follow by offset and are told only that there is more: what has arrived since goes out together, and a slow
//! reader costs no memory beyond the answer itself. Those of the process that makes the answer read from memory (`live`);
//! those elsewhere follow the stream (`follow`), and cannot tell the difference.
//!
//! Once it is decided, the log also says how the answer ended: until SQL has taken the end, whoever finds the two finishes
//! the answer with it and adds nothing.

mod file;
mod follow;
mod live;
mod redis;
mod stream;

pub use live::AnswerReader;

use crate::shared::{Redis, RedisFault};
use file::FileWriter;
pub(crate) use file::Files;
use jarvis_domain::{
    Epoch, GenerationError, GenerationId, Outcome, Status,
    durable::{Bases, Logged, Taken},
};
use live::{Live, Lives};
use redis::{StreamHold, StreamWriter};
use std::{borrow::Cow, io, path::Path, sync::Arc};
use stream::Streams;

/// Why an answer could not be logged or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No room left on the device.
    #[error("no space is left for the answer")]
    Full(#[source] io::Error),
    /// Another error of the device or the file system.
    #[error("the answer's file cannot be used")]
    Io(#[source] io::Error),
    /// A later owner has taken it up: this one must show nothing more.
    #[error("another instance has taken the answer over")]
    Fenced,
    /// The master that holds it does not answer now, or has been away since the log was taken up.
    #[error("the answer's log is away")]
    Away(#[from] RedisFault),
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

/// A place in the queue for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlace {
    /// How many are ahead.
    pub position: u32,
    /// Estimated wait in milliseconds, where there is an estimate.
    pub eta_ms: Option<u64>,
}

/// What a reader is given next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerEvent {
    /// It waits for a node.
    Queued(QueuePlace),
    /// Text, from this byte offset on.
    Text {
        /// Bytes before this text.
        offset: usize,
        /// The text; never empty, never cut inside a character.
        text: String,
    },
    /// The whole text so far, in place of what was given before: some of that no longer stands, because its owner and the
    /// only log that had it were lost together.
    Resync {
        /// From the beginning.
        text: String,
    },
    /// The log cannot be read on. What comes next is in SQL, or later here again, for another reader. Nothing more will come
    /// from this one.
    Away,
    /// Nothing more will come.
    End(Outcome),
}

/// An answer at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its text so far.
    pub text: String,
    /// What readers have been told of its end.
    pub end: Option<Outcome>,
}

/// Every answer that is being made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AnswerLog {
    /// Those that this process makes.
    lives: Arc<Lives>,
    kept: Kept,
}

#[derive(Debug, Clone)]
enum Kept {
    Files(Arc<Files>),
    Streams(Arc<Streams>),
}

impl AnswerLog {
    /// Keeps answers in `directory`, which is made if absent. With `sync`, every append is pressed onto the disk before it
    /// is shown, so that a power cut takes nothing either.
    pub fn open(directory: &Path, sync: bool) -> Result<Self, LogError> {
        let kept = Kept::Files(Files::open(directory, sync)?);
        let lives = Arc::default();
        Ok(Self { lives, kept })
    }

    /// Keeps answers in the cluster, for all instances of the installation.
    #[must_use]
    pub fn shared(redis: &Redis) -> Self {
        let kept = Kept::Streams(Streams::new(redis.clone()));
        let lives = Arc::default();
        Self { lives, kept }
    }

    /// Takes up the log of an answer, whose epoch SQL has given to this owner: from now on it refuses earlier ones, and what
    /// it holds can be relied on.
    ///
    /// # Errors
    /// [`LogError::Away`]: see [`AnswerLog::writer_away`]. [`LogError::Fenced`] if there is a later owner.
    pub async fn take_up(&self, id: GenerationId, epoch: Epoch) -> Result<Hold, LogError> {
        let (logged, held) = match &self.kept {
            Kept::Files(files) => {
                let (writer, logged) = files.take_up(id, epoch)?;
                (logged, Held::File(writer))
            }
            Kept::Streams(streams) => {
                let mut hold = streams.hold(id, epoch).await?;
                let logged = std::mem::take(&mut hold.stored.logged);
                (logged, Held::Stream(Box::new(hold)))
            }
        };
        Ok(Hold {
            id,
            epoch,
            logged,
            held,
            lives: Arc::clone(&self.lives),
        })
    }

    /// A writer of an answer whose log is away, with what is known without it. Every append fails with [`LogError::Away`]
    /// until the log is [taken up](AnswerWriter::take_up).
    ///
    /// # Errors
    /// Those of [`AnswerLog::take_up`] where answers are in files, which are never away.
    pub fn writer_away(
        &self,
        id: GenerationId,
        epoch: Epoch,
        taken: Taken,
    ) -> Result<AnswerWriter, LogError> {
        match &self.kept {
            Kept::Files(files) => {
                let (writer, logged) = files.take_up(id, epoch)?;
                let lives = Arc::clone(&self.lives);
                Hold {
                    id,
                    epoch,
                    logged,
                    held: Held::File(writer),
                    lives,
                }
                .writer(taken)
            }
            Kept::Streams(streams) => {
                let writer = streams.writer_away(id, epoch, taken.bases.clone(), taken.tokens);
                Ok(AnswerWriter::begin(
                    id,
                    taken,
                    Sink::Stream(Box::new(writer)),
                    &self.lives,
                ))
            }
        }
    }

    /// Follows an answer from byte `offset` on; `None` when nobody is making it. An offset past the end or inside a
    /// character is answered by the text from the nearest character boundary before it: the caller compares offsets.
    ///
    /// # Errors
    /// [`LogError::Away`] if it is not made here and its log cannot be read.
    pub async fn reader(
        &self,
        id: GenerationId,
        offset: usize,
    ) -> Result<Option<AnswerReader>, LogError> {
        if let Some(live) = self.lives.get(id) {
            return Ok(Some(live.reader(offset)));
        }
        match &self.kept {
            Kept::Files(_) => Ok(None),
            Kept::Streams(streams) => streams.reader(id, offset).await,
        }
    }

    /// An answer as it is now; `None` when nobody is making it.
    ///
    /// # Errors
    /// As those of [`AnswerLog::reader`].
    pub async fn snapshot(&self, id: GenerationId) -> Result<Option<Snapshot>, LogError> {
        if let Some(live) = self.lives.get(id) {
            // The end first: what it ends is then in the text.
            let end = live.outcome();
            let text = live.text();
            return Ok(Some(Snapshot { text, end }));
        }
        let Kept::Streams(streams) = &self.kept else {
            return Ok(None);
        };
        let stored = streams.read(id).await?;
        Ok(stored.map(|stored| Snapshot {
            text: stored.logged.text,
            end: stored.shown,
        }))
    }

    /// How an answer ended that SQL may not know of yet; `None` for one that has not. Until it is [taken
    /// up](AnswerLog::take_up), its owner may still decide that.
    ///
    /// # Errors
    /// [`LogError::Io`] and [`LogError::Away`] where that cannot be read.
    pub async fn decided(&self, id: GenerationId) -> Result<Option<Outcome>, LogError> {
        match &self.kept {
            Kept::Files(files) => files.decided(id),
            Kept::Streams(streams) => {
                let stored = streams.read(id).await?;
                Ok(stored.and_then(|stored| stored.logged.end))
            }
        }
    }

    /// The cluster that keeps them, if one does.
    #[must_use]
    pub fn redis(&self) -> Option<&Redis> {
        match &self.kept {
            Kept::Files(_) => None,
            Kept::Streams(streams) => Some(&streams.redis),
        }
    }

    /// How many answers are being made here.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.lives.count()
    }

    /// Whether the directory can be written to now: what readiness asks. Of the cluster [`Redis::trouble`] tells more.
    pub fn probe(&self) -> Result<(), LogError> {
        match &self.kept {
            Kept::Files(files) => files.probe(),
            Kept::Streams(_) => Ok(()),
        }
    }

    /// Removes the files of answers that `unfinished` does not name: their text lies in SQL. Streams go by themselves.
    pub fn sweep(&self, unfinished: &[GenerationId]) -> Result<usize, LogError> {
        match &self.kept {
            Kept::Files(files) => files.sweep(unfinished),
            Kept::Streams(_) => Ok(0),
        }
    }
}

/// An answer's log, taken up.
#[derive(Debug)]
pub struct Hold {
    id: GenerationId,
    epoch: Epoch,
    logged: Logged,
    held: Held,
    lives: Arc<Lives>,
}

#[derive(Debug)]
enum Held {
    File(FileWriter),
    Stream(Box<StreamHold>),
}

impl Hold {
    /// What the log holds. Of files nobody knows whose the text is; it is said to be of the epoch before.
    #[must_use]
    pub fn logged(&self) -> &Logged {
        &self.logged
    }

    /// The answer's writer, who begins with what was taken over. Readers may follow from now on. Before anything is
    /// appended, a commit under this owner's epoch must have proved that it is the owner still.
    pub fn writer(self, taken: Taken) -> Result<AnswerWriter, LogError> {
        let reaches = taken.logged.unwrap_or_default().min(taken.text.len());
        let sink = match self.held {
            Held::File(mut file) => {
                if reaches < self.logged.text.len() || reaches < taken.text.len() {
                    file.cut(reaches)?;
                    file.append(reaches, &taken.text[reaches..])?;
                }
                Sink::File(file)
            }
            Held::Stream(hold) => {
                let writer = hold.writer(taken.bases.clone(), taken.tokens, reaches);
                Sink::Stream(Box::new(writer))
            }
        };
        Ok(AnswerWriter::begin(self.id, taken, sink, &self.lives))
    }

    /// The same for an answer of which nobody knows more than the log.
    pub fn go_on(self) -> Result<AnswerWriter, LogError> {
        let logged = self.logged.clone();
        let taken = Taken {
            bases: Bases::default().with(self.epoch, logged.text.len()),
            logged: Some(logged.text.len()),
            text: logged.text,
            tokens: logged.tokens,
            end: logged.end,
        };
        self.writer(taken)
    }
}

/// The one writer of an answer.
#[derive(Debug)]
pub struct AnswerWriter {
    id: GenerationId,
    tokens: u64,
    live: Arc<Live>,
    lives: Arc<Lives>,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    File(FileWriter),
    Stream(Box<StreamWriter>),
}

impl AnswerWriter {
    fn begin(id: GenerationId, taken: Taken, sink: Sink, lives: &Arc<Lives>) -> Self {
        let live = Live::new(taken.bases, taken.text);
        lives.put(id, &live);
        Self {
            id,
            tokens: taken.tokens,
            live,
            lives: Arc::clone(lives),
            sink,
        }
    }

    /// Bytes shown so far.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.live.len()
    }

    /// The text shown so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.live.text()
    }

    /// How many tokens the text has, by an earlier owner's word if need be; 0 where nobody has said.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Logs `text`, then lets readers see it; `tokens` is how many the answer has then, for the figures alone. NUL, which
    /// PostgreSQL does not keep, becomes U+FFFD.
    ///
    /// # Errors
    /// Nothing of it is shown. With [`LogError::Away`] it is kept, as [`AnswerWriter::unshown`], and goes with the next
    /// append that succeeds (also one of nothing); until the log is taken up again and that is
    /// [proven](AnswerWriter::proven), every append fails at once. With the other errors the text is gone.
    pub async fn append(&mut self, text: &str, tokens: u64) -> Result<(), LogError> {
        self.tokens = tokens;
        let text = if text.contains('\0') {
            Cow::Owned(text.replace('\0', "\u{fffd}"))
        } else {
            Cow::Borrowed(text)
        };
        match &mut self.sink {
            Sink::File(_) if text.is_empty() => Ok(()),
            Sink::File(file) => {
                file.append(self.live.len(), &text)?;
                self.live.push(&text);
                file.count(tokens);
                Ok(())
            }
            Sink::Stream(stream) => stream.append(&self.live, &text, tokens).await,
        }
    }

    /// Does what can wait until nothing is appended; returns when there is no more of it. Cancel safe.
    pub async fn tend(&mut self) {
        if let Sink::File(file) = &mut self.sink {
            file.tend().await;
        }
    }

    /// Text that was given to be appended while the log was away.
    #[must_use]
    pub fn unshown(&self) -> &str {
        match &self.sink {
            Sink::File(_) => "",
            Sink::Stream(stream) => stream.pending(),
        }
    }

    /// Takes the log up again after [`LogError::Away`]: how many bytes it holds of the text, what is
    /// [unshown](AnswerWriter::unshown) included. It is not written to before [`AnswerWriter::proven`].
    ///
    /// # Errors
    /// [`LogError::Away`] as long as it is; [`LogError::Fenced`] if there is a later owner.
    pub async fn take_up(&mut self) -> Result<usize, LogError> {
        match &mut self.sink {
            Sink::File(_) => Ok(self.live.len()),
            Sink::Stream(stream) => stream.take_up(&self.live).await,
        }
    }

    /// SQL has taken the first `to` bytes under this owner's epoch: shows those of them that are unshown.
    pub fn show_committed(&mut self, to: usize) {
        if let Sink::Stream(stream) = &mut self.sink {
            stream.show_committed(&self.live, to);
        }
    }

    /// SQL has taken a commit under this owner's epoch that began after the log was taken up: the next append goes to the
    /// log, with what that lacks.
    pub fn proven(&mut self) {
        if let Sink::Stream(stream) = &mut self.sink {
            stream.proven();
        }
    }

    /// Whether text goes by SQL for now.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match &self.sink {
            Sink::File(_) => false,
            Sink::Stream(stream) => stream.is_away(),
        }
    }

    /// Tells readers where the answer stands in the queue for a node.
    pub async fn queued(&self, place: QueuePlace) {
        self.live.queued(place);
        if let Sink::Stream(stream) = &self.sink {
            stream.hint(&follow::place_hint(place)).await;
        }
    }

    /// Writes down how it ended, before SQL is asked to take it: from now on nobody may add to the text. Readers are told
    /// nothing.
    ///
    /// # Errors
    /// As those of [`AnswerWriter::append`].
    pub async fn decide(&mut self, outcome: &Outcome) -> Result<(), LogError> {
        match &mut self.sink {
            Sink::File(file) => file.decide(outcome),
            Sink::Stream(stream) => stream.decide(&self.live, outcome).await,
        }
    }

    /// Tells readers that it has ended, and keeps the text here for those who come later, until this writer goes.
    pub async fn show_end(&mut self, outcome: Outcome) {
        if let Sink::Stream(stream) = &mut self.sink {
            // Those elsewhere who are not told look into SQL.
            let _ = stream.show_end(&self.live, &outcome).await;
        }
        self.live.end(outcome);
    }

    /// Tells readers that it has ended, and lets the log go. To be called once the whole text lies in SQL.
    ///
    /// # Errors
    /// The log could not be removed; it is of no more use all the same.
    pub async fn finish(mut self, outcome: Outcome) -> Result<(), LogError> {
        self.live.end(outcome.clone());
        match &mut self.sink {
            Sink::File(file) => file.remove(),
            Sink::Stream(stream) => {
                stream.show_end(&self.live, &outcome).await?;
                stream.expire().await
            }
        }
    }

    /// Tells readers here that this process can do no more for it, and keeps the log for the next owner.
    pub fn hand_over(mut self, outcome: Outcome) {
        if let Sink::File(file) = &mut self.sink {
            file.note();
        }
        self.live.end(outcome);
    }
}

impl Drop for AnswerWriter {
    /// A writer that is dropped without an end (a panic, an abort) must not leave readers waiting for ever.
    fn drop(&mut self) {
        self.live.end(Outcome {
            status: Status::Interrupted,
            usage: None,
            error: Some(GenerationError {
                code: "writer_lost".into(),
                message: "the server stopped making this answer".into(),
            }),
        });
        self.lives.remove(self.id, &self.live);
    }
}
