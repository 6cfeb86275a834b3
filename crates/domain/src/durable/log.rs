//! What lies in an answer's log.

use crate::{Epoch, Outcome};

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The epoch of the owner who wrote it.
    pub epoch: Epoch,
    /// Where that owner began. Every entry says so: one may be the first that a reader sees of a new owner.
    pub base: usize,
    /// The bytes before `text`.
    pub offset: usize,
    /// A part of the answer. It may repeat what an earlier entry has: what may have been lost is written again.
    pub text: String,
    /// How many tokens the answer has after it, as far as known.
    pub tokens: u64,
    /// How it ended, if this is where.
    pub end: Option<Outcome>,
}

/// What a log holds in all, read from its beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logged {
    /// Whose text it is; 0 of an empty log.
    pub epoch: Epoch,
    /// The text.
    pub text: String,
    /// How many tokens it has, as far as known.
    pub tokens: u64,
    /// How it ended, if it did.
    pub end: Option<Outcome>,
}

impl Logged {
    /// Adds an entry.
    pub fn add(&mut self, entry: Entry) {
        if entry.epoch < self.epoch {
            return;
        }
        if entry.epoch > self.epoch {
            // What a new owner writes first says how far the log was right until then.
            let right = entry.base.min(entry.offset);
            self.text.truncate(self.text.floor_char_boundary(right));
            self.epoch = entry.epoch;
            self.end = None;
        }
        let Some(known) = self.text.len().checked_sub(entry.offset) else {
            return;
        };
        if let Some(new) = entry.text.get(known..) {
            self.text.push_str(new);
            self.tokens = entry.tokens;
        }
        if entry.end.is_some() && entry.offset + entry.text.len() == self.text.len() {
            self.end = entry.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(epoch: Epoch, base: usize, offset: usize, text: &str) -> Entry {
        Entry {
            epoch,
            base,
            offset,
            text: text.to_owned(),
            tokens: 0,
            end: None,
        }
    }

    fn read(entries: impl IntoIterator<Item = Entry>) -> Logged {
        let mut logged = Logged::default();
        entries.into_iter().for_each(|entry| logged.add(entry));
        logged
    }

    #[test]
    fn repetitions_are_skipped_and_holes_wait() {
        let logged = read([entry(1, 0, 0, "abc"), entry(1, 0, 1, "bcd")]);
        assert_eq!(logged.text, "abcd");
        let logged = read([
            entry(1, 0, 0, "abc"),
            entry(1, 0, 5, "fg"),
            entry(1, 0, 3, "defg"),
        ]);
        assert_eq!(logged.text, "abcdefg");
    }

    #[test]
    fn a_new_owner_replaces_what_lies_beyond_its_base() {
        let logged = read([
            entry(1, 0, 0, "abcd"),
            entry(2, 2, 2, "xy"),
            entry(1, 0, 4, "e"),
        ]);
        assert_eq!((logged.epoch, logged.text.as_str()), (2, "abxy"));
    }
}
