//! The strategies' names.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How a node is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// In turn, by weight.
    RoundRobin,
    /// The fewest requests under way, by weight.
    LeastConnections,
    /// The shortest time to first byte, times what is under way, by weight.
    WeightedResponseTime,
    /// The fewest waiting and under way, relative to slots and weight.
    QueueLength,
    /// The earliest expected end, from what was learnt.
    #[default]
    Adaptive,
}

/// No strategy has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no strategy is called {0:?}; there are round_robin, least_connections, weighted_response_time, queue_length and adaptive"
)]
pub struct UnknownStrategy(pub String);

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::LeastConnections,
        Self::WeightedResponseTime,
        Self::QueueLength,
        Self::Adaptive,
    ];

    /// Its name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_connections",
            Self::WeightedResponseTime => "weighted_response_time",
            Self::QueueLength => "queue_length",
            Self::Adaptive => "adaptive",
        }
    }

    /// Its place in [`Self::ALL`].
    pub(super) fn number(self) -> u8 {
        match self {
            Self::RoundRobin => 0,
            Self::LeastConnections => 1,
            Self::WeightedResponseTime => 2,
            Self::QueueLength => 3,
            Self::Adaptive => 4,
        }
    }

    /// The one at that place.
    pub(super) fn numbered(number: u8) -> Self {
        Self::ALL
            .get(usize::from(number))
            .copied()
            .unwrap_or_default()
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name() == name)
            .ok_or_else(|| UnknownStrategy(name.to_owned()))
    }
}
