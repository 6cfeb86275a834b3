//! Server-sent events: the stream format of the OpenAI dialect and of Jarvis's own event streams.

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr2;

use crate::DecodeError;

/// One event. `data` of several lines is joined by `\n`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field; empty when absent (clients then take it for `message`).
    pub event: String,
    /// The `id:` field of this event, if it carries one.
    pub id: Option<String>,
    /// The `data:` lines.
    pub data: String,
}

impl Event {
    /// An event of data alone, as the OpenAI dialect sends it.
    pub fn data(data: impl Into<String>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// The bytes on the wire, blank line included. Newlines in `event` and `id` are dropped, and `data` is
    /// cut at all three line endings, so that no value can forge a field or an event.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.data.len() + 32);
        if !self.event.is_empty() {
            field(&mut out, "event", &self.event);
        }
        if let Some(id) = &self.id {
            field(&mut out, "id", id);
        }
        let mut rest = Some(self.data.as_str());
        while let Some(text) = rest {
            let line;
            (line, rest) = first_line(text);
            out.put_slice(b"data: ");
            out.put_slice(line.as_bytes());
            out.put_u8(b'\n');
        }
        out.put_u8(b'\n');
        out.freeze()
    }
}

/// The text up to its first line end, and what follows that: `\r\n` is one end, `\r` alone another.
fn first_line(text: &str) -> (&str, Option<&str>) {
    let Some(end) = memchr2(b'\n', b'\r', text.as_bytes()) else {
        return (text, None);
    };
    let (line, rest) = text.split_at(end);
    (line, rest.strip_prefix("\r\n").or_else(|| rest.get(1..)))
}

fn field(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.extend(value.bytes().filter(|b| !matches!(b, b'\n' | b'\r' | 0)));
    out.put_u8(b'\n');
}

/// Decodes events from chunks cut anywhere; lines may end in `\n`, `\r\n` or `\r`.
///
/// Bytes that are not UTF-8 are replaced, as the standard asks. At most `max_event` bytes of an event are
/// kept, and as many of a line whose end is not seen yet.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    scanned: usize,
    skip_lf: bool,
    started: bool,
    event: String,
    id: Option<String>,
    data: Option<String>,
    max_event: usize,
    failed: bool,
}

impl Decoder {
    /// A decoder that refuses a line of more than `max_event` bytes, or an event whose values together are
    /// longer than that.
    pub fn new(max_event: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            skip_lf: false,
            started: false,
            event: String::new(),
            id: None,
            data: None,
            max_event,
            failed: false,
        }
    }

    /// Adds a chunk. Take out the events with [`Self::next_event`] before pushing the next one.
    pub fn push(&mut self, chunk: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(chunk);
        }
    }

    /// The next whole event that carries data; `None` when more bytes are needed.
    ///
    /// An event cut off by the end of the stream is never returned.
    pub fn next_event(&mut self) -> Result<Option<Event>, DecodeError> {
        loop {
            let Some(line) = self.next_line()? else {
                return Ok(None);
            };
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                let id = self.id.take();
                if let Some(data) = self.data.take() {
                    return Ok(Some(Event { event, id, data }));
                }
                continue;
            }
            self.accept(&line)?;
        }
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if self.failed {
            return Err(self.too_long());
        }
        if self.skip_lf && !self.buffer.is_empty() {
            self.skip_lf = false;
            if self.buffer[0] == b'\n' {
                let _ = self.buffer.split_to(1);
            }
        }
        let Some(at) = memchr2(b'\n', b'\r', &self.buffer[self.scanned..]) else {
            self.scanned = self.buffer.len();
            return if self.scanned > self.max_event {
                Err(self.fail())
            } else {
                Ok(None)
            };
        };
        let end = self.scanned + at;
        if end > self.max_event {
            return Err(self.fail());
        }
        self.scanned = 0;
        let mut line = self.buffer.split_to(end + 1);
        self.skip_lf = line[end] == b'\r';
        line.truncate(end);
        let mut line = line.freeze();
        if !std::mem::replace(&mut self.started, true) && line.starts_with(b"\xef\xbb\xbf") {
            line = line.slice(3..);
        }
        Ok(Some(line))
    }

    fn accept(&mut self, line: &[u8]) -> Result<(), DecodeError> {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return Ok(()),
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        let value = String::from_utf8_lossy(value);
        match name {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                none => *none = Some(value.into_owned()),
            },
            b"event" => self.event = value.into_owned(),
            b"id" if !value.contains('\0') => self.id = Some(value.into_owned()),
            _ => {}
        }
        if self.held() > self.max_event {
            return Err(self.fail());
        }
        Ok(())
    }

    /// Bytes of the event whose end is not seen yet.
    fn held(&self) -> usize {
        let optional = |value: &Option<String>| value.as_ref().map_or(0, String::len);
        self.event.len() + optional(&self.id) + optional(&self.data)
    }

    fn fail(&mut self) -> DecodeError {
        self.failed = true;
        self.buffer = BytesMut::new();
        self.event = String::new();
        self.id = None;
        self.data = None;
        self.too_long()
    }

    fn too_long(&self) -> DecodeError {
        DecodeError::TooLong {
            limit: self.max_event,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(chunks: &[&[u8]], max: usize) -> Result<Vec<Event>, DecodeError> {
        let mut decoder = Decoder::new(max);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(event) = decoder.next_event()? {
                events.push(event);
            }
        }
        Ok(events)
    }

    #[test]
    fn every_line_ending_and_every_cut() {
        let stream = "\u{feff}event: delta\r\nid: 1-4\r\ndata: é\r\n\r\n: comment\ndata:a\ndata: b\n\nevent\rdata\r\rdata: cut".as_bytes();
        let whole = decode(&[stream], 100).unwrap();
        assert_eq!(
            whole,
            vec![
                Event {
                    event: "delta".into(),
                    id: Some("1-4".into()),
                    data: "é".into()
                },
                Event::data("a\nb"),
                Event::data(""),
            ]
        );
        for cut in 0..=stream.len() {
            let (left, right) = stream.split_at(cut);
            assert_eq!(decode(&[left, right], 100).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert!(decode(&[&[b'x'; 200]], 100).is_err());
        let many = b"data: 0123456789\n".repeat(20);
        assert!(decode(&[&many], 100).is_err(), "data adds up over lines");
    }

    #[test]
    fn a_value_cannot_forge_a_field() {
        let event = Event {
            event: "a\ndata: forged".into(),
            id: Some("1\r2".into()),
            data: "x".into(),
        };
        let decoded = decode(&[&event.encode()], 100).unwrap();
        assert_eq!(decoded[0].event, "adata: forged");
        assert_eq!(decoded[0].id.as_deref(), Some("12"));
        assert_eq!(decoded[0].data, "x");
    }

    #[test]
    fn data_cannot_forge_an_event() {
        let event = Event::data("a\r\rdata: forged\r\n\rid: 1\r");
        let decoded = decode(&[&event.encode()], 100).unwrap();
        assert_eq!(decoded, [Event::data("a\n\ndata: forged\n\nid: 1\n")]);
    }

    #[test]
    fn names_count_towards_the_limit() {
        let stream = b"event: 0123456789\nid: 0123456789\ndata: x\n\n";
        assert!(decode(&[stream], 21).is_ok());
        assert!(decode(&[stream], 20).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            events in proptest::collection::vec(("[a-z]{0,8}", proptest::option::of("[0-9-]{1,8}"), "[^\r]{0,60}"), 1..10),
            size in 1usize..50,
        ) {
            let events: Vec<Event> = events.into_iter().map(|(event, id, data)| Event { event, id, data }).collect();
            let stream: Vec<u8> = events.iter().flat_map(|e| e.encode().to_vec()).collect();
            let chunks: Vec<&[u8]> = stream.chunks(size).collect();
            prop_assert_eq!(decode(&chunks, 1000).unwrap(), events);
        }
    }
}
