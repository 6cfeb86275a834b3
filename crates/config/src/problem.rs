//! What is wrong with a configuration, in words for whoever wrote it.

use std::fmt;

/// One mistake: where it stands and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, variable or flag, where one is to blame; else the key.
    pub place: String,
    /// What is wrong and what would be right.
    pub text: String,
}

impl Problem {
    /// A problem at `place`.
    pub fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// All problems of a configuration at once.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [one] => write!(f, "the configuration cannot be used: {one}"),
            many => {
                write!(
                    f,
                    "the configuration cannot be used, {} problems:",
                    many.len()
                )?;
                many.iter().try_for_each(|one| write!(f, "\n  - {one}"))
            }
        }
    }
}
