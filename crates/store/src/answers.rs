//! The text of answers while they are made: one append-only file per generation, the raw UTF-8 text and nothing else, so
//! that a byte's place in the file is its offset in the answer.
//!
//! The rule: a character is shown to nobody before `write(2)` has taken it. It then survives the death of this process
//! (`kill -9` included); a power cut may take what the kernel had not yet put on the disk, unless [`Sync::Always`] is set.
//! Readers follow by offset and are told only that there is more: what has arrived since goes out together, and a slow
//! reader costs no memory beyond the answer itself.
//!
//! Beside the text lies how many tokens it has (`<id>.tokens`, eight bytes, little endian): written after the text, so that a
//! death in between costs the last part's tokens and no text.
//!
//! And, once it is decided, how the answer ended (`<id>.end`, JSON, there whole or not at all): until SQL
//! has taken the end, whoever finds the two finishes the answer with it and adds nothing.

use jarvis_domain::{Epoch, GenerationError, GenerationId, Status, Usage};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tokio::sync::watch;

/// A failed write or read of an answer's file.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No room left on the device.
    #[error("no space is left for the answer")]
    Full(#[source] io::Error),
    /// Another error of the device or the file system.
    #[error("the answer's file cannot be used")]
    Io(#[source] io::Error),
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

/// How a generation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// One of the ended ones.
    pub status: Status,
    /// What it cost, as far as known.
    pub usage: Option<Usage>,
    /// Why it was interrupted or failed.
    pub error: Option<GenerationError>,
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
    /// Nothing more will come.
    End(Outcome),
}

#[derive(Debug, Clone, Default)]
struct Progress {
    bytes: usize,
    place: Option<QueuePlace>,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
struct Live {
    epoch: Epoch,
    text: RwLock<String>,
    progress: watch::Sender<Progress>,
}

/// Every answer that is being made. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AnswerLog {
    shared: Arc<LogShared>,
}

#[derive(Debug)]
struct LogShared {
    directory: PathBuf,
    sync: bool,
    live: Mutex<HashMap<GenerationId, Arc<Live>>>,
}

impl AnswerLog {
    /// Keeps answers in `directory`, which is made if absent. With `sync`, every append is pressed onto the disk before it
    /// is shown, so that a power cut takes nothing either.
    pub fn open(directory: &Path, sync: bool) -> Result<Self, LogError> {
        fs::create_dir_all(directory)?;
        Ok(Self {
            shared: Arc::new(LogShared {
                directory: directory.to_owned(),
                sync,
                live: Mutex::default(),
            }),
        })
    }

    /// Takes up the writing of an answer: an empty one, or what an earlier owner's file holds (cut back to whole
    /// characters, should its last write have been cut). Readers may follow from now on.
    pub fn writer(&self, id: GenerationId, epoch: Epoch) -> Result<AnswerWriter, LogError> {
        let path = self.path(id);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        if !file.metadata()?.is_file() {
            return Err(LogError::Io(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            )));
        }
        let text = read_whole_characters(&mut file)?;
        file.set_len(text.len() as u64)?;
        file.seek(SeekFrom::End(0))?;
        let progress = Progress {
            bytes: text.len(),
            ..Progress::default()
        };
        let live = Arc::new(Live {
            epoch,
            text: RwLock::new(text),
            progress: watch::Sender::new(progress),
        });
        self.live().insert(id, Arc::clone(&live));
        let tokens = match fs::read(self.tokens_path(id)) {
            Ok(bytes) => bytes.try_into().map_or(0, u64::from_le_bytes),
            Err(_) => 0,
        };
        Ok(AnswerWriter {
            id,
            file,
            count: None,
            tokens,
            live,
            log: self.clone(),
        })
    }

    /// Follows an answer from byte `offset` on; `None` when nobody is making it. An offset past the end or inside a
    /// character is answered by the text from the nearest character boundary before it: the caller compares offsets.
    #[must_use]
    pub fn reader(&self, id: GenerationId, offset: usize) -> Option<AnswerReader> {
        let live = Arc::clone(self.live().get(&id)?);
        let progress = live.progress.subscribe();
        let offset = read(&live.text).floor_char_boundary(offset);
        Some(AnswerReader {
            live,
            progress,
            offset,
            place: None,
            ended: false,
        })
    }

    /// The text so far of an answer that is being made.
    #[must_use]
    pub fn text(&self, id: GenerationId) -> Option<String> {
        let live = Arc::clone(self.live().get(&id)?);
        let text = read(&live.text).clone();
        Some(text)
    }

    /// What readers have been told of an answer's end, while it is here still.
    #[must_use]
    pub fn shown_end(&self, id: GenerationId) -> Option<Outcome> {
        let live = Arc::clone(self.live().get(&id)?);
        live.progress.borrow().outcome.clone()
    }

    /// How an answer ended that SQL may not know of yet; `None` for one that has not. [`LogError::Io`] where that cannot be
    /// read.
    pub fn decided(&self, id: GenerationId) -> Result<Option<Outcome>, LogError> {
        match fs::read(self.end_path(id)) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).map_err(io::Error::from)?,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// How many answers are being made.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.live().len()
    }

    /// Whether the directory can be written to now: what readiness asks.
    pub fn probe(&self) -> Result<(), LogError> {
        // A name of its own: several may ask at once.
        let path = self
            .shared
            .directory
            .join(format!(".probe-{}", GenerationId::new()));
        File::create(&path)?.write_all(b"probe")?;
        Ok(fs::remove_file(&path)?)
    }

    /// Removes the files of answers that `unfinished` does not name: their text lies in SQL.
    pub fn sweep(&self, unfinished: &[GenerationId]) -> Result<usize, LogError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.shared.directory)? {
            let path = entry?.path();
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse().ok());
            if id.is_some_and(|id| !unfinished.contains(&id)) {
                fs::remove_file(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, id: GenerationId) -> PathBuf {
        self.shared.directory.join(format!("{id}.txt"))
    }

    fn end_path(&self, id: GenerationId) -> PathBuf {
        self.shared.directory.join(format!("{id}.end"))
    }

    fn tokens_path(&self, id: GenerationId) -> PathBuf {
        self.shared.directory.join(format!("{id}.tokens"))
    }

    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<GenerationId, Arc<Live>>> {
        self.shared
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(text: &RwLock<String>) -> std::sync::RwLockReadGuard<'_, String> {
    text.read().unwrap_or_else(PoisonError::into_inner)
}

fn read_whole_characters(file: &mut File) -> Result<String, LogError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let valid = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes.len(),
        Err(error) => error.valid_up_to(),
    };
    bytes.truncate(valid);
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// The one writer of an answer.
#[derive(Debug)]
pub struct AnswerWriter {
    id: GenerationId,
    file: File,
    /// Opened with the first count.
    count: Option<File>,
    tokens: u64,
    live: Arc<Live>,
    log: AnswerLog,
}

impl AnswerWriter {
    /// Bytes written so far.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.live.progress.borrow().bytes
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> String {
        read(&self.live.text).clone()
    }

    /// Writes `text`, then lets readers see it. On an error nothing of it is shown, and nothing of it stays in the file.
    pub fn append(&mut self, text: &str) -> Result<(), LogError> {
        if text.is_empty() {
            return Ok(());
        }
        let before = self.offset();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| {
            if self.log.shared.sync {
                self.file.sync_data()
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            self.file.set_len(before as u64)?;
            self.file.seek(SeekFrom::Start(before as u64))?;
            return Err(error.into());
        }
        let bytes = {
            let mut shown = self
                .live
                .text
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            shown.push_str(text);
            shown.len()
        };
        self.live.progress.send_modify(|progress| {
            progress.bytes = bytes;
            progress.place = None;
        });
        Ok(())
    }

    /// How many tokens the text has, as last noted, by an earlier owner if need be; 0 where nobody has.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Notes how many tokens the text has, for the next owner.
    pub fn note_tokens(&mut self, tokens: u64) -> Result<(), LogError> {
        self.tokens = tokens;
        let file = match &mut self.count {
            Some(file) => file,
            none => {
                let path = self.log.tokens_path(self.id);
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                none.insert(file)
            }
        };
        Ok(file.write_all_at(&tokens.to_le_bytes(), 0)?)
    }

    /// Tells readers where the answer stands in the queue for a node.
    pub fn queued(&self, place: QueuePlace) {
        self.live
            .progress
            .send_modify(|progress| progress.place = Some(place));
    }

    /// Writes down how it ended, before SQL is asked to take it: from now on nobody may add to the text. Readers are told
    /// nothing.
    pub fn decide(&self, outcome: &Outcome) -> Result<(), LogError> {
        let bytes = serde_json::to_vec(outcome).map_err(io::Error::from)?;
        // Its stem is the identifier, so that a half-written one is swept away like the others.
        let half = self.log.shared.directory.join(format!("{}.tmp", self.id));
        let mut file = File::create(&half)?;
        file.write_all(&bytes)?;
        if self.log.shared.sync {
            file.sync_data()?;
        }
        fs::rename(&half, self.log.end_path(self.id))?;
        if self.log.shared.sync {
            File::open(&self.log.shared.directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Tells readers that it has ended, and keeps the text here for those who come later, until this writer goes.
    pub fn show_end(&self, outcome: Outcome) {
        self.end(outcome);
    }

    /// Tells readers that it has ended, and removes the files. Call it once the whole text lies in SQL.
    pub fn finish(self, outcome: Outcome) -> Result<(), LogError> {
        self.end(outcome);
        // The text first: an end without a text is nothing to anybody, a text without its end could go on.
        let removed = fs::remove_file(self.log.path(self.id));
        for beside in [self.log.tokens_path(self.id), self.log.end_path(self.id)] {
            match fs::remove_file(beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(removed?)
    }

    /// Tells readers that this process can do no more for it, and keeps the files for the next owner.
    pub fn hand_over(self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&self, outcome: Outcome) {
        self.live
            .progress
            .send_modify(|progress| progress.outcome = Some(outcome));
    }
}

impl Drop for AnswerWriter {
    /// A writer that is dropped without an end (a panic, an abort) must not leave readers waiting for ever.
    fn drop(&mut self) {
        self.live.progress.send_if_modified(|progress| {
            let lost = progress.outcome.is_none();
            if lost {
                let error = GenerationError {
                    code: "writer_lost".into(),
                    message: "the server stopped making this answer".into(),
                };
                progress.outcome = Some(Outcome {
                    status: Status::Interrupted,
                    usage: None,
                    error: Some(error),
                });
            }
            lost
        });
        let mut live = self.log.live();
        if live
            .get(&self.id)
            .is_some_and(|entry| Arc::ptr_eq(entry, &self.live))
        {
            live.remove(&self.id);
        }
    }
}

/// A reader of an answer, at its own offset.
#[derive(Debug)]
pub struct AnswerReader {
    live: Arc<Live>,
    progress: watch::Receiver<Progress>,
    offset: usize,
    place: Option<QueuePlace>,
    ended: bool,
}

impl AnswerReader {
    /// The writer's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.live.epoch
    }

    /// The byte offset of what comes next.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// What comes next: everything that has arrived since, at once; `None` after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<AnswerEvent> {
        while !self.ended {
            let seen = self.progress.borrow_and_update().clone();
            if seen.bytes > self.offset {
                let text = read(&self.live.text)[self.offset..].to_owned();
                let offset = self.offset;
                self.offset += text.len();
                return Some(AnswerEvent::Text { offset, text });
            }
            if let Some(outcome) = seen.outcome {
                self.ended = true;
                return Some(AnswerEvent::End(outcome));
            }
            if let Some(place) = seen.place.filter(|place| self.place != Some(*place)) {
                self.place = Some(place);
                return Some(AnswerEvent::Queued(place));
            }
            if self.progress.changed().await.is_err() {
                self.ended = true;
            }
        }
        None
    }
}
