//! An answer as a load reads it: taken apart far enough to know that it came whole.

use crate::Failure;
use memchr::memmem;

/// One answer, fed with what arrives. Keeps counts, not the text.
#[derive(Debug, Default)]
pub(crate) struct Response {
    state: State,
    /// What of the head or of a chunk's size line has come.
    partial: Vec<u8>,
    chunked: bool,
    /// Bytes of the body.
    pub(crate) bytes: usize,
    /// Line feeds in it.
    pub(crate) feeds: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Size,
    /// So many bytes of the body, or of its chunk and the line end after it.
    Data(usize),
    /// The line ends after the last chunk.
    Trailer,
    Whole,
}

impl Response {
    /// Whether all of it has come.
    pub(crate) fn whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Takes what was read; an error where the answer is not a success or comes in no form that HTTP/1.1 knows.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Size | State::Trailer => self.line(bytes)?,
                State::Data(left) => self.data(bytes, left),
                State::Whole => return Err("more came than the answer".into()),
            };
        }
        Ok(())
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Failure> {
        let before = self.partial.len();
        self.partial.extend(bytes);
        let Some(end) = memmem::find(&self.partial, b"\r\n\r\n") else {
            return Ok(&[]);
        };
        let head = std::str::from_utf8(&self.partial[..end])?;
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(
                format!("not a success: {}", String::from_utf8_lossy(&self.partial)).into(),
            );
        }
        let mut length = None;
        for (name, value) in head.split("\r\n").filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                self.chunked = value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        self.state = match (self.chunked, length) {
            (true, _) => State::Size,
            (false, Some(0)) => State::Whole,
            (false, Some(length)) => State::Data(length),
            (false, None) => return Err("the answer has neither a length nor chunks".into()),
        };
        self.partial.clear();
        Ok(&bytes[end + 4 - before..])
    }

    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Failure> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            self.partial.extend(bytes);
            return Ok(&[]);
        };
        self.partial.extend(&bytes[..end]);
        let line = std::str::from_utf8(&self.partial)?.trim_end();
        self.state = match self.state {
            State::Trailer if line.is_empty() => State::Whole,
            State::Trailer => State::Trailer,
            _ => match usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)? {
                0 => State::Trailer,
                size => State::Data(size + 2),
            },
        };
        self.partial.clear();
        Ok(&bytes[end + 1..])
    }

    fn data<'a>(&mut self, bytes: &'a [u8], left: usize) -> &'a [u8] {
        let taken = left.min(bytes.len());
        // The line end after a chunk is no part of the body.
        let ends = if self.chunked { 2 } else { 0 };
        let body = &bytes[..taken.min(left.saturating_sub(ends))];
        self.bytes += body.len();
        self.feeds += memchr::memchr_iter(b'\n', body).count();
        self.state = match (left - taken, self.chunked) {
            (0, true) => State::Size,
            (0, false) => State::Whole,
            (more, _) => State::Data(more),
        };
        &bytes[taken..]
    }
}
