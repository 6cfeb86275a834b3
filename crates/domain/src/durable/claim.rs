//! Where a new owner begins.

use super::{Bases, Logged, Rules};
use crate::{Epoch, Outcome};
use std::time::Duration;

/// Which store makes text fit to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The log; SQL follows by checkpoints.
    Log,
    /// SQL: the log fails, and nothing is shown that SQL has not.
    Sql,
}

/// What SQL holds of an answer that is being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where its owners began.
    pub bases: Bases,
    /// The text of the last checkpoint.
    pub text: String,
    /// How many tokens it has, as far as known.
    pub tokens: u64,
    /// By which store its owner shows text.
    pub path: Path,
}

/// What a new owner begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where all owners began, this one included.
    pub bases: Bases,
    /// The text so far.
    pub text: String,
    /// How many tokens it has, as far as known.
    pub tokens: u64,
    /// How much of the text lies in the log; `None` where that could not be asked.
    pub logged: Option<usize>,
    /// How it had ended already.
    pub end: Option<Outcome>,
}

/// What is to become of an answer that was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    GoOn,
    /// It ends here: too many owners were lost over it.
    TooManyOwners,
}

impl Rules {
    /// Whether an answer goes on after so many owners, the present one included.
    #[must_use]
    pub fn verdict(&self, attempts: u32) -> Verdict {
        if attempts > self.owners {
            Verdict::TooManyOwners
        } else {
            Verdict::GoOn
        }
    }

    /// Whether a new owner that cannot reach the log may begin with what SQL holds. At once if nothing is shown that SQL has
    /// not; else only when an owner who cannot reach SQL has fallen silent, should there be one.
    #[must_use]
    pub fn may_begin_without_log(&self, path: Path, waited: Duration) -> bool {
        path == Path::Sql || waited >= self.blind + self.slack
    }
}

/// Where the owner of `epoch` begins: with the longer of SQL's text and the log's. Both come from one owner, unless the log
/// has not seen SQL's: then it knows nothing newer. (A file is written by owners who kept nothing in SQL.)
#[must_use]
pub fn take_over(epoch: Epoch, kept: Kept, log: Option<Logged>) -> Taken {
    let Some(log) = log else {
        let bases = kept.bases.with(epoch, kept.text.len());
        return Taken {
            bases,
            text: kept.text,
            tokens: kept.tokens,
            logged: None,
            end: None,
        };
    };
    let of_one_owner = log.epoch >= kept.bases.epoch();
    let reaches = kept.bases.agreed(log.epoch, log.text.len());
    let (text, tokens) = if of_one_owner && log.text.len() > kept.text.len() {
        (log.text, log.tokens)
    } else {
        (kept.text, kept.tokens)
    };
    Taken {
        bases: kept.bases.with(epoch, text.len()),
        logged: Some(reaches.min(text.len())),
        end: log.end.filter(|_| of_one_owner && reaches == text.len()),
        text,
        tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bases: &str, text: &str) -> Kept {
        Kept {
            bases: bases.parse().unwrap(),
            text: text.to_owned(),
            tokens: 0,
            path: Path::Log,
        }
    }

    fn logged(epoch: Epoch, text: &str) -> Logged {
        Logged {
            epoch,
            text: text.to_owned(),
            ..Logged::default()
        }
    }

    #[test]
    fn the_longer_text_is_the_base() {
        let taken = take_over(2, kept("", "abc"), Some(logged(1, "abcdef")));
        assert_eq!((taken.text.as_str(), taken.logged), ("abcdef", Some(6)));
        assert_eq!(taken.bases.to_string(), "2:6");
        let taken = take_over(2, kept("", "abcdef"), Some(logged(1, "abc")));
        assert_eq!((taken.text.as_str(), taken.logged), ("abcdef", Some(3)));
        let taken = take_over(2, kept("", "abc"), None);
        assert_eq!((taken.text.as_str(), taken.logged), ("abc", None));
    }

    #[test]
    fn a_log_that_missed_an_owner_adds_nothing() {
        let taken = take_over(3, kept("2:2", "abxy"), Some(logged(1, "abcdefgh")));
        assert_eq!((taken.text.as_str(), taken.logged), ("abxy", Some(2)));
        assert_eq!(taken.bases.to_string(), "2:2 3:4");
    }

    #[test]
    fn without_the_log_only_what_sql_shows_is_safe() {
        let rules = Rules::default();
        assert!(rules.may_begin_without_log(Path::Sql, Duration::ZERO));
        assert!(!rules.may_begin_without_log(Path::Log, rules.blind));
        assert!(rules.may_begin_without_log(Path::Log, rules.blind + rules.slack));
    }
}
