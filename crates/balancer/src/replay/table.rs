//! The replay's result.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What each contender made of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How many requests the trace has.
    pub requests: usize,
    /// How many nodes were simulated.
    pub nodes: usize,
    /// Chance's seed.
    pub seed: u64,
    /// One for each contender, in the order they were named.
    pub results: Vec<Summary>,
}

/// What one contender made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub strategy: String,
    /// Requests answered to the end.
    pub completed: usize,
    /// Requests refused because the queue was full or their time there was over.
    pub shed: usize,
    /// Requests given up after several nodes failed.
    pub failed: usize,
    /// Attempts that were lost and made again on another node.
    pub retried: usize,
    /// The most that waited at once, in the common queue and in the nodes' own.
    pub max_queue: usize,
    /// Times a model had to be loaded.
    pub loads: usize,
    /// Bytes of prompts that came out of a cache, as a share.
    pub cached: f64,
    /// By how much the predicted times to the end were wrong, as a share of the times themselves; `None` where nothing is
    /// predicted.
    pub prediction_error: Option<f64>,
    /// Seconds from arrival to first byte.
    pub ttft: Percentiles,
    /// Seconds from arrival to the end.
    pub completion: Percentiles,
}

/// Of the requests that were answered, by nearest rank; 0 if none was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The mean.
    pub mean: f64,
    /// Half took no longer.
    pub p50: f64,
    /// 90 % took no longer.
    pub p90: f64,
    /// 95 % took no longer.
    pub p95: f64,
    /// 99 % took no longer.
    pub p99: f64,
}

impl Percentiles {
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        values.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            mean: values.iter().sum::<f64>() / super::machine::count(values.len()),
            p50: rank(50),
            p90: rank(90),
            p95: rank(95),
            p99: rank(99),
        }
    }
}

impl Report {
    /// The table as one JSON object.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl fmt::Display for Report {
    /// The table as text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests, {} nodes, seed {}; seconds of simulated time",
            self.requests, self.nodes, self.seed
        )?;
        writeln!(
            f,
            "{:<23}{:^41}|{:^41}|",
            "", "time to first byte", "completion"
        )?;
        write!(f, "{:<23}", "strategy")?;
        for _ in 0..2 {
            for head in ["mean", "p50", "p90", "p95", "p99"] {
                write!(f, "{head:>8}")?;
            }
            write!(f, " |")?;
        }
        for head in [
            "done", "shed", "failed", "retried", "queue", "loads", "cached",
        ] {
            write!(f, "{head:>8}")?;
        }
        for result in &self.results {
            write!(f, "\n{:<23}", result.strategy)?;
            for times in [&result.ttft, &result.completion] {
                for value in [times.mean, times.p50, times.p90, times.p95, times.p99] {
                    write!(f, "{value:>8.2}")?;
                }
                write!(f, " |")?;
            }
            for number in [
                result.completed,
                result.shed,
                result.failed,
                result.retried,
                result.max_queue,
                result.loads,
            ] {
                write!(f, "{number:>8}")?;
            }
            write!(f, "{:>7.0}%", 100.0 * result.cached)?;
        }
        writeln!(f)
    }
}
