use std::io::Read;

use serde_json::{Number, Value};

use super::GgufError;

/// Longest text of a header, bytes. Chat templates have some 10 KiB.
const LONGEST_TEXT: u64 = 16 << 20;
/// Lists up to this length are kept.
const SHORT_LIST: u64 = 16;

/// Reads little-endian values and never more than the file has.
pub(super) struct Reader<R> {
    inner: R,
    position: u64,
    length: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R, length: u64) -> Self {
        Self {
            inner,
            position: 0,
            length,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    fn claim(&mut self, bytes: u64) -> Result<(), GgufError> {
        let end = self.position.saturating_add(bytes);
        if end > self.length {
            return Err(GgufError::Truncated {
                expected: end,
                actual: self.length,
            });
        }
        self.position = end;
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.claim(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn f64(&mut self) -> Result<f64, GgufError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// Text; what is not UTF-8 in it is replaced.
    pub(super) fn string(&mut self) -> Result<String, GgufError> {
        let length = self.u64()?;
        if length > LONGEST_TEXT {
            return Err(GgufError::Truncated {
                expected: self.position.saturating_add(length),
                actual: self.length,
            });
        }
        self.claim(length)?;
        let mut bytes = Vec::new();
        (&mut self.inner).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    pub(super) fn value(&mut self) -> Result<Value, GgufError> {
        let kind = self.u32()?;
        if kind == 9 {
            self.list()
        } else {
            self.scalar(kind)
        }
    }

    fn list(&mut self) -> Result<Value, GgufError> {
        let kind = self.u32()?;
        let length = self.u64()?;
        if length > SHORT_LIST {
            for _ in 0..length {
                self.scalar(kind)?;
            }
            return Ok(Value::Null);
        }
        (0..length).map(|_| self.scalar(kind)).collect()
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, GgufError> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            6 => float(f64::from(f32::from_le_bytes(self.array()?))),
            7 => (u8::from_le_bytes(self.array()?) != 0).into(),
            8 => self.string()?.into(),
            10 => self.u64()?.into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            12 => float(self.f64()?),
            _ => return Err(GgufError::Damaged("unknown type of value")),
        })
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
