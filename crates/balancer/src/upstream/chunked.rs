//! Decodes `Transfer-Encoding: chunked`, in place and without a buffer of its own.

use super::error::Malformed;
use std::ops::Range;

/// The longest line of a chunk's size with its extensions, in bytes.
const MAX_SIZE_LINE: u16 = 1024;
/// The longest trailer section, in bytes.
const MAX_TRAILERS: u16 = 8 * 1024;
/// 16 hexadecimal digits fill a `u64`.
const MAX_DIGITS: u8 = 16;

/// Where in the encoding the bytes read so far end. Holds no bytes: a size line may be cut anywhere.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Of the chunk under way: its size as far as it is read, then what is missing.
    left: u64,
    digits: u8,
    /// Length of the size line or of the trailers so far.
    line: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

/// What became of a piece of the encoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded {
    /// Where in the piece the payload now stands, moved together.
    pub(super) payload: Range<usize>,
    /// How much of the piece belongs to this body.
    pub(super) used: usize,
    /// Set when what follows the payload is not of the encoding.
    pub(super) error: Option<Malformed>,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Size,
            left: 0,
            digits: 0,
            line: 0,
        }
    }

    pub(super) const fn done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next bytes of the stream. Payload of several chunks is moved together within `bytes`; one alone stays
    /// where it is. Payload before an error is handed out with it, so that how the stream was cut changes nothing.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> Decoded {
        let mut payload = 0..0;
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let rest = bytes.len() - at;
                let here = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
                if payload.is_empty() {
                    payload = at..at + here;
                } else {
                    bytes.copy_within(at..at + here, payload.end);
                    payload.end += here;
                }
                at += here;
                self.left -= here as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            if let Some(used) = self.plain(&bytes[at..]) {
                at += used;
                continue;
            }
            if let Err(error) = self.step(bytes[at]) {
                return Decoded {
                    payload,
                    used: at,
                    error: Some(error),
                };
            }
            at += 1;
        }
        Decoded {
            payload,
            used: at,
            error: None,
        }
    }

    /// What stands between the payload of two chunks where it is as nearly always: whole, without extensions, and a size
    /// that is not 0. Gives its length; `None`: it is for [`Self::step`] to see what it is.
    #[inline]
    fn plain(&mut self, bytes: &[u8]) -> Option<usize> {
        let line = match self.state {
            State::DataCr => bytes.strip_prefix(b"\r\n")?,
            State::Size if self.digits == 0 => bytes,
            _ => return None,
        };
        let (mut size, mut digits) = (0, 0);
        for byte in line.iter().take(MAX_DIGITS.into()) {
            let digit = DIGITS[usize::from(*byte)];
            if digit == NO_DIGIT {
                break;
            }
            size = size << 4 | u64::from(digit);
            digits += 1;
        }
        if size == 0 || !line[digits..].starts_with(b"\r\n") {
            return None;
        }
        self.left = size;
        self.state = State::Data;
        Some(bytes.len() - line.len() + digits + 2)
    }

    /// One byte outside of the payload.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => self.digit(byte)?,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.lengthen(MAX_SIZE_LINE, Malformed::ChunkExtension)?;
                State::Extension
            }
            (State::Extension, _) => return Err(Malformed::ChunkExtension),
            (State::SizeLf, b'\n') => self.sized(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::SizeLf | State::DataCr | State::DataLf, _) => return Err(Malformed::ChunkEnd),
            _ => self.trailer(byte)?,
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<State, Malformed> {
        let digit = DIGITS[usize::from(byte)];
        if digit == NO_DIGIT || self.digits == MAX_DIGITS {
            return Err(Malformed::ChunkSize);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    /// The end of a size line: payload follows, or after the last chunk the trailers.
    fn sized(&mut self) -> State {
        (self.digits, self.line) = (0, 0);
        if self.left == 0 {
            State::TrailerStart
        } else {
            State::Data
        }
    }

    /// One byte after the last chunk. Trailers are checked and dropped: nothing we relay is in them.
    fn trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        self.lengthen(MAX_TRAILERS, Malformed::Trailer)?;
        Ok(match (self.state, byte) {
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::Done,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => State::TrailerName,
            (State::TrailerName, b':') | (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                State::TrailerValue
            }
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            _ => return Err(Malformed::Trailer),
        })
    }

    fn lengthen(&mut self, limit: u16, error: Malformed) -> Result<(), Malformed> {
        self.line += 1;
        if self.line > limit {
            Err(error)
        } else {
            Ok(())
        }
    }
}

const NO_DIGIT: u8 = u8::MAX;

/// The values of the hexadecimal digits, by byte.
static DIGITS: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let digits = b"0123456789abcdef";
    let mut value = 0;
    while value < 16 {
        let digit = digits[value as usize];
        values[digit as usize] = value;
        values[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};

/// Whether a byte may stand in a header's name (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
