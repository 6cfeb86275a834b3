//! Which prompts a node has probably still in its cache.

use super::{Job, chance::mixed, speed::Mean};
use crate::quick::Quick;
use std::{
    collections::{HashMap, VecDeque},
    hash::{Hash, Hasher},
    time::Duration,
};

/// Links remembered of one node. With the order of their use they take under 1 MiB.
pub(super) const MOST_LINKS: usize = 8192;
/// Distances are told apart by powers of two.
const DISTANCES: usize = 12;

/// The longest prefix of a prompt that the node was given before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Hit {
    /// Its length.
    pub(super) bytes: u32,
    /// How likely it is still there.
    pub(super) kept: f64,
    /// How long ago it was used, as an index into what was learnt of such.
    distance: usize,
}

impl Hit {
    /// Bytes that need not be computed again, as expected.
    pub(super) fn expected(self) -> f64 {
        f64::from(self.bytes) * self.kept
    }
}

/// The links of prompts given to one node, those least recently used forgotten first, and how well it keeps them:
/// a node with few slots or little memory overwrites a prefix after a few other prompts.
#[derive(Debug, Default)]
pub(super) struct PrefixMemory {
    /// When each link was last used, counted in prompts.
    used: HashMap<u64, u64>,
    /// The same in order of use. A pair that no longer agrees with `used` is stale.
    order: VecDeque<(u64, u64)>,
    prompts: u64,
    kept: [Mean; DISTANCES],
}

impl PrefixMemory {
    pub(super) fn find(&self, job: &Job<'_>, now: Duration) -> Hit {
        let salt = salt(job.model);
        let longest = job
            .prefix
            .iter()
            .rev()
            .find_map(|link| Some((link, self.used.get(&key(salt, link.hash))?)));
        let Some((link, used)) = longest else {
            return Hit::default();
        };
        let distance = distance(self.prompts - used);
        Hit {
            bytes: link.bytes.min(job.prompt_bytes),
            kept: self.likely(distance, now),
            distance,
        }
    }

    /// Before anything is known, what was used lately is expected to be there.
    fn likely(&self, distance: usize, now: Duration) -> f64 {
        let prior = 0.95 - 0.05 * super::number(distance);
        self.kept
            .get(distance)
            .map_or(0.0, |mean| mean.value(prior, now).min(1.0))
    }

    /// The node was given this prompt.
    pub(super) fn remember(&mut self, job: &Job<'_>) {
        let salt = salt(job.model);
        self.prompts += 1;
        // Of a chain longer than the memory only the longest prefixes would survive anyway.
        let skipped = job.prefix.len().saturating_sub(MOST_LINKS);
        for link in job.prefix.iter().skip(skipped) {
            let key = key(salt, link.hash);
            self.used.insert(key, self.prompts);
            self.order.push_back((key, self.prompts));
        }
        while self.used.len() > MOST_LINKS || self.order.len() > 2 * MOST_LINKS {
            let Some((key, used)) = self.order.pop_front() else {
                break;
            };
            if self.used.get(&key) == Some(&used) {
                self.used.remove(&key);
            }
        }
    }

    /// Whether what was expected of `hit` was so: 1 all of it was there, 0 none.
    pub(super) fn learn(&mut self, hit: Hit, share: f64, now: Duration) {
        if let Some(mean) = self.kept.get_mut(hit.distance) {
            mean.learn(share.clamp(0.0, 1.0), now);
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.used.len(), self.order.len())
    }
}

/// 0 for 0, then one more for each doubling.
fn distance(prompts: u64) -> usize {
    let doublings = u64::BITS - prompts.leading_zeros();
    usize::try_from(doublings)
        .unwrap_or(DISTANCES)
        .min(DISTANCES - 1)
}

/// Two models share no cache.
fn salt(model: &str) -> u64 {
    let mut hasher = Quick::default();
    model.hash(&mut hasher);
    hasher.finish()
}

fn key(salt: u64, hash: u64) -> u64 {
    mixed(salt ^ hash)
}

#[cfg(test)]
mod tests {
    use super::{MOST_LINKS, PrefixMemory};
    use crate::policy::{Job, Link};
    use std::time::Duration;

    const NOW: Duration = Duration::ZERO;

    fn chain(of: u64, length: u32) -> Vec<Link> {
        (1..=length)
            .map(|step| Link {
                hash: of * 1_000_003 + u64::from(step),
                bytes: step * 100,
            })
            .collect()
    }

    fn job<'a>(model: &'a str, prefix: &'a [Link]) -> Job<'a> {
        Job {
            model,
            prompt_bytes: prefix.last().map_or(0, |link| link.bytes),
            prefix,
            max_tokens: None,
        }
    }

    #[test]
    fn the_longest_known_prefix_is_found() {
        let mut memory = PrefixMemory::default();
        let (turn, next, other) = (chain(1, 3), chain(1, 5), chain(2, 5));
        memory.remember(&job("m", &turn));
        assert_eq!(memory.find(&job("m", &next), NOW).bytes, 300);
        assert_eq!(memory.find(&job("m", &other), NOW).bytes, 0);
        assert_eq!(
            memory.find(&job("another", &next), NOW).bytes,
            0,
            "models share no cache"
        );
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_least_recent() {
        let mut memory = PrefixMemory::default();
        let (kept, lost) = (chain(1, 4), chain(2, 4));
        memory.remember(&job("m", &lost));
        for of in 0..20_000_u64 {
            memory.remember(&job("m", &chain(of + 10, 3)));
            memory.remember(&job("m", &kept));
            let (used, order) = memory.sizes();
            assert!(used <= MOST_LINKS && order <= 2 * MOST_LINKS);
        }
        assert_eq!(memory.find(&job("m", &kept), NOW).bytes, 400);
        assert_eq!(memory.find(&job("m", &lost), NOW).bytes, 0);
        let long = chain(9, 20_000);
        memory.remember(&job("m", &long));
        assert_eq!(memory.find(&job("m", &long), NOW).bytes, 2_000_000);
    }

    #[test]
    fn it_learns_how_long_a_node_keeps_a_prefix() {
        let mut memory = PrefixMemory::default();
        let mine = chain(1, 4);
        for round in 0..30_u64 {
            memory.remember(&job("m", &mine));
            let soon = memory.find(&job("m", &mine), NOW);
            memory.learn(soon, 1.0, NOW);
            for other in 0..8 {
                memory.remember(&job("m", &chain(100 + round * 8 + other, 2)));
            }
            let late = memory.find(&job("m", &mine), NOW);
            memory.learn(late, 0.0, NOW);
        }
        let late = memory.find(&job("m", &mine), NOW);
        assert!(late.kept < 0.1, "{late:?}");
        memory.remember(&job("m", &mine));
        let soon = memory.find(&job("m", &mine), NOW);
        assert!(soon.kept > 0.9, "{soon:?}");
    }
}
