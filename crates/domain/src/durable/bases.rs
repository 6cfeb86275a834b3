//! Where each owner began.

use crate::Epoch;
use std::{fmt, str::FromStr};

/// A text that is no list of bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a list of `epoch:offset`")]
pub struct BasesError;

/// The byte offset at which each owner after the first went on, by epoch. Stored as text: `2:120 4:315`; empty while the
/// first owner is the only one. An epoch that never kept anything is not in it.
///
/// It answers the one question that offsets alone cannot: whether the beginning that a reader got from an earlier owner is a
/// beginning of the answer still.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bases(Vec<(Epoch, usize)>);

impl Bases {
    /// The epoch whose text this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.last().map_or(1, |(epoch, _)| *epoch)
    }

    /// Where that epoch began.
    #[must_use]
    pub fn base(&self) -> usize {
        self.0.last().map_or(0, |(_, base)| *base)
    }

    /// How many of the first `held` bytes, got up to epoch `epoch`, are bytes of the answer still.
    #[must_use]
    pub fn agreed(&self, epoch: Epoch, held: usize) -> usize {
        let later = self.0.iter().filter(|(later, _)| *later > epoch);
        later.map(|(_, base)| *base).fold(held, usize::min)
    }

    /// The same with one more owner, which begins at `base`; the first one needs no mention.
    #[must_use]
    pub fn with(mut self, epoch: Epoch, base: usize) -> Self {
        if epoch > self.epoch() {
            self.0.push((epoch, base));
        }
        self
    }
}

impl fmt::Display for Bases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (epoch, base)) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{epoch}:{base}")?;
        }
        Ok(())
    }
}

impl FromStr for Bases {
    type Err = BasesError;

    fn from_str(text: &str) -> Result<Self, BasesError> {
        let pair = |pair: &str| {
            let (epoch, base) = pair.split_once(':')?;
            Some((epoch.parse().ok()?, base.parse().ok()?))
        };
        let pairs = text.split_ascii_whitespace().map(pair);
        let pairs: Vec<(Epoch, usize)> = pairs.collect::<Option<_>>().ok_or(BasesError)?;
        let rising = pairs.windows(2).all(|two| two[0].0 < two[1].0);
        let first = pairs.first().is_none_or(|(epoch, _)| *epoch > 1);
        (rising && first).then_some(Self(pairs)).ok_or(BasesError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_survive_text() {
        for text in ["", "2:0", "2:120 4:315"] {
            assert_eq!(text.parse::<Bases>().unwrap().to_string(), text);
        }
        for wrong in ["2", "2:x", "1:0", "3:1 2:1", "2:1 2:1", "2:-1"] {
            assert_eq!(wrong.parse::<Bases>(), Err(BasesError), "{wrong}");
        }
    }

    #[test]
    fn what_was_cut_is_not_agreed() {
        let bases: Bases = "2:120 4:80".parse().unwrap();
        assert_eq!((bases.epoch(), bases.base()), (4, 80));
        assert_eq!(bases.agreed(1, 70), 70);
        assert_eq!(bases.agreed(1, 130), 80);
        assert_eq!(bases.agreed(3, 130), 80);
        assert_eq!(bases.agreed(4, 130), 130);
    }
}
