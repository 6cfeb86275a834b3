use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

/// How long a model stays loaded after its last request.
///
/// On the wire a number of seconds or a Go duration (`"5m"`, `"1h30m"`, `"500ms"`); negative means for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// Until the server stops.
    Forever,
    /// This long; zero unloads at once.
    For(Duration),
}

impl KeepAlive {
    /// Reads a Go duration or a bare number of seconds.
    ///
    /// # Errors
    /// A sentence that names what could not be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("invalid duration {text:?}: expected something like \"5m\", \"30s\" or -1");
        if let Ok(seconds) = text.parse::<f64>() {
            return Self::from_seconds(seconds).ok_or_else(invalid);
        }
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut seconds = 0.0;
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(invalid)?;
            let (number, tail) = rest.split_at(digits);
            let unit_end = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let scale = match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(invalid()),
            };
            seconds += number.parse::<f64>().map_err(|_| invalid())? * scale;
            rest = tail;
        }
        Self::from_seconds(if negative { -seconds } else { seconds }).ok_or_else(invalid)
    }

    fn from_seconds(seconds: f64) -> Option<Self> {
        if seconds.is_nan() {
            return None;
        }
        if seconds < 0.0 {
            return Some(Self::Forever);
        }
        Some(Duration::try_from_secs_f64(seconds).map_or(Self::Forever, Self::For))
    }
}

impl Serialize for KeepAlive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Forever => serializer.serialize_i64(-1),
            Self::For(time) if time.subsec_nanos() == 0 => serializer.serialize_u64(time.as_secs()),
            Self::For(time) => serializer.serialize_f64(time.as_secs_f64()),
        }
    }
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Self::parse(&text).map_err(D::Error::custom),
            Value::Number(number) => number
                .as_f64()
                .and_then(Self::from_seconds)
                .ok_or_else(|| D::Error::custom(format!("invalid duration {number}"))),
            other => Err(D::Error::custom(format!(
                "invalid duration {other}: expected seconds or something like \"5m\""
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_ollama_reads() {
        let read = |json: &str| serde_json::from_str::<KeepAlive>(json);
        let seconds = |s| KeepAlive::For(Duration::from_secs(s));
        assert_eq!(read("\"5m\"").unwrap(), seconds(300));
        assert_eq!(read("\"1h30m5s\"").unwrap(), seconds(5405));
        assert_eq!(
            read("\"500ms\"").unwrap(),
            KeepAlive::For(Duration::from_millis(500))
        );
        assert_eq!(read("30").unwrap(), seconds(30));
        assert_eq!(read("0").unwrap(), seconds(0));
        assert_eq!(read("\"0\"").unwrap(), seconds(0));
        assert_eq!(read("-1").unwrap(), KeepAlive::Forever);
        assert_eq!(read("\"-1m\"").unwrap(), KeepAlive::Forever);
        assert_eq!(read("1e300").unwrap(), KeepAlive::Forever);
        for wrong in [
            "\"5 minutes\"",
            "\"\"",
            "\"m\"",
            "\"5\\u0000\"",
            "true",
            "[]",
            "\"1.2.3s\"",
            "\"NaN\"",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn survives_a_round_trip() {
        for value in [
            KeepAlive::Forever,
            KeepAlive::For(Duration::ZERO),
            KeepAlive::For(Duration::from_millis(1500)),
        ] {
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<KeepAlive>(&json).unwrap(), value);
        }
    }
}
