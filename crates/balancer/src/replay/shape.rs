//! A simulated node, as it is described.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A node. In a trace or a file of nodes it is one JSON object; on a command line `name=a slots=4 decode=0.02`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeShape {
    /// What people call it.
    pub name: String,
    /// Its share of the load for the strategies that go by weight.
    pub weight: u32,
    /// How many requests it serves at once.
    pub slots: u32,
    /// Seconds of prefill per byte that is not cached. Prefills are made one after the other.
    pub prefill: f64,
    /// Seconds per token of a request alone.
    pub decode: f64,
    /// Seconds per token more for each other request that is served.
    pub slope: f64,
    /// Seconds to load a model.
    pub load: f64,
    /// How many models it holds; the one unused for longest makes room.
    pub memory: u32,
    /// How many prompts it keeps in its cache.
    pub cached: u32,
    /// It says how much of a prompt came out of its cache. An Ollama does not.
    pub says_cached: bool,
    /// The balancer knows how many slots it has. Otherwise requests beyond them queue at the node.
    pub says_slots: bool,
    /// The models it offers; none named: all.
    pub models: Vec<String>,
    /// The models it holds at the start.
    pub loaded: Vec<String>,
    /// When it refuses everything; what runs when that begins is lost.
    pub down: Vec<Interval>,
    /// When it is slower than described.
    pub slow: Vec<Slowdown>,
}

/// From one time to another, in seconds of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Its begin.
    pub from: f64,
    /// Its end.
    pub to: f64,
}

/// A time in which everything takes `factor` times as long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slowdown {
    /// Its begin, in seconds of the trace.
    pub from: f64,
    /// Its end.
    pub to: f64,
    /// How many times as long.
    pub factor: f64,
}

/// A node that cannot be simulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Not `key=value`.
    #[error("{0:?} is not of the form key=value")]
    NoPair(String),
    /// Nothing is called so.
    #[error(
        "a node has no {0:?}; it has name, weight, slots, prefill, decode, slope, load, memory, cached, says_cached, says_slots, \
         models, loaded, down (from-to) and slow (from-to*factor)"
    )]
    UnknownKey(String),
    /// Not what belongs there.
    #[error("{value:?} is no value for a node's {key}")]
    BadValue {
        /// What was to be set.
        key: String,
        /// To what.
        value: String,
    },
    /// A value that makes no sense.
    #[error("node {node:?}: {what}")]
    Senseless {
        /// The node's name.
        node: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Default for NodeShape {
    /// A small machine with a middling graphics card.
    fn default() -> Self {
        Self {
            name: String::new(),
            weight: 1,
            slots: 4,
            prefill: 0.0002,
            decode: 0.02,
            slope: 0.002,
            load: 6.0,
            memory: 1,
            cached: 4,
            says_cached: false,
            says_slots: true,
            models: Vec::new(),
            loaded: Vec::new(),
            down: Vec::new(),
            slow: Vec::new(),
        }
    }
}

impl NodeShape {
    /// The default node under a name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// Refuses what cannot be simulated.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let times = [self.prefill, self.decode, self.slope, self.load];
        let spans = self.down.iter().map(|span| (span.from, span.to));
        let mut spans = spans.chain(self.slow.iter().map(|slow| (slow.from, slow.to)));
        let what = if self.name.is_empty() {
            "it needs a name"
        } else if self.slots == 0 || self.memory == 0 {
            "slots and memory are at least 1"
        } else if !times.iter().all(|time| (0.0..=1e6).contains(time)) || self.decode <= 0.0 {
            "times are between 0 and a million seconds, decode is more than 0"
        } else if !spans.all(|(from, to)| from >= 0.0 && from < to && to <= 1e9) {
            "an interval ends after it begins"
        } else if !self
            .slow
            .iter()
            .all(|slow| (0.01..=1000.0).contains(&slow.factor))
        {
            "a factor is between 0.01 and 1000"
        } else {
            return Ok(());
        };
        let node = self.name.clone();
        Err(ShapeError::Senseless { node, what })
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ShapeError> {
        let bad = || ShapeError::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let list = || value.split(',').map(str::to_owned).collect();
        match key {
            "name" => value.clone_into(&mut self.name),
            "weight" => self.weight = value.parse().map_err(|_| bad())?,
            "slots" => self.slots = value.parse().map_err(|_| bad())?,
            "prefill" => self.prefill = value.parse().map_err(|_| bad())?,
            "decode" => self.decode = value.parse().map_err(|_| bad())?,
            "slope" => self.slope = value.parse().map_err(|_| bad())?,
            "load" => self.load = value.parse().map_err(|_| bad())?,
            "memory" => self.memory = value.parse().map_err(|_| bad())?,
            "cached" => self.cached = value.parse().map_err(|_| bad())?,
            "says_cached" => self.says_cached = value.parse().map_err(|_| bad())?,
            "says_slots" => self.says_slots = value.parse().map_err(|_| bad())?,
            "models" => self.models = list(),
            "loaded" => self.loaded = list(),
            "down" => self.down.push(interval(value).ok_or_else(bad)?),
            "slow" => {
                let (span, factor) = value.split_once('*').ok_or_else(bad)?;
                let Interval { from, to } = interval(span).ok_or_else(bad)?;
                let factor = factor.parse().map_err(|_| bad())?;
                self.slow.push(Slowdown { from, to, factor });
            }
            _ => return Err(ShapeError::UnknownKey(key.to_owned())),
        }
        Ok(())
    }
}

/// `from-to`, in seconds.
fn interval(text: &str) -> Option<Interval> {
    let (from, to) = text.split_once('-')?;
    Some(Interval {
        from: from.parse().ok()?,
        to: to.parse().ok()?,
    })
}

impl FromStr for NodeShape {
    type Err = ShapeError;

    /// From `key=value` pairs between blanks; what is not named is as in the default.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut shape = Self::default();
        for pair in text.split_whitespace() {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| ShapeError::NoPair(pair.to_owned()))?;
            shape.set(key, value)?;
        }
        shape.validate()?;
        Ok(shape)
    }
}
