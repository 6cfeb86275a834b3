//! Newline-delimited JSON: the stream format of the Ollama dialect.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;
use serde::Serialize;

use crate::DecodeError;

/// Cuts a byte stream into lines, whatever the chunks it arrives in.
///
/// Blank lines are skipped and a `\r` before the newline is dropped. At most `max_line` bytes are kept.
#[derive(Debug)]
pub struct LineDecoder {
    buffer: BytesMut,
    scanned: usize,
    max_line: usize,
    failed: bool,
}

impl LineDecoder {
    /// A decoder that refuses lines of more than `max_line` bytes (newline not counted).
    pub fn new(max_line: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            max_line,
            failed: false,
        }
    }

    /// Adds a chunk. Take out the lines with [`Self::next_line`] before pushing the next one.
    pub fn push(&mut self, chunk: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// The next whole line without its newline; `None` when more bytes are needed.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, DecodeError> {
        loop {
            if self.failed {
                return Err(self.too_long());
            }
            let Some(at) = memchr(b'\n', &self.buffer[self.scanned..]) else {
                self.scanned = self.buffer.len();
                if self.scanned > self.max_line {
                    return Err(self.fail());
                }
                return Ok(None);
            };
            let end = self.scanned + at;
            if end > self.max_line {
                return Err(self.fail());
            }
            let mut line = self.buffer.split_to(end + 1);
            self.scanned = 0;
            line.truncate(end);
            if let Some(line) = trimmed(line) {
                return Ok(Some(line));
            }
        }
    }

    /// What is left when the stream has ended: a last line that lacks its newline.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.scanned = 0;
        trimmed(self.buffer.split())
    }

    fn fail(&mut self) -> DecodeError {
        self.failed = true;
        self.buffer = BytesMut::new();
        self.scanned = 0;
        self.too_long()
    }

    fn too_long(&self) -> DecodeError {
        DecodeError::TooLong {
            limit: self.max_line,
        }
    }
}

fn trimmed(mut line: BytesMut) -> Option<Bytes> {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    (!line.is_empty()).then(|| line.freeze())
}

/// One value as a line of JSON with its newline.
///
/// # Errors
/// Only if the value cannot be written as JSON (a map with keys that are not strings).
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, serde_json::Error> {
    let mut writer = BytesMut::with_capacity(256).writer();
    serde_json::to_writer(&mut writer, value)?;
    let mut line = writer.into_inner();
    line.put_u8(b'\n');
    Ok(line.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]], max: usize) -> Result<Vec<Bytes>, DecodeError> {
        let mut decoder = LineDecoder::new(max);
        let mut lines = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(line) = decoder.next_line()? {
                lines.push(line);
            }
        }
        lines.extend(decoder.finish());
        Ok(lines)
    }

    #[test]
    fn a_line_may_be_cut_at_every_byte() {
        let stream = "{\"a\":\"é\"}\r\n\n{\"b\":\"日本\"}\n{\"last\":1}".as_bytes();
        let whole = decode(&[stream], 64).unwrap();
        assert_eq!(whole.len(), 3);
        for cut in 0..=stream.len() {
            let (left, right) = stream.split_at(cut);
            assert_eq!(decode(&[left, right], 64).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_long_line_is_refused_and_its_memory_freed() {
        let mut decoder = LineDecoder::new(1024);
        decoder.push(&[b'x'; 4096]);
        assert_eq!(
            decoder.next_line(),
            Err(DecodeError::TooLong { limit: 1024 })
        );
        decoder.push(b"{}\n");
        assert!(decoder.next_line().is_err(), "stays refused");
        assert_eq!(decoder.buffer.capacity(), 0);
    }

    #[test]
    fn the_limit_is_exact() {
        assert!(decode(&[b"1234\n"], 4).is_ok());
        assert!(decode(&[b"12345\n"], 4).is_err());
        assert!(decode(&[b"12345"], 4).is_err());
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            lines in proptest::collection::vec("[^\r\n]{0,40}", 0..20),
            cuts in proptest::collection::vec(0usize..2000, 0..30),
        ) {
            let stream: Vec<u8> = lines.iter().flat_map(|l| format!("{l}\n").into_bytes()).collect();
            let mut at: Vec<usize> = cuts.into_iter().map(|c| c % (stream.len() + 1)).collect();
            at.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in at {
                chunks.push(&stream[from..cut]);
                from = cut;
            }
            chunks.push(&stream[from..]);
            let expected: Vec<Bytes> = lines.into_iter().filter(|l| !l.is_empty()).map(Bytes::from).collect();
            prop_assert_eq!(decode(&chunks, 200).unwrap(), expected);
        }
    }
}
