//! What is new to somebody who holds a beginning of an answer.

use super::Bases;
use crate::Epoch;

/// What a reader holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// The epoch of the last owner whose text it was given; 0 where it cannot say.
    pub epoch: Epoch,
    /// The bytes it holds.
    pub offset: usize,
}

/// What to tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    Nothing,
    /// The text from this byte of what was looked at on.
    From(usize),
    /// The whole text, in place of what it holds, which is not a beginning of it: its end was lost with its owner and the
    /// log at once.
    Resync,
    /// That depends on what SQL holds: look there, then here again.
    Unclear,
}

impl Reader {
    /// An entry of the log: its owner's epoch and base, its offset and its length.
    pub fn entry(&mut self, epoch: Epoch, base: usize, offset: usize, len: usize) -> News {
        if epoch < self.epoch {
            return News::Nothing;
        }
        if epoch > self.epoch && self.offset > 0 {
            let next = epoch == self.epoch + 1;
            if !next || self.offset > base {
                return News::Unclear;
            }
        }
        if offset > self.offset {
            return News::Unclear;
        }
        self.epoch = epoch;
        let from = self.offset - offset;
        if from >= len {
            return News::Nothing;
        }
        self.offset = offset + len;
        News::From(from)
    }

    /// The text as SQL or its owner has it: where its owners began, and its length.
    pub fn text(&mut self, bases: &Bases, len: usize) -> News {
        let epoch = bases.epoch();
        if epoch < self.epoch {
            return News::Nothing;
        }
        if bases.agreed(self.epoch, self.offset) < self.offset {
            *self = Self { epoch, offset: len };
            return News::Resync;
        }
        self.epoch = epoch;
        let from = self.offset;
        if from >= len {
            return News::Nothing;
        }
        self.offset = len;
        News::From(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(epoch: Epoch, offset: usize) -> Reader {
        Reader { epoch, offset }
    }

    #[test]
    fn each_byte_once_and_no_hole() {
        let mut one = reader(1, 4);
        assert_eq!(one.entry(1, 0, 0, 4), News::Nothing);
        assert_eq!(one.entry(1, 0, 2, 5), News::From(2));
        assert_eq!(one.entry(1, 0, 9, 5), News::Unclear);
        assert_eq!(one, reader(1, 7));
    }

    #[test]
    fn what_a_new_owner_did_not_find_is_replaced() {
        let mut one = reader(1, 4);
        assert_eq!(one.entry(2, 4, 4, 2), News::From(0));
        assert_eq!(one.entry(1, 0, 6, 2), News::Nothing, "a late owner");
        let mut ahead = reader(1, 5);
        assert_eq!(ahead.entry(2, 4, 4, 2), News::Unclear);
        assert_eq!(ahead.text(&"2:4".parse().unwrap(), 9), News::Resync);
        assert_eq!(ahead, reader(2, 9));
        let mut missed = reader(1, 5);
        assert_eq!(missed.entry(3, 9, 9, 2), News::Unclear);
        assert_eq!(missed.text(&"2:7 3:9".parse().unwrap(), 9), News::From(5));
    }
}
