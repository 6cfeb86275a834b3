//! How many requests may come.

use crate::text::written_as_text;
use std::{fmt, str::FromStr, time::Duration};

/// Requests in a time, spelled as nginx spells it (`20r/s`, `90r/m`), or `off` for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestRate {
    /// As many as come.
    Off,
    /// So many in a second.
    PerSecond(u32),
    /// So many in a minute.
    PerMinute(u32),
}

impl RequestRate {
    /// The time in which there is room for one more; `None` without a bound.
    #[must_use]
    pub fn interval(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::PerSecond(count) => Some(Duration::from_secs(1) / count.max(1)),
            Self::PerMinute(count) => Some(Duration::from_mins(1) / count.max(1)),
        }
    }
}

impl FromStr for RequestRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let counted = |unit: &str, rate: fn(u32) -> Self| {
            let count = text.strip_suffix(unit)?.trim().parse().ok()?;
            (1..=1_000_000).contains(&count).then(|| rate(count))
        };
        match text {
            "off" => Some(Self::Off),
            _ => counted("r/s", Self::PerSecond).or_else(|| counted("r/m", Self::PerMinute)),
        }
        .ok_or_else(|| {
            format!("`{text}` is no rate of requests; write 20r/s, 90r/m (1 to 1000000), or off")
        })
    }
}

impl fmt::Display for RequestRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::PerSecond(count) => write!(f, "{count}r/s"),
            Self::PerMinute(count) => write!(f, "{count}r/m"),
        }
    }
}

written_as_text!(RequestRate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        for (text, interval) in [
            ("off", None),
            ("20r/s", Some(Duration::from_millis(50))),
            (
                "90r/m",
                Some(Duration::from_micros(666_666) + Duration::from_nanos(666)),
            ),
        ] {
            let rate: RequestRate = text.parse().unwrap();
            assert_eq!(
                (rate.to_string().as_str(), rate.interval()),
                (text, interval)
            );
        }
    }

    #[test]
    fn anything_else_is_explained() {
        for text in [
            "",
            "20",
            "0r/s",
            "-1r/s",
            "20r/h",
            "1000001r/s",
            "r/s",
            "OFF",
        ] {
            let error = text.parse::<RequestRate>().unwrap_err();
            assert!(error.contains("20r/s") && error.contains(text), "{error}");
        }
    }
}
