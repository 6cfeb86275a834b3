use super::chunks::{LIMITS, chunkings};
use bytes::Bytes;
use jarvis_protocol::{DecodeError, ndjson::LineDecoder};

/// What a stream gives: its lines, and the error that ended it.
type Outcome = (Vec<Bytes>, Option<DecodeError>);

/// The bytes are a stream of lines. Whatever its chunks, it gives the lines that the plain rule says, up to
/// the first one over the limit; nothing but line ends is lost.
pub fn ndjson(stream: &[u8]) {
    for limit in LIMITS {
        let expected = by_the_rule(stream, limit);
        for chunks in chunkings(stream) {
            assert_eq!(decoded(&chunks, limit), expected, "limit {limit}");
        }
        if expected.1.is_none() {
            let text = |bytes: &[u8]| -> Vec<u8> {
                let mut bytes = bytes.to_vec();
                bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
                bytes
            };
            assert_eq!(text(&expected.0.concat()), text(stream));
        }
    }
}

fn decoded(chunks: &[&[u8]], limit: usize) -> Outcome {
    let mut decoder = LineDecoder::new(limit);
    let mut lines = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_line() {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => break,
                Err(error) => {
                    stays_failed(&mut decoder, &error);
                    return (lines, Some(error));
                }
            }
        }
    }
    lines.extend(decoder.finish());
    assert_eq!(decoder.finish(), None, "the rest is given once");
    (lines, None)
}

fn stays_failed(decoder: &mut LineDecoder, error: &DecodeError) {
    decoder.push(b"{}\n");
    assert_eq!(decoder.next_line().as_ref(), Err(error));
    assert_eq!(decoder.finish(), None);
}

/// The whole stream cut at its newlines, without any of the decoder's care for pieces.
fn by_the_rule(stream: &[u8], limit: usize) -> Outcome {
    let mut lines = Vec::new();
    for line in stream.split(|byte| *byte == b'\n') {
        if line.len() > limit {
            return (lines, Some(DecodeError::TooLong { limit }));
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.is_empty() {
            lines.push(Bytes::copy_from_slice(line));
        }
    }
    (lines, None)
}
