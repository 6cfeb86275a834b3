//! Writing an archive: it appears under its name whole, or not at all, for its owner's eyes only.

use super::{FORMAT, Head, Lock, LockError, Mark};
use crate::{
    SCHEMA_VERSION,
    keep::{KeepError, rows::Cells, tables::Table, tally::Tally},
};
use age::stream::StreamWriter;
use flate2::{Compression, write::GzEncoder};
use jarvis_domain::Timestamp;
use serde::Serialize;
use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

type Out = GzEncoder<StreamWriter<BufWriter<File>>>;

/// An archive that is being written. Dropped before [`finish`](Self::finish), it leaves nothing.
pub(in crate::keep) struct Writer {
    out: Out,
    half: NamedTempFile,
    path: PathBuf,
    tally: Tally,
}

impl Writer {
    /// Begins `path`, which must not be there.
    pub(in crate::keep) fn create(
        path: &Path,
        lock: &Lock,
        taken_at: Timestamp,
    ) -> Result<Self, KeepError> {
        let failed = |source| file_error(path, source);
        if path.try_exists().map_err(failed)? {
            return Err(KeepError::Exists(path.to_owned()));
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Made with mode 0600.
        let half = tempfile::Builder::new()
            .prefix(".jarvis-backup-")
            .suffix(".partial")
            .tempfile_in(folder)
            .map_err(failed)?;
        let file = half.as_file().try_clone().map_err(failed)?;
        let locked = lock.close_in(BufWriter::new(file));
        let locked = locked.map_err(|error| match error {
            LockError::Io(source) => file_error(path, source),
            LockError::Encrypt(error) => KeepError::Encrypt(error.to_string()),
        })?;
        let mut writer = Self {
            out: GzEncoder::new(locked, Compression::fast()),
            half,
            path: path.to_owned(),
            tally: Tally::default(),
        };
        writer.line(&Head {
            jarvis_backup: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            schema: SCHEMA_VERSION,
            taken_at,
        })?;
        Ok(writer)
    }

    /// Begins a table.
    pub(in crate::keep) fn table(&mut self, table: &Table) -> Result<(), KeepError> {
        self.tally = Tally::default();
        let columns = table.columns.iter().map(|column| column.name.to_owned());
        self.line(&Mark::Table {
            table: table.name.to_owned(),
            columns: columns.collect(),
        })
    }

    /// Adds a row to the table.
    pub(in crate::keep) fn row(&mut self, row: &Cells) -> Result<(), KeepError> {
        let spelling = row.spelling();
        self.tally.add(&spelling);
        self.bytes(&spelling)
    }

    /// Rows of the table so far.
    pub(in crate::keep) fn rows(&self) -> u64 {
        self.tally.rows()
    }

    /// Ends the table.
    pub(in crate::keep) fn end_table(&mut self) -> Result<Tally, KeepError> {
        self.line(&Mark::Sum {
            rows: self.tally.rows(),
            checksum: self.tally.checksum(),
        })?;
        Ok(self.tally)
    }

    /// Ends the archive and gives it its name.
    pub(in crate::keep) fn finish(mut self) -> Result<(), KeepError> {
        self.line(&Mark::End { end: true })?;
        let Self {
            out, half, path, ..
        } = self;
        let failed = |source| file_error(&path, source);
        let written = out.finish().and_then(StreamWriter::finish);
        let file = written
            .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error))
            .map_err(failed)?;
        file.sync_all().map_err(failed)?;
        match half.persist_noclobber(&path) {
            Ok(_) => sync_folder(&path).map_err(failed),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(KeepError::Exists(path))
            }
            Err(error) => Err(file_error(&path, error.error)),
        }
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), KeepError> {
        let text =
            serde_json::to_vec(line).map_err(|error| file_error(&self.path, error.into()))?;
        self.bytes(&text)
    }

    fn bytes(&mut self, line: &[u8]) -> Result<(), KeepError> {
        self.out
            .write_all(line)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|source| file_error(&self.path, source))
    }
}

/// The name itself is on the disk only once the folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn file_error(path: &Path, source: io::Error) -> KeepError {
    KeepError::File {
        path: path.to_owned(),
        source,
    }
}
