//! What a node did in the last minute.

use std::time::Duration;

const SECONDS: usize = 60;

/// A sliding window of 60 seconds in buckets of one. Noting allocates nothing. `now` is any clock's time since some start;
/// what comes from before the window is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    buckets: [Bucket; SECONDS],
    /// The sums in the second in which they were asked for last.
    sums: Option<(u64, Totals)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Which second this is about.
    second: u64,
    successes: u32,
    failures: u32,
    /// Of the successes, in seconds.
    first_bytes: f64,
}

/// The sums over the window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    first_bytes: f64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            buckets: [Bucket::default(); SECONDS],
            sums: None,
        }
    }
}

impl Window {
    /// A request succeeded whose first byte came after `first_byte`.
    pub(crate) fn success(&mut self, first_byte: Duration, now: Duration) {
        self.note(now, 1, 0, first_byte.as_secs_f64());
    }

    /// A request failed, by the node's fault.
    pub(crate) fn failure(&mut self, now: Duration) {
        self.note(now, 0, 1, 0.0);
    }

    fn note(&mut self, now: Duration, successes: u32, failures: u32, first_bytes: f64) {
        let Some(bucket) = self.bucket(now) else {
            return;
        };
        bucket.successes = bucket.successes.saturating_add(successes);
        bucket.failures = bucket.failures.saturating_add(failures);
        bucket.first_bytes += first_bytes;
        match &mut self.sums {
            Some((second, sums)) if *second == now.as_secs() => {
                sums.successes += u64::from(successes);
                sums.failures += u64::from(failures);
                sums.first_bytes += first_bytes;
            }
            sums => *sums = None,
        }
    }

    /// The 60 seconds that end with the one `now` is in.
    pub(crate) fn totals(&mut self, now: Duration) -> Totals {
        let now = now.as_secs();
        if let Some((second, sums)) = self.sums
            && second == now
        {
            return sums;
        }
        let sums = self.added_up(now);
        self.sums = Some((now, sums));
        sums
    }

    fn added_up(&self, now: u64) -> Totals {
        let recent =
            |bucket: &&Bucket| bucket.second <= now && now - bucket.second < SECONDS as u64;
        let add = |sum: Totals, bucket: &Bucket| Totals {
            successes: sum.successes + u64::from(bucket.successes),
            failures: sum.failures + u64::from(bucket.failures),
            first_bytes: sum.first_bytes + bucket.first_bytes,
        };
        self.buckets
            .iter()
            .filter(recent)
            .fold(Totals::default(), add)
    }

    /// `None`: that second has left the window already.
    fn bucket(&mut self, now: Duration) -> Option<&mut Bucket> {
        let second = now.as_secs();
        #[expect(clippy::cast_possible_truncation, reason = "less than 60")]
        let bucket = &mut self.buckets[(second % SECONDS as u64) as usize];
        if bucket.second < second {
            *bucket = Bucket {
                second,
                ..Bucket::default()
            };
        }
        (bucket.second == second).then_some(bucket)
    }
}

impl Totals {
    pub(crate) fn requests(&self) -> u64 {
        self.successes + self.failures
    }

    /// Mean time to first byte of the successes, in seconds, if there were any.
    pub(crate) fn response_time(&self) -> Option<f64> {
        (self.successes > 0).then(|| self.first_bytes / precise(self.successes))
    }

    /// The part of the requests that failed, between 0 and 1; 0 without any.
    pub(crate) fn error_rate(&self) -> f64 {
        if self.failures == 0 {
            return 0.0;
        }
        precise(self.failures) / precise(self.requests())
    }

    /// The guide's score of a node with `active` connections. Without a success, the response time counts as none.
    pub(crate) fn health_score(&self, active: u32) -> f64 {
        let response_time = self.response_time().unwrap_or_default();
        health_score(response_time, active, self.error_rate())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one minute")]
fn precise(count: u64) -> f64 {
    count as f64
}

/// The guide's formula, between 0 (bad) and 1 (good): `avg_response_time` in seconds, `error_rate` between 0 and 1.
pub(crate) fn health_score(
    avg_response_time: f64,
    active_connections: u32,
    error_rate: f64,
) -> f64 {
    let score = |part: f64| (1.0 - part).max(0.0);
    let (time, connections) = (
        avg_response_time / 10.0,
        f64::from(active_connections) / 50.0,
    );
    (score(time) + score(connections) + score(error_rate)) / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_sums_the_last_sixty_seconds() {
        let mut window = Window::default();
        window.success(Duration::from_millis(500), at(0));
        window.success(Duration::from_millis(1500), at(30));
        window.failure(at(59));
        let totals = window.totals(at(59));
        assert_eq!((totals.successes, totals.failures), (2, 1));
        assert_eq!(totals.response_time(), Some(1.0));
        assert!((totals.error_rate() - 1.0 / 3.0).abs() < 1e-12);
        let totals = window.totals(at(60));
        assert_eq!(
            (totals.successes, totals.failures),
            (1, 1),
            "the first has left"
        );
        assert_eq!(window.totals(at(119)), Totals::default());
        assert_eq!(window.totals(at(119)).response_time(), None);
    }

    #[test]
    fn a_bucket_is_used_again_and_what_is_older_than_it_is_dropped() {
        let mut window = Window::default();
        window.failure(at(5));
        window.failure(at(65));
        window.failure(at(5));
        assert_eq!(window.totals(at(65)).failures, 1);
    }

    /// Worked out by hand from the guide's formula.
    #[test]
    fn the_health_score_is_the_guides() {
        let cases = [
            ((0.0, 0, 0.0), 1.0),
            ((5.0, 25, 0.5), 0.5),
            ((2.0, 10, 0.1), 2.5 / 3.0),
            ((10.0, 50, 1.0), 0.0),
            ((1000.0, 1000, 0.0), 1.0 / 3.0),
            ((0.0, 100, 2.0), 1.0 / 3.0),
        ];
        for ((time, active, errors), expected) in cases {
            let score = health_score(time, active, errors);
            assert!(
                (score - expected).abs() < 1e-12,
                "{time} {active} {errors}: {score}"
            );
        }
        let mut window = Window::default();
        window.success(at(2), at(9));
        window.failure(at(9));
        let score = window.totals(at(9)).health_score(5);
        assert!((score - (0.8 + 0.9 + 0.5) / 3.0).abs() < 1e-12, "{score}");
    }

    proptest! {
        /// As if every request of the last minute were remembered.
        #[test]
        fn it_agrees_with_a_list(steps in prop::collection::vec((0u64..40_000, prop::option::of(0u32..9000)), 0..200)) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), Duration::ZERO);
            for (pause, success) in steps {
                now += Duration::from_millis(pause / 10);
                match success {
                    Some(millis) => window.success(Duration::from_millis(millis.into()), now),
                    None => window.failure(now),
                }
                list.push((now.as_secs(), success));
                let seen: Vec<_> = list.iter().filter(|(second, _)| now.as_secs() - second < 60).collect();
                let good: Vec<_> = seen.iter().filter_map(|(_, success)| *success).collect();
                let totals = window.totals(now);
                prop_assert_eq!(totals.requests(), seen.len() as u64);
                prop_assert_eq!(totals.successes, good.len() as u64);
                if let Some(mean) = totals.response_time() {
                    let exact = good.iter().copied().map(f64::from).sum::<f64>() / 1000.0 / precise(totals.successes);
                    prop_assert!((mean - exact).abs() < 1e-9);
                }
                prop_assert!((0.0..=1.0).contains(&totals.error_rate()));
                prop_assert!((0.0..=1.0).contains(&totals.health_score(3)));
            }
        }
    }
}
