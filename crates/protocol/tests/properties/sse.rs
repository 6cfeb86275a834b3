use super::chunks::{LIMITS, chunkings};
use jarvis_protocol::{
    DecodeError,
    sse::{Decoder, Event},
};

/// What a stream gives: its events, and the error that ended it.
type Outcome = (Vec<Event>, Option<DecodeError>);

/// The bytes are a stream of events. Whatever its chunks, it gives the events that the standard's own
/// steps give, up to the first one over the limit; written again, they are read again.
pub fn sse(stream: &[u8]) {
    for limit in LIMITS {
        let expected = by_the_standard(stream, limit);
        for chunks in chunkings(stream) {
            assert_eq!(decoded(&chunks, limit), expected, "limit {limit}");
        }
        written_and_read(&expected.0);
    }
}

/// The bytes are events to be written: `event`, `id` and `data` in turn, each up to a byte 0xff, which no
/// text contains; an `id` of that byte's neighbour 0xfe alone is absent. No value forges a field or an event.
pub fn sse_events(values: &[u8]) {
    let fields: Vec<&[u8]> = values.split(|byte| *byte == 0xff).collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let events: Vec<Event> = fields
        .chunks_exact(3)
        .map(|field| Event {
            event: text(field[0]),
            id: (field[1] != b"\xfe").then(|| text(field[1])),
            data: text(field[2]),
        })
        .collect();
    written_and_read(&events);
}

fn written_and_read(events: &[Event]) {
    let stream: Vec<u8> = events.iter().flat_map(Event::encode).collect();
    let expected: Vec<Event> = events.iter().map(as_it_arrives).collect();
    for chunks in chunkings(&stream) {
        assert_eq!(decoded(&chunks, usize::MAX), (expected.clone(), None));
    }
}

/// An event without what the wire cannot carry: line ends in names, and which kind they are in data.
fn as_it_arrives(event: &Event) -> Event {
    let name = |text: &str| text.replace(['\r', '\n', '\0'], "");
    Event {
        event: name(&event.event),
        id: event.id.as_deref().map(name),
        data: lines(&event.data),
    }
}

fn decoded(chunks: &[&[u8]], limit: usize) -> Outcome {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    decoder.push(b"data: x\n\n");
                    assert_eq!(decoder.next_event().as_ref(), Err(&error));
                    return (events, Some(error));
                }
            }
        }
    }
    (events, None)
}

/// The steps of the HTML standard ("Interpreting an event stream") on the whole stream at once. Limits count
/// the bytes of a line as it arrives, and of an event's values together.
fn by_the_standard(stream: &[u8], limit: usize) -> Outcome {
    let too_long = Some(DecodeError::TooLong { limit });
    let (mut events, mut event) = (Vec::new(), Event::default());
    let mut data: Option<String> = None;
    let lines = cut(stream);
    let last = lines.len() - 1;
    for (nth, raw) in lines.into_iter().enumerate() {
        if raw.len() > limit {
            return (events, too_long);
        }
        if nth == last {
            break;
        }
        let line = String::from_utf8_lossy(raw);
        let line = match line.strip_prefix('\u{feff}') {
            Some(rest) if nth == 0 => rest,
            _ => &line,
        };
        if line.is_empty() {
            let begun = std::mem::take(&mut event);
            events.extend(data.take().map(|data| Event { data, ..begun }));
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event.event),
            "id" if !value.contains('\0') => event.id = Some(value.to_owned()),
            "data" => {
                data = Some(data.map_or(value.to_owned(), |before| format!("{before}\n{value}")));
            }
            _ => {}
        }
        let held = [&event.id, &data].into_iter().flatten().map(String::len);
        if event.event.len() + held.sum::<usize>() > limit {
            return (events, too_long);
        }
    }
    (events, None)
}

/// The lines of a stream, ended by `\r\n`, `\n` or `\r`; the last one is what has no end yet.
fn cut(stream: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = stream;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push(&rest[..end]);
        let width = if rest[end..].starts_with(b"\r\n") {
            2
        } else {
            1
        };
        rest = &rest[end + width..];
    }
    lines.push(rest);
    lines
}

fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}
