//! How often something may be tried: buckets of tokens, in process.

use crate::options::RateOptions;
use jarvis_domain::{Clock, Timestamp};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Keys remembered at once. Beyond it the buckets that have refilled are forgotten, then all are.
const KEYS: usize = 16_384;

/// One bucket per key.
#[derive(Debug)]
pub(crate) struct Limiter<K> {
    options: RateOptions,
    clock: Clock,
    /// When each bucket will be full again: all there is to know of it.
    full_at: Mutex<HashMap<K, Timestamp>>,
}

impl<K: Eq + Hash> Limiter<K> {
    pub(crate) fn new(options: RateOptions, clock: Clock) -> Self {
        Self {
            options,
            clock,
            full_at: Mutex::default(),
        }
    }

    /// Takes one try of `key`, or says how long until there is one.
    pub(crate) fn take(&self, key: K) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= KEYS && !full_at.contains_key(&key) {
            full_at.retain(|_, full| *full > now);
            if full_at.len() >= KEYS {
                full_at.clear();
            }
        }
        let full = full_at.entry(key).or_insert(now);
        let missing = full.since(now);
        let room = self.options.refill * self.options.burst.saturating_sub(1);
        if missing > room {
            return Err(missing.saturating_sub(room));
        }
        *full = now + missing + self.options.refill;
        Ok(())
    }

    /// Gives back a try that was a rightful one.
    pub(crate) fn give_back(&self, key: &K) {
        let now = self.clock.now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full) = full_at.get_mut(key) {
            *full = now + full.since(now).saturating_sub(self.options.refill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_one_by_one() {
        let clock = Clock::manual(Timestamp::from_micros(0));
        let options = RateOptions {
            burst: 3,
            refill: Duration::from_secs(10),
        };
        let limiter = Limiter::new(options, clock.clone());
        for _ in 0..3 {
            assert_eq!(limiter.take("a"), Ok(()));
        }
        assert_eq!(limiter.take("a"), Err(Duration::from_secs(10)));
        assert_eq!(limiter.take("b"), Ok(()), "another key has its own bucket");
        clock.advance(Duration::from_secs(10));
        assert_eq!(limiter.take("a"), Ok(()));
        assert!(limiter.take("a").is_err());
        limiter.give_back(&"a");
        assert_eq!(limiter.take("a"), Ok(()));
        assert_eq!(limiter.take("a"), Err(Duration::from_secs(10)));
        for _ in 0..9 {
            limiter.give_back(&"a");
        }
        for _ in 0..3 {
            assert_eq!(limiter.take("a"), Ok(()), "never more than the burst");
        }
        assert!(limiter.take("a").is_err());
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let clock = Clock::manual(Timestamp::from_micros(0));
        let options = RateOptions {
            burst: 1,
            refill: Duration::from_secs(10),
        };
        let limiter = Limiter::new(options, clock);
        for key in 0..3 * KEYS {
            limiter.take(key).unwrap();
        }
        assert!(limiter.full_at.lock().unwrap().len() <= KEYS);
    }
}
