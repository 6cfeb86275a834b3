//! How quick a model runs: on one node, or wherever it runs.

use super::speed::{Fit, Line, Mean, Prior};
use std::{cell::Cell, time::Duration};

/// Loads shorter than this are none.
const LEAST_LOAD: f64 = 0.25;
/// Bytes of a typical prompt, and others on a typical node: where the priors are pinned.
const TYPICAL_PROMPT: f64 = 4000.0;
const TYPICAL_OTHERS: f64 = 4.0;

/// What a request costs, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// Until the node begins, by how many others are there.
    pub(super) start: Fit,
    /// The prefill, by bytes to compute.
    pub(super) prefill: Fit,
    /// Each token, by how many others are there.
    pub(super) decode: Fit,
    /// Loading the model.
    pub(super) load: f64,
}

impl Rates {
    /// Before anything was seen. Only their proportions matter, and only until the first answers.
    pub(super) const BUILT_IN: Self = Self {
        start: Fit {
            base: 0.01,
            slope: 0.0,
        },
        prefill: Fit {
            base: 0.05,
            slope: 0.0005,
        },
        decode: Fit {
            base: 0.05,
            slope: 0.005,
        },
        load: 8.0,
    };

    fn start_prior(&self) -> Prior {
        Prior {
            fit: self.start,
            typical: TYPICAL_OTHERS,
        }
    }

    fn prefill_prior(&self) -> Prior {
        Prior {
            fit: self.prefill,
            typical: TYPICAL_PROMPT,
        }
    }

    fn decode_prior(&self) -> Prior {
        Prior {
            fit: self.decode,
            typical: TYPICAL_OTHERS,
        }
    }
}

/// What was measured of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// Seconds until the node began, with how many others there.
    pub(super) start: Option<(f64, f64)>,
    /// Seconds of prefill, and for how many bytes.
    pub(super) prefill: Option<(f64, f64)>,
    /// Seconds per token, with how many others there.
    pub(super) decode: Option<(f64, f64)>,
    /// Seconds of loading.
    pub(super) load: Option<f64>,
}

/// Rates worked out less than this ago hold ...
const FRESH: Duration = Duration::from_millis(50);
/// ... unless this part of what they were worked out from has been learnt since, of at most so many lessons.
const PART: u64 = 4;
const MOST_LESSONS: u64 = 40;

/// The rates, as learnt.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    start: Line,
    prefill: Line,
    decode: Line,
    load: Mean,
    /// When a request was last sent there.
    pub(super) tried: Duration,
    /// How often it has learnt.
    lessons: u64,
    known: Cell<Option<Known>>,
}

/// The rates as worked out at a time. With many requests a second they are asked for much more often than they change.
#[derive(Debug, Clone, Copy)]
struct Known {
    rates: Rates,
    at: Duration,
    lessons: u64,
}

impl Pace {
    /// The rates now; where little is known, nearly `prior`.
    pub(super) fn rates(&self, prior: &Rates, now: Duration) -> Rates {
        if let Some(known) = self.known.get()
            && now.saturating_sub(known.at) < FRESH
            && PART * (self.lessons - known.lessons) < self.lessons.min(MOST_LESSONS)
        {
            return known.rates;
        }
        let rates = Rates {
            start: self.start.fit(prior.start_prior(), now),
            prefill: self.prefill.fit(prior.prefill_prior(), now),
            decode: self.decode.fit(prior.decode_prior(), now),
            load: self.load.value(prior.load, now),
        };
        self.known.set(Some(Known {
            rates,
            at: now,
            lessons: self.lessons,
        }));
        rates
    }

    /// `rates` are these as of now.
    pub(super) fn learn(&mut self, measured: &Measured, rates: &Rates, now: Duration) {
        self.lessons += 1;
        if let Some((seconds, others)) = measured.start {
            self.start.learn(others, seconds, rates.start, now);
        }
        if let Some((seconds, bytes)) = measured.prefill {
            self.prefill.learn(bytes, seconds, rates.prefill, now);
        }
        if let Some((seconds, others)) = measured.decode {
            self.decode.learn(others, seconds, rates.decode, now);
        }
        if let Some(seconds) = measured.load.filter(|seconds| *seconds >= LEAST_LOAD) {
            self.load.learn(seconds, now);
        }
    }

    /// How many prefills it knows.
    pub(super) fn prefills(&self, now: Duration) -> f64 {
        self.prefill.weight(now)
    }
}
