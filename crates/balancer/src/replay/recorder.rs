//! Recording a trace, for those who want one.

use super::{Header, Request, synthetic::microseconds, trace::write_record};
use crate::{
    Priority,
    policy::{Job, Outcome},
};
use std::{
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Hashes are cut to what every JSON reader keeps exactly.
const HASH_BITS: u32 = 53;

/// How a request came, and what its client saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival<'a> {
    /// When, since the recorder's begin.
    pub(crate) at: Duration,
    /// Who asked: a user's name or an address. Only a salted hash of it is written.
    pub(crate) user: &'a str,
    pub(crate) priority: Priority,
    /// Time in the queue.
    pub(crate) waited: Duration,
    /// Time from arrival to the first byte, if there was one.
    pub(crate) ttft: Option<Duration>,
    /// Time from arrival to the end.
    pub(crate) total: Duration,
}

/// Writes what is needed for a replay, and nothing that was said: sizes, times, the model's name, and hashes under a key
/// that is made for this recorder and never leaves its memory, so that they cannot be compared with anything elsewhere.
#[derive(Debug)]
pub(crate) struct Recorder<W> {
    to: Mutex<W>,
    salt: RandomState,
}

impl<W: Write> Recorder<W> {
    /// Begins with the trace's first record. `to` should be buffered; it is flushed with [`Self::flush`].
    pub(crate) fn new(mut to: W) -> io::Result<Self> {
        write_record(&mut to, &Header::default())?;
        Ok(Self {
            to: Mutex::new(to),
            salt: RandomState::new(),
        })
    }

    /// Adds a request that has ended. One that brought no answer is left out: how long it would have been is not known.
    pub(crate) fn record(
        &self,
        arrival: &Arrival<'_>,
        job: &Job<'_>,
        outcome: &Outcome,
    ) -> io::Result<()> {
        let (true, Some(tokens)) = (outcome.ok, outcome.tokens) else {
            return Ok(());
        };
        let prefix = job.prefix.iter();
        let told = |seconds: Option<f64>| seconds.map(microseconds);
        let request = Request {
            at: microseconds(arrival.at.as_secs_f64()),
            model: job.model.to_owned(),
            prompt_bytes: job.prompt_bytes,
            prefix: prefix
                .map(|link| (self.hash(link.hash), link.bytes))
                .collect(),
            tokens,
            max_tokens: job.max_tokens,
            user: self.hash(arrival.user),
            priority: arrival.priority,
            ttft: told(arrival.ttft.map(|ttft| ttft.as_secs_f64())),
            total: told(Some(arrival.total.as_secs_f64())),
            waited: told(Some(arrival.waited.as_secs_f64())).filter(|waited| *waited > 0.0),
            load: told(outcome.load_seconds),
            prefill: told(outcome.prompt_seconds),
            decode: told(outcome.decode_seconds),
        };
        write_record(&mut *self.writer(), &request)
    }

    /// Hands everything on.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.writer().flush()
    }

    fn hash(&self, value: impl std::hash::Hash) -> u64 {
        self.salt.hash_one(value) >> (u64::BITS - HASH_BITS)
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, W> {
        self.to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
