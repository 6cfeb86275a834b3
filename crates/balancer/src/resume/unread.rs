//! Records that were forwarded and not read yet.
//!
//! Nearly every answer ends well, and then nobody needs its text. So ordinary records are only kept, and read when the node
//! is lost, or when what is kept becomes too much.

use super::frame::Framing;
use bytes::Bytes;
use memchr::{
    memchr_iter,
    memmem::{self, Finder},
    memrchr,
};
use std::sync::{
    LazyLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes of one answer.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// Whole records each, in order. They are shared with whom they were forwarded to.
    large: Vec<Bytes>,
    /// The small ones that came after these, copied together.
    small: Vec<u8>,
    /// Of the large ones.
    length: usize,
    counted: usize,
}

/// Bytes of all answers together.
static ALL: AtomicUsize = AtomicUsize::new(0);
/// While all answers together have more, one keeps only [`FEW`].
const MUCH: usize = 16 << 20;
const FEW: usize = 1 << 10;
/// From this length on sharing is cheaper than copying, in bytes.
const LARGE: usize = 1 << 10;

impl Unread {
    /// Keeps records if there is room, at most `most` for this answer.
    pub(super) fn keep(&mut self, whole: &Bytes, most: usize) -> bool {
        let most = if ALL.load(Relaxed) > MUCH {
            most.min(FEW)
        } else {
            most
        };
        if self.length + self.small.len() + whole.len() > most {
            return false;
        }
        if whole.len() < LARGE {
            self.small.extend_from_slice(whole);
        } else {
            self.gather();
            self.length += whole.len();
            self.large.push(whole.clone());
        }
        let held = self.length + self.small.capacity();
        if held != self.counted {
            ALL.fetch_add(held, Relaxed);
            ALL.fetch_sub(self.counted, Relaxed);
            self.counted = held;
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.large.is_empty() && self.small.is_empty()
    }

    /// What was kept, in pieces of whole records.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.gather();
        ALL.fetch_sub(self.counted, Relaxed);
        (self.length, self.counted) = (0, 0);
        std::mem::take(&mut self.large)
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.length += self.small.len();
            self.large.push(std::mem::take(&mut self.small).into());
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        ALL.fetch_sub(self.counted, Relaxed);
    }
}

/// How a line ends that says of itself that others follow.
const GOES_ON: &[u8] = b"\"done\":false}";

/// Up to where these whole records only add to an answer: what follows ends it. `None`: something else is among them.
///
/// A record that only adds looks like a JSON object and is neither an end nor an error. A quote within a text is escaped, so
/// what is searched for cannot be part of one.
pub(super) fn ordinary(framing: Framing, whole: &[u8]) -> Option<usize> {
    static ERROR: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"error\":"));
    static USAGE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"usage\":{"));
    let at = end_of(framing, whole).unwrap_or(whole.len());
    let before = &whole[..at];
    let lacks = |finder: &Finder<'_>| finder.find(before).is_none();
    let adds = match framing {
        Framing::Lines => are_lines(before) && lacks(&ERROR),
        Framing::Events => are_events(before) && lacks(&ERROR) && lacks(&USAGE),
    };
    adds.then_some(at)
}

/// Where the record begins with which an answer ends, if these whole records have one.
fn end_of(framing: Framing, whole: &[u8]) -> Option<usize> {
    static OVER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"done\":true"));
    static REASON: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"\"finish_reason\":\""));
    static DONE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(b"[DONE]"));
    match framing {
        Framing::Lines => {
            let last = whole.strip_suffix(b"\n")?;
            if last.ends_with(GOES_ON) {
                return None;
            }
            let start = memrchr(b'\n', last).map_or(0, |at| at + 1);
            OVER.find(&last[start..]).map(|_| start)
        }
        Framing::Events => {
            let marks = [&*REASON, &*DONE];
            let first = marks.iter().filter_map(|mark| mark.find(whole)).min()?;
            Some(memmem::rfind(&whole[..first], b"\n\n").map_or(0, |at| at + 2))
        }
    }
}

/// Whether every event has one line of data, which begins and ends as an object does.
fn are_events(whole: &[u8]) -> bool {
    let mut start = 0;
    memmem::find_iter(whole, b"\n\n").all(|end| {
        let event = &whole[start..end];
        start = end + 2;
        event.starts_with(b"data: {\"") && event.ends_with(b"}")
    }) && start == whole.len()
}

/// Whether every line begins as an object does, and ends as one that says of itself that others follow.
fn are_lines(whole: &[u8]) -> bool {
    let mut start = 0;
    memchr_iter(b'\n', whole).all(|end| {
        let line = &whole[start..end];
        start = end + 1;
        line.starts_with(b"{\"") && line.ends_with(GOES_ON)
    }) && start == whole.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_all(framing: Framing, whole: &[u8]) -> bool {
        ordinary(framing, whole) == Some(whole.len())
    }

    #[test]
    fn ends_errors_and_what_is_no_record_are_not_ordinary() {
        let text = br#"{"message":{"content":"so \"done\":true and \"error\":"},"done":false}"#;
        let line = [text.as_slice(), b"\n"].concat();
        assert!(are_all(Framing::Lines, &line));
        assert!(are_all(Framing::Lines, &line.repeat(9)));
        for odd in [
            "{\"done\":true}\n",
            "{\"error\":\"no\"}\n",
            "{]\n",
            "\n",
            "{\"a\":1}\n",
            "{\"done\":false}\r\n",
            "nothing\n",
            "{\"done\":false}\n\n{\"done\":false}\n",
            "{\"error\":\"no\",\"done\":false}\n",
        ] {
            assert!(!are_all(Framing::Lines, odd.as_bytes()), "{odd:?}");
            let later = [line.as_slice(), odd.as_bytes()].concat();
            assert!(!are_all(Framing::Lines, &later), "{odd:?}");
        }
        let event =
            b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
        assert!(are_all(Framing::Events, event));
        for odd in [
            "data: [DONE]\n\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{}}\n\n",
            ": a comment\n\n",
            "data: {\"error\":{}}\n\n",
            "data: {]\n\n",
            "data: {\"a\":1}\ndata: {\"b\":2}\n\n\n",
        ] {
            assert!(!are_all(Framing::Events, odd.as_bytes()), "{odd:?}");
            for around in [
                [event.as_slice(), odd.as_bytes(), event],
                [odd.as_bytes(), event, event],
            ] {
                assert!(!are_all(Framing::Events, &around.concat()), "{odd:?}");
            }
        }
    }

    #[test]
    fn what_all_answers_keep_together_is_bounded_and_given_back() {
        let before = ALL.load(Relaxed);
        let mut one = Unread::default();
        let (small, large) = (Bytes::from_static(b"small\n"), vec![b'x'; LARGE].into());
        for (piece, kept) in [
            (&small, true),
            (&small, true),
            (&large, true),
            (&small, true),
            (&large, false),
        ] {
            assert_eq!(one.keep(piece, LARGE + 20), kept);
        }
        assert!(ALL.load(Relaxed) >= before + LARGE);
        assert_eq!(
            one.take(),
            [Bytes::from_static(b"small\nsmall\n"), large, small]
        );
        assert!(one.is_empty());
        assert!(ALL.load(Relaxed) < before + LARGE);
    }
}
