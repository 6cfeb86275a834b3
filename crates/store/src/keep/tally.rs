//! The count and checksum of a table's rows.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// How many rows, and the sum of their SHA-256 digests modulo 2²⁵⁶: the same for the same rows in whatever order an engine gives
/// them, another one if a row is lost, changed or there twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    rows: u64,
    /// Least significant first.
    sum: [u64; 4],
}

impl Tally {
    /// Rows counted.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The checksum, 64 hexadecimal digits.
    #[must_use]
    pub fn checksum(&self) -> String {
        let digits = |word: &u64| format!("{word:016x}");
        self.sum.iter().rev().map(digits).collect()
    }

    /// A tally that was written down.
    pub(super) fn recorded(rows: u64, checksum: &str) -> Option<Self> {
        let word = |n: usize| {
            let digits = checksum.get(16 * (3 - n)..16 * (4 - n))?;
            u64::from_str_radix(digits, 16).ok()
        };
        let sum = [word(0)?, word(1)?, word(2)?, word(3)?];
        (checksum.len() == 64).then_some(Self { rows, sum })
    }

    /// Counts one more row, given in its one spelling.
    pub(super) fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        let digest = Sha256::digest(row);
        let mut carry = false;
        for (word, bytes) in self.sum.iter_mut().zip(digest.as_chunks::<8>().0) {
            let (sum, over) = word.overflowing_add(u64::from_le_bytes(*bytes));
            let (sum, over_too) = sum.overflowing_add(u64::from(carry));
            *word = sum;
            carry = over || over_too;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.rows == 1 { "" } else { "s" };
        write!(f, "{} row{plural}, checksum {}", self.rows, self.checksum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(rows: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for row in rows {
            tally.add(row.as_bytes());
        }
        tally
    }

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let all = tally(&["a", "b", "c"]);
        assert_eq!(all, tally(&["c", "a", "b"]));
        assert_ne!(all, tally(&["a", "b"]), "a lost row");
        assert_ne!(all, tally(&["a", "b", "d"]), "a changed row");
        assert_ne!(all, tally(&["a", "b", "c", "c"]), "a doubled row");
        assert_ne!(
            tally(&["a", "a"]),
            tally(&["b", "b"]),
            "two that cancel out"
        );
    }

    #[test]
    fn a_checksum_survives_being_written_down() {
        let all = tally(&["a", "b", "c"]);
        assert_eq!(Tally::recorded(all.rows(), &all.checksum()), Some(all));
        assert_eq!(Tally::recorded(3, "12"), None);
        assert_eq!(Tally::recorded(3, &"ö".repeat(32)), None);
        // Archives of earlier versions must stay readable, so the spelling is fixed.
        assert_eq!(
            tally(&["a"]).checksum(),
            "bb48eeaf857780b9724e7c14f8ef86a74ddc239ab331c2facabd1bca128197ca"
        );
    }
}
