//! Cutting a stream into whole records, whatever the chunks it comes in.

use super::Dialect;
use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memrchr};

/// How a dialect divides its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// A record a line.
    Lines,
    /// Server-sent events: a blank line ends each.
    Events,
}

impl From<Dialect> for Framing {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OllamaChat | Dialect::OllamaGenerate => Self::Lines,
            Dialect::OpenAiChat | Dialect::OpenAiCompletions => Self::Events,
        }
    }
}

/// Keeps back the record that is not whole yet.
#[derive(Debug)]
pub(super) struct Frames {
    framing: Framing,
    held: BytesMut,
    /// How much of `held` was searched for a record's end, and for events where the last line of that begins.
    searched: usize,
    max: usize,
}

impl Frames {
    pub(super) fn new(framing: Framing, max: usize) -> Self {
        Self {
            framing,
            held: BytesMut::new(),
            searched: 0,
            max,
        }
    }

    /// All that is whole now: the same bytes, and not copied if nothing was held. `true`: a record is over the limit.
    pub(super) fn push(&mut self, chunk: &Bytes) -> (Bytes, bool) {
        if self.held.is_empty() {
            let end = whole(self.framing, chunk, 0).0;
            if end < chunk.len() {
                self.held.extend_from_slice(&chunk[end..]);
            }
            self.searched = 0;
            return (chunk.slice(..end), self.over());
        }
        self.held.extend_from_slice(chunk);
        let (end, searched) = whole(self.framing, &self.held, self.searched);
        let out = self.held.split_to(end).freeze();
        self.searched = searched - end;
        (out, self.over())
    }

    fn over(&mut self) -> bool {
        let over = self.held.len() > self.max;
        if over {
            self.clear();
        }
        over
    }

    /// What is held, when no more comes.
    pub(super) fn take(&mut self) -> Bytes {
        self.searched = 0;
        std::mem::take(&mut self.held).freeze()
    }

    /// Forgets what is held.
    pub(super) fn clear(&mut self) {
        self.held = BytesMut::new();
        self.searched = 0;
    }
}

/// Up to where `bytes` are whole records, given that none ends before `from`; and from where to search next time.
fn whole(framing: Framing, bytes: &[u8], from: usize) -> (usize, usize) {
    if framing == Framing::Lines {
        return match memrchr(b'\n', &bytes[from..]) {
            Some(at) => (from + at + 1, bytes.len()),
            None => (0, bytes.len()),
        };
    }
    let (mut end, mut line) = (0, from);
    while let Some((content, next)) = line_at(bytes, line) {
        if content == line {
            end = next;
        }
        line = next;
    }
    (end, line.max(end))
}

/// The line that begins at `at`: where its text ends and where the next line begins. A `\r` that is the last byte may be half of a `\r\n`.
fn line_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let end = at + memchr2(b'\n', b'\r', bytes.get(at..)?)?;
    match (bytes[end], bytes.get(end + 1)) {
        (b'\n', _) => Some((end, end + 1)),
        (_, Some(b'\n')) => Some((end, end + 2)),
        (_, Some(_)) => Some((end, end + 1)),
        (_, None) => None,
    }
}

/// One record within whole bytes.
pub(super) struct Framed<'a> {
    /// Where it begins, and where the next one does.
    pub(super) range: std::ops::Range<usize>,
    /// What it carries; `None` for blank lines and comments.
    pub(super) payload: Option<std::borrow::Cow<'a, [u8]>>,
}

/// The records of `bytes`, which are whole.
pub(super) fn records(framing: Framing, bytes: &[u8]) -> impl Iterator<Item = Framed<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let record = match framing {
            Framing::Lines => line(bytes, at),
            Framing::Events => event(bytes, at),
        };
        at = record.range.end;
        Some(record)
    })
}

fn line(bytes: &[u8], start: usize) -> Framed<'_> {
    let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at + 1);
    let text = bytes[start..end].trim_ascii();
    Framed {
        range: start..end,
        payload: (!text.is_empty()).then(|| text.into()),
    }
}

fn event(bytes: &[u8], start: usize) -> Framed<'_> {
    let mut data: Option<std::borrow::Cow<'_, [u8]>> = None;
    let mut at = start;
    while at < bytes.len() {
        let (content, next) =
            line_at(bytes, at).unwrap_or((bytes.trim_ascii_end().len(), bytes.len()));
        let text = bytes.get(at..content).unwrap_or_default();
        at = next;
        if text.is_empty() {
            break;
        }
        if let Some(value) = text.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut data {
                None => data = Some(value.into()),
                Some(data) => {
                    let joined = data.to_mut();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            }
        }
    }
    Framed {
        range: start..at,
        payload: data,
    }
}
