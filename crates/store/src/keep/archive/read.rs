//! Reading an archive, believing nothing of it.

use super::{FORMAT, Head, Key, Mark, OpenError};
use crate::{
    SCHEMA_VERSION,
    keep::{
        KeepError,
        rows::Cells,
        tables::{self, Table},
        tally::Tally,
    },
};
use age::{DecryptError, stream::StreamReader};
use flate2::bufread::GzDecoder;
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _},
    path::{Path, PathBuf},
};

/// A longer line is no row: far above what a message may be, far below what would fill the memory.
const LONGEST_LINE: u64 = 256 << 20;

/// An archive that has been opened, and of which every line is checked as it is read.
pub(in crate::keep) struct Reader {
    path: PathBuf,
    input: BufReader<GzDecoder<BufReader<StreamReader<BufReader<File>>>>>,
    head: Head,
    table: Option<(Table, Tally)>,
    /// Names of the tables that have been read.
    seen: Vec<&'static str>,
    line: Vec<u8>,
}

/// What comes next in an archive.
pub(in crate::keep) enum Line {
    /// Rows of another table follow, see [`Reader::table`].
    Table,
    /// A row of the table.
    Row(Cells),
    /// The table's rows are as many as were written, and the same.
    EndOfTable(Table, Tally),
    /// Nothing more.
    End,
}

impl Reader {
    /// Opens the archive at `path` and reads its first line.
    pub(in crate::keep) fn open(path: &Path, key: &Key) -> Result<Self, KeepError> {
        let failed = |source| file_error(path, source);
        let file = File::open(path).map_err(failed)?;
        let opened = key.open(BufReader::new(file));
        let opened = opened.map_err(|error| refused(path, key, error))?;
        Self::begin(path.to_owned(), opened)
    }

    /// From the first line again, without asking for the key again.
    pub(in crate::keep) fn again(self) -> Result<Self, KeepError> {
        let mut opened = self.input.into_inner().into_inner().into_inner();
        let path = self.path;
        match opened.rewind() {
            Ok(()) => Self::begin(path, opened),
            Err(error) => Err(broken(&path, error)),
        }
    }

    fn begin(path: PathBuf, opened: StreamReader<BufReader<File>>) -> Result<Self, KeepError> {
        let mut input = BufReader::new(GzDecoder::new(BufReader::new(opened)));
        let mut line = Vec::new();
        read_line(&mut input, &mut line).map_err(|error| broken(&path, error))?;
        let head: Head = serde_json::from_slice(&line)
            .map_err(|_| damaged(&path, "it does not begin like an archive"))?;
        let newer = |what, found, known| KeepError::NewerArchive {
            path: path.clone(),
            program: head.program.clone(),
            what,
            found,
            known,
        };
        if head.jarvis_backup > FORMAT {
            return Err(newer("format", head.jarvis_backup, FORMAT));
        }
        if head.schema > SCHEMA_VERSION {
            return Err(newer("schema version", head.schema, SCHEMA_VERSION));
        }
        Ok(Self {
            path,
            input,
            head,
            table: None,
            seen: Vec::new(),
            line,
        })
    }

    /// The first line.
    pub(in crate::keep) fn head(&self) -> &Head {
        &self.head
    }

    /// The table whose rows are being read, with the columns that the archive has, and its rows so far.
    pub(in crate::keep) fn table(&self) -> Option<&(Table, Tally)> {
        self.table.as_ref()
    }

    /// The next line.
    ///
    /// # Errors
    /// [`KeepError::Damaged`] for anything that is not as it was written.
    pub(in crate::keep) fn next(&mut self) -> Result<Line, KeepError> {
        self.line.clear();
        read_line(&mut self.input, &mut self.line).map_err(|error| broken(&self.path, error))?;
        if self.line.first() == Some(&b'[') {
            return self.row();
        }
        let mark = serde_json::from_slice(&self.line).map_err(|_| {
            self.damaged(if self.line.is_empty() {
                "it has no end"
            } else {
                "a line that is none"
            })
        })?;
        match (mark, self.table.take()) {
            (Mark::Table { table, columns }, None) => self.begin_table(&table, &columns),
            (Mark::Sum { rows, checksum }, Some((table, tally))) => {
                if Tally::recorded(rows, &checksum) != Some(tally) {
                    return Err(self.damaged(&format!(
                        "the rows of `{}` are not those that were written",
                        table.name
                    )));
                }
                Ok(Line::EndOfTable(table, tally))
            }
            (Mark::End { end: true }, None) => {
                self.require_all()?;
                self.require_end()
            }
            _ => Err(self.damaged("a line out of place")),
        }
    }

    fn row(&mut self) -> Result<Line, KeepError> {
        let row: Cells = serde_json::from_slice(&self.line)
            .map_err(|_| damaged(&self.path, "a row that is none"))?;
        let Some((table, tally)) = &mut self.table else {
            return Err(self.damaged("a row outside of a table"));
        };
        if !row.fit(&table.columns) {
            let what = format!("a row that does not fit `{}`", table.name);
            return Err(self.damaged(&what));
        }
        tally.add(&self.line);
        Ok(Line::Row(row))
    }

    fn begin_table(&mut self, name: &str, columns: &[String]) -> Result<Line, KeepError> {
        let table = tables::table(name).filter(|table| !self.seen.contains(&table.name));
        let table = table.and_then(|table| table.narrowed(columns));
        let Some(table) = table else {
            return Err(self.damaged("a table that nobody knows"));
        };
        self.seen.push(table.name);
        self.table = Some((table, Tally::default()));
        Ok(Line::Table)
    }

    /// An earlier schema may have had fewer tables, this one may not.
    fn require_all(&self) -> Result<(), KeepError> {
        let missing = tables::of(None).find(|table| !self.seen.contains(&table.name));
        match missing {
            Some(table) if self.head.schema == SCHEMA_VERSION => {
                Err(self.damaged(&format!("`{}` is missing", table.name)))
            }
            _ => Ok(()),
        }
    }

    fn require_end(&mut self) -> Result<Line, KeepError> {
        // Reading on to the end lets gzip and age check theirs.
        let mut rest = Vec::new();
        let read = self.input.by_ref().take(1).read_to_end(&mut rest);
        let read = read.and_then(|_| {
            let beyond = self.input.get_mut().get_mut();
            beyond.take(1).read_to_end(&mut rest)
        });
        read.map_err(|error| broken(&self.path, error))?;
        if rest.is_empty() {
            Ok(Line::End)
        } else {
            Err(self.damaged("something after its end"))
        }
    }

    fn damaged(&self, what: &str) -> KeepError {
        damaged(&self.path, what)
    }
}

/// Reads a line without its break; empty at the end.
fn read_line(input: &mut impl io::BufRead, line: &mut Vec<u8>) -> io::Result<()> {
    input.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
    match line.pop() {
        None | Some(b'\n') => Ok(()),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line without an end",
        )),
    }
}

fn refused(path: &Path, key: &Key, error: OpenError) -> KeepError {
    let path = path.to_owned();
    match error {
        OpenError::OtherLock => KeepError::OtherLock {
            path,
            passphrase: !key.is_passphrase(),
        },
        OpenError::NotAge(DecryptError::Io(error)) if !is_of_the_content(&error) => {
            file_error(&path, error)
        }
        OpenError::NotAge(_) => KeepError::NotAnArchive(path),
        OpenError::Refused(DecryptError::Io(error)) => broken(&path, error),
        OpenError::Refused(DecryptError::InvalidMac | DecryptError::InvalidHeader) => {
            damaged(&path, "its header")
        }
        OpenError::Refused(DecryptError::ExcessiveWork { .. }) => damaged(
            &path,
            "its passphrase would take this machine longer than is allowed",
        ),
        OpenError::Refused(_) => KeepError::WrongKey {
            path,
            passphrase: key.is_passphrase(),
        },
    }
}

/// Whether the content is wrong, and not the device it lies on.
fn is_of_the_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    )
}

fn broken(path: &Path, error: io::Error) -> KeepError {
    if is_of_the_content(&error) {
        damaged(path, &error.to_string())
    } else {
        file_error(path, error)
    }
}

fn damaged(path: &Path, what: &str) -> KeepError {
    KeepError::Damaged {
        path: path.to_owned(),
        what: what.to_owned(),
    }
}

fn file_error(path: &Path, source: io::Error) -> KeepError {
    KeepError::File {
        path: path.to_owned(),
        source,
    }
}
