//! Records that were forwarded and not read yet.
//!
//! Nearly every answer ends well, and then nobody needs its text. So ordinary records are only kept, and read when the node
//! is lost, or when what is kept becomes too much.

use super::frame::Framing;
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
    bytes: Vec<u8>,
    counted: usize,
}

/// Bytes of all answers together.
static ALL: AtomicUsize = AtomicUsize::new(0);
/// While all answers together have more, one keeps only [`FEW`].
const MUCH: usize = 32 << 20;
const FEW: usize = 1 << 10;

impl Unread {
    /// Keeps records if there is room, at most `most` for this answer.
    pub(super) fn keep(&mut self, whole: &[u8], most: usize) -> bool {
        let most = if ALL.load(Relaxed) > MUCH {
            most.min(FEW)
        } else {
            most
        };
        if self.bytes.len() + whole.len() > most {
            return false;
        }
        self.bytes.extend_from_slice(whole);
        let held = self.bytes.capacity();
        if held != self.counted {
            ALL.fetch_add(held - self.counted, Relaxed);
            self.counted = held;
        }
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was kept.
    pub(super) fn take(&mut self) -> Vec<u8> {
        ALL.fetch_sub(self.counted, Relaxed);
        self.counted = 0;
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        ALL.fetch_sub(self.counted, Relaxed);
    }
}

/// Whether these whole records only add to an answer: they look like JSON objects and none of them is an end or an error. A
/// quote within a text is escaped, so what is searched for cannot be part of one.
pub(super) fn are_ordinary(framing: Framing, whole: &[u8]) -> bool {
    static ENDS_LINES: LazyLock<[Finder<'_>; 2]> =
        LazyLock::new(|| [Finder::new(b"\"done\":true"), Finder::new(b"\"error\":")]);
    static ENDS_EVENTS: LazyLock<[Finder<'_>; 4]> = LazyLock::new(|| {
        [
            Finder::new(b"[DONE]"),
            Finder::new(b"\"error\":"),
            Finder::new(b"\"finish_reason\":\""),
            Finder::new(b"\"usage\":{"),
        ]
    });
    let lacks = |finder: &Finder<'_>| finder.find(whole).is_none();
    match framing {
        Framing::Lines => are_lines(whole) && ENDS_LINES.iter().all(lacks),
        Framing::Events => are_events(whole) && ENDS_EVENTS.iter().all(lacks),
    }
}

/// Where the record begins with which an answer ends, if these whole records have one.
pub(super) fn end_of(framing: Framing, whole: &[u8]) -> Option<usize> {
    match framing {
        Framing::Lines => {
            let last = whole.strip_suffix(b"\n")?;
            let start = memrchr(b'\n', last).map_or(0, |at| at + 1);
            memmem::find(&last[start..], b"\"done\":true").map(|_| start)
        }
        Framing::Events => {
            let marks = [b"\"finish_reason\":\"".as_slice(), b"[DONE]"];
            let first = marks
                .iter()
                .filter_map(|mark| memmem::find(whole, mark))
                .min()?;
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

/// Whether every line begins and ends as an object does.
fn are_lines(whole: &[u8]) -> bool {
    let mut start = 0;
    memchr_iter(b'\n', whole).all(|end| {
        let line = &whole[start..end];
        start = end + 1;
        line.starts_with(b"{\"") && line.ends_with(b"}")
    }) && start == whole.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_errors_and_what_is_no_record_are_not_ordinary() {
        let text = br#"{"message":{"content":"so \"done\":true and \"error\":"},"done":false}"#;
        let line = [text.as_slice(), b"\n"].concat();
        assert!(are_ordinary(Framing::Lines, &line));
        assert!(are_ordinary(Framing::Lines, &line.repeat(9)));
        for odd in [
            "{\"done\":true}\n",
            "{\"error\":\"no\"}\n",
            "{]\n",
            "\n",
            "{\"a\":1}\r\n",
            "nothing\n",
            "{\"a\":1}\n\n{\"b\":2}\n",
        ] {
            assert!(!are_ordinary(Framing::Lines, odd.as_bytes()), "{odd:?}");
            let later = [line.as_slice(), odd.as_bytes()].concat();
            assert!(!are_ordinary(Framing::Lines, &later), "{odd:?}");
        }
        let event =
            b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n";
        assert!(are_ordinary(Framing::Events, event));
        for odd in [
            "data: [DONE]\n\n",
            "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{}}\n\n",
            ": a comment\n\n",
            "data: {\"error\":{}}\n\n",
            "data: {]\n\n",
            "data: {\"a\":1}\ndata: {\"b\":2}\n\n\n",
        ] {
            assert!(!are_ordinary(Framing::Events, odd.as_bytes()), "{odd:?}");
            for around in [
                [event.as_slice(), odd.as_bytes(), event],
                [odd.as_bytes(), event, event],
            ] {
                assert!(!are_ordinary(Framing::Events, &around.concat()), "{odd:?}");
            }
        }
    }

    #[test]
    fn what_all_answers_keep_together_is_bounded_and_given_back() {
        let before = ALL.load(Relaxed);
        let mut one = Unread::default();
        assert!(one.keep(&[b'x'; 100], 200));
        assert!(!one.keep(&[b'x'; 101], 200));
        assert!(ALL.load(Relaxed) >= before + 100);
        assert_eq!(one.take().len(), 100);
        assert!(one.is_empty());
        drop(one);
    }
}
