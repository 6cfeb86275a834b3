//! How often something may be tried: buckets of tokens, one for each key, for all instances together.
//!
//! All there is to know of a bucket is when it will be full again. Instances that share a Redis Cluster keep that there: one
//! script for each try, on one key, by the server's clock. While the key's master is away, each instance counts by itself, so
//! that somebody may try as often at each of them: better than nobody at any, or anybody for ever.

use crate::shared::{Redis, text};
use jarvis_domain::{Clock, Timestamp};
use redis::Value;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Keys remembered at once in this process. Beyond it the buckets that have refilled are forgotten, then all are.
const KEYS: usize = 16_384;

/// Takes a try of the bucket `KEYS[1]`: `0`, or the microseconds until there is one. `ARGV`: microseconds in which a try comes
/// back, tries at once. As [`Buckets::take`].
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local refill, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local missing = math.max((tonumber(redis.call('GET', KEYS[1])) or 0) - now, 0)
local room = refill * math.max(burst - 1, 0)
if missing > room + refill then missing = 0 end
if missing > room then return string.format('%.0f', missing - room) end
local full = missing + refill
redis.call('SET', KEYS[1], string.format('%.0f', now + full), 'PX', math.ceil(full / 1000))
return '0'
";

/// Gives a try back to the bucket `KEYS[1]`. `ARGV`: microseconds in which one comes back.
const GIVE_BACK: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = (tonumber(redis.call('GET', KEYS[1])) or 0) - now - tonumber(ARGV[1])
if full > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', now + full), 'PX', math.ceil(full / 1000))
else
    redis.call('DEL', KEYS[1])
end
return '0'
";

/// How often something may be tried: a bucket of tokens that refills steadily.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tries at once.
    pub burst: u32,
    /// Time in which one try comes back.
    pub refill: Duration,
}

/// One bucket for each key.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    here: Buckets,
    /// The cluster, and what the keys begin with.
    shared: Option<(Redis, String)>,
}

impl Limiter {
    /// Of this process alone.
    #[must_use]
    pub fn new(rate: Rate, clock: Clock) -> Self {
        let here = Buckets {
            clock,
            full_at: Mutex::default(),
        };
        Self {
            rate,
            here,
            shared: None,
        }
    }

    /// Of all instances that share `redis` and call it by the same `name`.
    #[must_use]
    pub fn shared(rate: Rate, clock: Clock, redis: &Redis, name: &str) -> Self {
        let begin = redis.name(format_args!("limit:{name}"));
        Self {
            shared: Some((redis.clone(), begin)),
            ..Self::new(rate, clock)
        }
    }

    /// Takes one try of `key`, or says how long until there is one.
    ///
    /// # Errors
    /// That time.
    pub async fn take(&self, key: &str) -> Result<(), Duration> {
        let arguments = [micros(self.rate.refill), u64::from(self.rate.burst)];
        match self.run(TAKE, key, &arguments).await {
            Some(0) => Ok(()),
            Some(micros) => Err(Duration::from_micros(micros)),
            None => self.here.take(self.rate, key),
        }
    }

    /// Gives back a try that was a rightful one.
    pub async fn give_back(&self, key: &str) {
        let done = self.run(GIVE_BACK, key, &[micros(self.rate.refill)]).await;
        if done.is_none() {
            self.here.give_back(self.rate, key);
        }
    }

    /// What the cluster says; `None` where there is none or its master is away.
    async fn run(&self, script: &str, key: &str, arguments: &[u64]) -> Option<u64> {
        let (redis, begin) = self.shared.as_ref()?;
        let key = format!("{begin}:{}", digest(key));
        let mut ask = redis::pipe();
        ask.cmd("EVAL").arg(script).arg(1).arg(&key).arg(arguments);
        match redis.ask(&key, &ask).await {
            Ok(reply) => {
                let answer = reply
                    .values
                    .first()
                    .and_then(text)
                    .and_then(|text| text.parse().ok());
                if let (None, Some(Value::ServerError(error))) = (answer, reply.values.first()) {
                    tracing::error!(
                        "a limit could not be counted: {} {:?}",
                        error.code(),
                        error.details()
                    );
                }
                answer
            }
            Err(fault) => {
                tracing::warn!("a limit is counted by this instance alone: {fault}");
                None
            }
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Keys are people's addresses: they are not written down elsewhere.
fn digest(key: &str) -> String {
    let digest = Sha256::digest(key);
    digest.iter().take(16).fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The buckets of this process.
#[derive(Debug)]
struct Buckets {
    clock: Clock,
    full_at: Mutex<HashMap<Box<str>, Timestamp>>,
}

impl Buckets {
    fn take(&self, rate: Rate, key: &str) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() >= KEYS && !full_at.contains_key(key) {
            full_at.retain(|_, full| *full > now);
            if full_at.len() >= KEYS {
                full_at.clear();
            }
        }
        let full = full_at.entry(key.into()).or_insert(now);
        let mut missing = full.since(now);
        let room = rate.refill * rate.burst.saturating_sub(1);
        // No bucket lacks more than it holds: the clock was set back, and nobody is to wait until it is there again.
        if missing > room + rate.refill {
            missing = Duration::ZERO;
        }
        if missing > room {
            return Err(missing.saturating_sub(room));
        }
        *full = now + missing + rate.refill;
        Ok(())
    }

    fn give_back(&self, rate: Rate, key: &str) {
        let now = self.clock.now();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full) = full_at.get_mut(key) {
            *full = now + full.since(now).saturating_sub(rate.refill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_is_taken_at_once_and_comes_back_one_by_one() {
        let clock = Clock::manual(Timestamp::from_micros(0));
        let rate = Rate {
            burst: 3,
            refill: Duration::from_secs(10),
        };
        let limiter = Limiter::new(rate, clock.clone());
        for _ in 0..3 {
            assert_eq!(limiter.take("a").await, Ok(()));
        }
        assert_eq!(limiter.take("a").await, Err(Duration::from_secs(10)));
        assert_eq!(
            limiter.take("b").await,
            Ok(()),
            "another key has its own bucket"
        );
        clock.advance(Duration::from_secs(10));
        assert_eq!(limiter.take("a").await, Ok(()));
        assert!(limiter.take("a").await.is_err());
        limiter.give_back("a").await;
        assert_eq!(limiter.take("a").await, Ok(()));
        assert_eq!(limiter.take("a").await, Err(Duration::from_secs(10)));
        for _ in 0..9 {
            limiter.give_back("a").await;
        }
        for _ in 0..3 {
            assert_eq!(limiter.take("a").await, Ok(()), "never more than the burst");
        }
        assert!(limiter.take("a").await.is_err());
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_shuts_nobody_out() {
        let hour = Duration::from_hours(1);
        let rate = Rate {
            burst: 2,
            refill: Duration::from_secs(10),
        };
        let ahead = Limiter::new(rate, Clock::manual(Timestamp::from_micros(0) + hour));
        for _ in 0..2 {
            assert_eq!(ahead.take("a").await, Ok(()));
        }
        assert!(ahead.take("a").await.is_err());
        let buckets = ahead.here.full_at;
        let mut behind = Limiter::new(rate, Clock::manual(Timestamp::from_micros(0)));
        behind.here.full_at = buckets;
        for _ in 0..2 {
            assert_eq!(behind.take("a").await, Ok(()));
        }
        assert_eq!(behind.take("a").await, Err(Duration::from_secs(10)));
    }

    #[tokio::test]
    async fn the_number_of_buckets_is_bounded() {
        let clock = Clock::manual(Timestamp::from_micros(0));
        let rate = Rate {
            burst: 1,
            refill: Duration::from_secs(10),
        };
        let limiter = Limiter::new(rate, clock);
        for key in 0..3 * KEYS {
            limiter.take(&key.to_string()).await.unwrap();
        }
        assert!(limiter.here.full_at.lock().unwrap().len() <= KEYS);
    }
}
