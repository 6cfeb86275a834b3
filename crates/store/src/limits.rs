//! How often something may be tried: buckets of tokens, one for each key, for all instances together.
//!
//! All there is to know of a bucket is when it will be full again. Instances that share a Redis Cluster keep that there: one
//! script for each try, on one key, by the server's clock. While the key's master is away, each instance counts by itself, so
//! that somebody may try as often at each of them: better than nobody at any, or anybody for ever.
//!
//! What is tried all the time takes its tries out of the cluster by the handful ([`Limiter::shared_by_handfuls`]), so that most
//! cost no way there. An instance that holds a handful, an eighth of the burst, has it for good, so that each may let
//! through that many more than the burst, once.

use crate::shared::{Redis, text};
use jarvis_domain::{Clock, Timestamp};
use redis::Value;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Keys remembered at once in this process. Beyond it the buckets that have refilled are forgotten, then all are.
const KEYS: usize = 16_384;
/// Parts of what is remembered, each under a lock of its own.
const PARTS: usize = 16;
/// The part of a burst that is taken out of the cluster together.
const HANDFUL: u32 = 8;

/// Takes tries of the bucket `KEYS[1]`: how many, or, negative, the microseconds until there is one. `ARGV`: microseconds in
/// which a try comes back, tries at once, tries wanted. As [`Buckets::take`].
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local refill, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local missing = math.max((tonumber(redis.call('GET', KEYS[1])) or 0) - now, 0)
local room = refill * math.max(burst - 1, 0)
if missing > room + refill then missing = 0 end
if missing > room then return string.format('-%.0f', missing - room) end
local taken = math.min(wanted, math.floor((room - missing) / refill) + 1)
local full = missing + taken * refill
redis.call('SET', KEYS[1], string.format('%.0f', now + full), 'PX', math.ceil(full / 1000))
return string.format('%.0f', taken)
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
    /// Time in which one try comes back; at least a microsecond.
    pub refill: Duration,
}

/// One bucket for each key.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    here: Buckets,
    shared: Option<Shared>,
}

/// The buckets in the cluster.
#[derive(Debug)]
struct Shared {
    redis: Redis,
    /// What the keys begin with.
    begin: String,
    /// Tries taken out together; 1: none is held here.
    handful: u32,
    held: Parts<Arc<tokio::sync::Mutex<Handful>>>,
    /// It was said that this instance counts alone.
    alone: AtomicBool,
}

/// What this instance holds of a bucket.
#[derive(Debug, Default)]
struct Handful {
    left: u32,
    /// When the bucket will have another try; asked before then, it would say no again.
    refused_until: Option<Instant>,
}

impl Limiter {
    /// Of this process alone.
    #[must_use]
    pub fn new(rate: Rate, clock: Clock) -> Self {
        let full_at = Parts::default();
        Self {
            rate,
            here: Buckets { clock, full_at },
            shared: None,
        }
    }

    /// Of all instances that share `redis` and call it by the same `name`.
    #[must_use]
    pub fn shared(rate: Rate, clock: Clock, redis: &Redis, name: &str) -> Self {
        Self {
            shared: Some(Shared {
                redis: redis.clone(),
                begin: redis.name(format_args!("limit:{name}")),
                handful: 1,
                held: Parts::default(),
                alone: AtomicBool::new(false),
            }),
            ..Self::new(rate, clock)
        }
    }

    /// The same for what is tried all the time: one in several tries asks the cluster. Nothing is to be given back.
    #[must_use]
    pub fn shared_by_handfuls(rate: Rate, clock: Clock, redis: &Redis, name: &str) -> Self {
        let mut limiter = Self::shared(rate, clock, redis, name);
        if let Some(shared) = &mut limiter.shared {
            shared.handful = (rate.burst / HANDFUL).max(1);
        }
        limiter
    }

    /// Takes one try of `key`, or says how long until there is one.
    ///
    /// # Errors
    /// That time.
    pub async fn take(&self, key: &str) -> Result<(), Duration> {
        let taken = match &self.shared {
            None => None,
            Some(shared) if shared.handful == 1 => shared
                .take(self.rate, key)
                .await
                .map(|taken| taken.map(drop)),
            Some(shared) => shared.take_of_handful(self.rate, key).await,
        };
        taken.unwrap_or_else(|| self.here.take(self.rate, key))
    }

    /// Gives back a try that was a rightful one.
    pub async fn give_back(&self, key: &str) {
        let done = match &self.shared {
            None => None,
            Some(shared) => {
                let refill = [micros(self.rate.refill)];
                shared.run(GIVE_BACK, key, &refill).await
            }
        };
        if done.is_none() {
            self.here.give_back(self.rate, key);
        }
    }
}

impl Shared {
    /// One of those that are held here, or of a new handful; `None` where the cluster does not say.
    async fn take_of_handful(&self, rate: Rate, key: &str) -> Option<Result<(), Duration>> {
        let held = {
            let mut part = self.held.of(key);
            if part.len() >= KEYS / PARTS && !part.contains_key(key) {
                part.clear();
            }
            match part.get(key) {
                Some(held) => Arc::clone(held),
                None => Arc::clone(part.entry(key.into()).or_default()),
            }
        };
        // Who comes while a handful is fetched waits for it: of several at once, each would take tries that nobody needs.
        let mut held = held.lock().await;
        if held.left > 0 {
            held.left -= 1;
            return Some(Ok(()));
        }
        let now = Instant::now();
        if let Some(until) = held.refused_until
            && now < until
        {
            return Some(Err(until - now));
        }
        let taken = self.take(rate, key).await?;
        held.left = taken.map_or(0, |taken| taken.saturating_sub(1));
        held.refused_until = taken.err().map(|wait| Instant::now() + wait);
        Some(taken.map(drop))
    }

    /// How many tries the bucket gave, or how long until it has one; `None` where the cluster does not say.
    async fn take(&self, rate: Rate, key: &str) -> Option<Result<u32, Duration>> {
        let arguments = [
            micros(rate.refill).max(1),
            u64::from(rate.burst),
            u64::from(self.handful),
        ];
        let said = self.run(TAKE, key, &arguments).await?;
        Some(match u32::try_from(said) {
            Ok(taken) => Ok(taken),
            Err(_) => Err(Duration::from_micros(said.unsigned_abs())),
        })
    }

    /// What the cluster says; `None` where its master is away.
    async fn run(&self, script: &str, key: &str, arguments: &[u64]) -> Option<i64> {
        let key = format!("{}:{}", self.begin, digest(key));
        let mut ask = redis::pipe();
        ask.cmd("EVAL").arg(script).arg(1).arg(&key).arg(arguments);
        match self.redis.ask(&key, &ask).await {
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
                if self.alone.load(Ordering::Relaxed) && self.alone.swap(false, Ordering::Relaxed) {
                    tracing::info!("limits are counted by all instances together again");
                }
                answer
            }
            Err(fault) => {
                // Once, not for each request: Redis itself says when it comes and goes.
                if !self.alone.swap(true, Ordering::Relaxed) {
                    tracing::warn!("a limit is counted by this instance alone: {fault}");
                }
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

/// Something for each key, in parts, so that requests of different keys seldom meet at a lock.
#[derive(Debug)]
struct Parts<T> {
    hash: RandomState,
    parts: [Mutex<HashMap<Box<str>, T>>; PARTS],
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self {
            hash: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl<T> Parts<T> {
    /// The part that this key lies in.
    fn of(&self, key: &str) -> MutexGuard<'_, HashMap<Box<str>, T>> {
        let [byte, ..] = self.hash.hash_one(key).to_le_bytes();
        let place = usize::from(byte) % PARTS;
        self.parts[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buckets of this process.
#[derive(Debug)]
struct Buckets {
    clock: Clock,
    full_at: Parts<Timestamp>,
}

impl Buckets {
    fn take(&self, rate: Rate, key: &str) -> Result<(), Duration> {
        let now = self.clock.now();
        let mut part = self.full_at.of(key);
        let full = if let Some(full) = part.get_mut(key) {
            full
        } else {
            if part.len() >= KEYS / PARTS {
                part.retain(|_, full| *full > now);
                if part.len() >= KEYS / PARTS {
                    part.clear();
                }
            }
            part.entry(key.into()).or_insert(now)
        };
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
        if let Some(full) = self.full_at.of(key).get_mut(key) {
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
        let parts = &limiter.here.full_at.parts;
        let remembered: usize = parts.iter().map(|part| part.lock().unwrap().len()).sum();
        assert!(remembered <= KEYS, "{remembered}");
    }
}
