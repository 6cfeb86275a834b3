//! Answers in files: one append-only file per generation, the raw UTF-8 text and nothing else, so that a byte's place in the
//! file is its offset in the answer.
//!
//! `write(2)` is the acknowledgement. What it has taken survives the death of this process (`kill -9` included); a power cut
//! may take what the kernel had not yet put on the disk, unless every append is pressed onto it.
//!
//! Beside the text lies how many tokens it has (`<id>.tokens`, eight bytes, little endian): written after the text, soon
//! ([`NOTE`]), so that a death in between costs the last parts' tokens and no text.
//!
//! And, once it is decided, how the answer ended (`<id>.end`, JSON, there whole or not at all).

use super::LogError;
use jarvis_domain::{Epoch, GenerationId, Outcome, durable::Logged};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// How long a count of tokens may wait to be noted: that is an alarm and a call of the kernel, as dear as logging a part of
/// the answer.
const NOTE: Duration = Duration::from_secs(1);

/// A directory of answers.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    sync: bool,
}

impl Files {
    pub(super) fn open(directory: &Path, sync: bool) -> Result<Arc<Self>, LogError> {
        fs::create_dir_all(directory)?;
        Ok(Arc::new(Self {
            directory: directory.to_owned(),
            sync,
        }))
    }

    /// A directory that another process may be writing to.
    pub(crate) fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            sync: false,
        }
    }

    /// What lies of an answer that another process may be writing: a beginning of its text or, with its end, all of it. `None`
    /// if there is no file, or not any more.
    pub(crate) fn peek(&self, id: GenerationId) -> Result<Option<Logged>, LogError> {
        let path = self.path(id, "txt");
        let read = || match File::open(&path) {
            Ok(mut file) => read_whole_characters(&mut file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        };
        let Some(mut text) = read()? else {
            return Ok(None);
        };
        let end = self.decided(id)?;
        if end.is_some() {
            // The end is decided when all text is there, which may not have been so before.
            match read()? {
                Some(whole) => text = whole,
                None => return Ok(None),
            }
        } else if !path.try_exists()? {
            // The text goes before the end does: there may have been one.
            return Ok(None);
        }
        Ok(Some(Logged {
            epoch: 0,
            text,
            tokens: self.counted(id),
            end,
        }))
    }

    fn counted(&self, id: GenerationId) -> u64 {
        match fs::read(self.path(id, "tokens")) {
            Ok(bytes) => bytes.try_into().map_or(0, u64::from_le_bytes),
            Err(_) => 0,
        }
    }

    /// Takes up the writing of an answer, cut back to whole characters should its last write have been cut, and gives what
    /// there is. Every owner has written to the file: it is the last one's.
    pub(super) fn take_up(
        self: &Arc<Self>,
        id: GenerationId,
        epoch: Epoch,
    ) -> Result<(FileWriter, Logged), LogError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(id, "txt"))?;
        if !file.metadata()?.is_file() {
            return Err(LogError::Io(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            )));
        }
        let text = read_whole_characters(&mut file)?;
        let tokens = self.counted(id);
        let mut writer = FileWriter {
            id,
            file,
            count: None,
            tokens,
            due: None,
            files: Arc::clone(self),
        };
        writer.cut(text.len())?;
        let logged = Logged {
            epoch: epoch.saturating_sub(1),
            text,
            tokens,
            // One that cannot be read is none: the answer goes on.
            end: self.decided(id).unwrap_or_default(),
        };
        Ok((writer, logged))
    }

    pub(super) fn decided(&self, id: GenerationId) -> Result<Option<Outcome>, LogError> {
        match fs::read(self.path(id, "end")) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes).map_err(io::Error::from)?,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn probe(&self) -> Result<(), LogError> {
        // A name of its own: several may ask at once.
        let path = self
            .directory
            .join(format!(".probe-{}", GenerationId::new()));
        File::create(&path)?.write_all(b"probe")?;
        Ok(fs::remove_file(&path)?)
    }

    pub(super) fn sweep(&self, unfinished: &[GenerationId]) -> Result<usize, LogError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.directory)? {
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

    fn path(&self, id: GenerationId, kind: &str) -> PathBuf {
        self.directory.join(format!("{id}.{kind}"))
    }
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

/// The one writer of an answer's file.
#[derive(Debug)]
pub(super) struct FileWriter {
    id: GenerationId,
    file: File,
    /// Opened with the first count.
    count: Option<File>,
    tokens: u64,
    /// Until they are to be noted, if they are not.
    due: Option<Pin<Box<Sleep>>>,
    files: Arc<Files>,
}

impl FileWriter {
    /// Adds `text` to the `before` bytes that there are. On an error nothing of it stays in the file.
    pub(super) fn append(&mut self, before: usize, text: &str) -> Result<(), LogError> {
        let written = self.file.write_all(text.as_bytes()).and_then(|()| {
            if self.files.sync {
                self.file.sync_data()
            } else {
                Ok(())
            }
        });
        if let Err(error) = written {
            self.cut(before)?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Leaves the first `to` bytes.
    pub(super) fn cut(&mut self, to: usize) -> Result<(), LogError> {
        self.file.set_len(to as u64)?;
        self.file.seek(SeekFrom::Start(to as u64))?;
        Ok(())
    }

    /// The text has so many tokens: to be noted for the next owner.
    pub(super) fn count(&mut self, tokens: u64) {
        if self.tokens != tokens {
            self.tokens = tokens;
            self.due.get_or_insert_with(|| Box::pin(sleep(NOTE)));
        }
    }

    /// Notes the count when it is time, if it is not noted. Cancel safe.
    pub(super) async fn tend(&mut self) {
        if let Some(due) = &mut self.due {
            due.await;
            self.note();
        }
    }

    /// Notes the count, if it is not noted. One that cannot be makes a later owner count too little, no more.
    pub(super) fn note(&mut self) {
        if self.due.take().is_some() {
            let _ = self.write_count();
        }
    }

    fn write_count(&mut self) -> io::Result<()> {
        let file = match &mut self.count {
            Some(file) => file,
            none => {
                let path = self.files.path(self.id, "tokens");
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                none.insert(file)
            }
        };
        file.write_all_at(&self.tokens.to_le_bytes(), 0)
    }

    pub(super) fn decide(&self, outcome: &Outcome) -> Result<(), LogError> {
        let bytes = serde_json::to_vec(outcome).map_err(io::Error::from)?;
        // Its stem is the identifier, so that a half-written one is swept away like the others.
        let half = self.files.path(self.id, "tmp");
        let mut file = File::create(&half)?;
        file.write_all(&bytes)?;
        if self.files.sync {
            file.sync_data()?;
        }
        fs::rename(&half, self.files.path(self.id, "end"))?;
        if self.files.sync {
            File::open(&self.files.directory)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes the files.
    pub(super) fn remove(&self) -> Result<(), LogError> {
        // The text first: an end without a text is nothing to anybody, a text without its end could go on.
        let removed = fs::remove_file(self.files.path(self.id, "txt"));
        for beside in ["tokens", "end"] {
            match fs::remove_file(self.files.path(self.id, beside)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(removed?)
    }
}
