//! What an owner does next: what goes into the log, what into SQL, and what may be shown.

use super::{Path, Rules};
use std::{ops::Range, time::Duration};

/// A checkpoint to be committed: the text up to `to`, unless SQL has a later one of this owner or a later owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Counts this owner's checkpoints, from 1: SQL refuses one that comes after its successor.
    pub number: u64,
    /// The bytes it covers.
    pub to: usize,
    /// By which store text is shown from now on.
    pub path: Path,
}

/// How it stands with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    /// It fails; it is asked again at this time.
    Away { again: Duration },
    /// It is taken up and holds this much. Whether this owner is the owner still must be shown by a checkpoint that is
    /// asked for from now on: one numbered higher than `after`.
    Unproven { reaches: usize, after: u64 },
    /// It holds this much, and takes more from nobody else.
    Good { reaches: usize },
}

/// An owner's knowledge of one answer, in bytes; the text itself is its driver's. Times are a driver's own, of a clock that
/// only goes on.
#[derive(Debug, Clone)]
pub struct Owner {
    /// The text there is, shown or not.
    made: usize,
    /// What the log has acknowledged.
    logged: usize,
    /// What SQL has acknowledged.
    kept: usize,
    /// By which store SQL says that text is shown.
    path: Path,
    log: Log,
    keeps: u64,
    /// When the last checkpoint was asked for.
    asked_at: Duration,
    kept_at: Option<Duration>,
    /// When SQL was asked whose last answer was that this is the owner.
    seen: Duration,
}

impl Owner {
    /// An owner that begins with `made` bytes, of which the log holds `logged`, if it could be taken up. SQL was asked at
    /// `asked` to make it the owner.
    #[must_use]
    pub fn new(made: usize, logged: Option<usize>, path: Path, asked: Duration) -> Self {
        let log = match logged {
            Some(reaches) => Log::Unproven { reaches, after: 0 },
            None => Log::Away {
                again: Duration::ZERO,
            },
        };
        Self {
            made,
            logged: 0,
            kept: 0,
            path,
            log,
            keeps: 0,
            asked_at: asked,
            kept_at: None,
            seen: asked,
        }
    }

    /// There is more text: `made` bytes in all.
    pub fn made(&mut self, made: usize) {
        self.made = self.made.max(made);
    }

    /// How much may be shown: what lies where it outlives this process.
    #[must_use]
    pub fn showable(&self) -> usize {
        self.logged.max(self.kept)
    }

    /// Whether all there is may be shown.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.showable() >= self.made
    }

    /// Whether more text may be given to the stores: SQL knows by which of them this owner shows text, and that it is the
    /// owner.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.kept_at.is_some()
            && match self.log {
                Log::Away { .. } => self.path == Path::Sql,
                Log::Unproven { .. } => false,
                Log::Good { .. } => true,
            }
    }

    /// Whether the log takes entries.
    #[must_use]
    pub fn has_log(&self) -> bool {
        matches!(self.log, Log::Good { .. })
    }

    /// SQL, asked at `asked`, has said that this is the owner.
    pub fn seen(&mut self, asked: Duration) {
        self.seen = self.seen.max(asked);
    }

    /// Whether SQL has not said for so long that this is the owner that another one may have begun without the log.
    #[must_use]
    pub fn is_blind(&self, now: Duration, rules: &Rules) -> bool {
        now.saturating_sub(self.seen) >= rules.blind
    }

    /// The text to be appended to the log now; none while it fails, or while this owner [is blind](Self::is_blind).
    #[must_use]
    pub fn to_log(&self, now: Duration, rules: &Rules) -> Option<Range<usize>> {
        let Log::Good { reaches } = self.log else {
            return None;
        };
        let may = reaches < self.made && !self.is_blind(now, rules);
        may.then_some(reaches..self.made)
    }

    /// The log has taken everything up to `to`.
    pub fn logged(&mut self, to: usize) {
        self.logged = self.logged.max(to);
        if let Log::Good { reaches } = &mut self.log {
            *reaches = (*reaches).max(to);
        }
    }

    /// The log did not answer, or is not the one that was taken up: it may have lost its end. It can be asked again at `again`.
    pub fn log_failed(&mut self, again: Duration) {
        self.log = Log::Away { again };
    }

    /// Whether the log shall be taken up now; not before SQL knows that it failed.
    #[must_use]
    pub fn to_take_up(&self, now: Duration) -> bool {
        self.is_settled() && matches!(self.log, Log::Away { again } if now >= again)
    }

    /// The log is taken up; it holds the first `reaches` bytes.
    pub fn taken_up(&mut self, reaches: usize) {
        let after = self.keeps;
        self.log = Log::Unproven { reaches, after };
    }

    /// The checkpoint to be committed now, if one is due.
    pub fn to_keep(&mut self, now: Duration, rules: &Rules) -> Option<Keep> {
        let path = match self.log {
            Log::Away { .. } => Path::Sql,
            Log::Unproven { .. } | Log::Good { .. } => Path::Log,
        };
        let first = self.kept_at.is_none();
        let waited = self.kept_at.is_none_or(|at| now >= at + rules.checkpoint);
        let more = self.kept < self.made && waited;
        let proof = matches!(self.log, Log::Unproven { .. });
        (first || more || proof || path != self.path).then(|| {
            self.keeps += 1;
            self.asked_at = now;
            Keep {
                number: self.keeps,
                to: self.made,
                path,
            }
        })
    }

    /// When something is to be done next, if nothing else happens until then.
    #[must_use]
    pub fn next_at(&self, rules: &Rules) -> Option<Duration> {
        match self.log {
            Log::Away { again } => Some(again),
            Log::Unproven { .. } => Some(Duration::ZERO),
            Log::Good { .. } if self.kept < self.made => {
                self.kept_at.map(|at| at + rules.checkpoint)
            }
            Log::Good { .. } => None,
        }
    }

    /// The last checkpoint of an owner that goes: with it SQL has everything, and the next one needs no log to begin.
    pub fn last_keep(&mut self) -> Keep {
        self.keeps += 1;
        Keep {
            number: self.keeps,
            to: self.made,
            path: Path::Sql,
        }
    }

    /// SQL has taken a checkpoint.
    pub fn kept(&mut self, keep: Keep, now: Duration) {
        self.kept = self.kept.max(keep.to);
        self.path = keep.path;
        self.kept_at = Some(now);
        if keep.number == self.keeps {
            self.seen(self.asked_at);
        }
        if let Log::Unproven { reaches, after } = self.log
            && keep.number > after
        {
            self.log = Log::Good { reaches };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn ms(ms: u64) -> Duration {
        NOW + Duration::from_millis(ms)
    }

    #[test]
    fn nothing_is_shown_before_it_is_logged() {
        let rules = Rules::default();
        let mut owner = Owner::new(0, Some(0), Path::Log, NOW);
        owner.made(5);
        assert_eq!(owner.to_log(NOW, &rules), None, "not proven yet");
        let first = owner.to_keep(NOW, &rules).unwrap();
        owner.kept(first, NOW);
        owner.made(8);
        assert_eq!(owner.showable(), 5);
        assert_eq!(owner.to_log(NOW, &rules), Some(0..8));
        owner.logged(8);
        assert_eq!(owner.showable(), 8);
        assert_eq!(owner.to_keep(ms(100), &rules), None);
        assert_eq!(owner.to_keep(ms(250), &rules).unwrap().to, 8);
    }

    #[test]
    fn while_the_log_fails_sql_goes_before_the_eye() {
        let rules = Rules::default();
        let mut owner = Owner::new(0, Some(0), Path::Log, NOW);
        let first = owner.to_keep(NOW, &rules).unwrap();
        owner.kept(first, NOW);
        owner.made(4);
        owner.logged(4);
        owner.made(6);
        owner.log_failed(ms(1000));
        assert_eq!(owner.to_log(ms(1), &rules), None);
        assert_eq!(owner.showable(), 4);
        let keep = owner.to_keep(ms(1), &rules).unwrap();
        assert_eq!((keep.to, keep.path), (6, Path::Sql));
        owner.kept(keep, ms(5));
        assert_eq!(owner.showable(), 6);
        assert!(!owner.to_take_up(ms(999)));
        assert!(owner.to_take_up(ms(1000)));
        // It comes back without its last bytes: they are written again, but not before SQL knows.
        owner.taken_up(2);
        assert_eq!(owner.to_log(ms(1001), &rules), None);
        let keep = owner.to_keep(ms(1001), &rules).unwrap();
        assert_eq!(keep.path, Path::Log);
        owner.kept(keep, ms(1002));
        assert_eq!(owner.to_log(ms(1002), &rules), Some(2..6));
    }

    #[test]
    fn a_checkpoint_from_before_proves_nothing() {
        let rules = Rules::default();
        let mut owner = Owner::new(0, None, Path::Log, NOW);
        let first = owner.to_keep(NOW, &rules).unwrap();
        owner.kept(first, NOW);
        owner.made(3);
        let early = owner.to_keep(ms(250), &rules).unwrap();
        assert!(owner.to_take_up(ms(250)));
        owner.taken_up(0);
        owner.kept(early, ms(251));
        assert!(!owner.has_log());
        let late = owner.to_keep(ms(252), &rules).unwrap();
        owner.kept(late, ms(253));
        assert!(owner.has_log());
    }

    #[test]
    fn an_owner_without_sql_falls_silent_in_time() {
        let rules = Rules::default();
        let mut owner = Owner::new(0, Some(0), Path::Log, NOW);
        let first = owner.to_keep(NOW, &rules).unwrap();
        owner.kept(first, NOW);
        owner.made(1);
        let limit = NOW + rules.blind;
        let before = limit.saturating_sub(Duration::from_millis(1));
        assert_eq!(owner.to_log(before, &rules), Some(0..1));
        assert_eq!(owner.to_log(limit, &rules), None);
        // That the lease could be renewed says nothing about this answer; that it is named does.
        owner.seen(limit);
        assert_eq!(owner.to_log(limit, &rules), Some(0..1));
    }
}
