//! How many requests may be sent a second time.

use std::time::Duration;

/// Limits retries, so that failing nodes are not buried under them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Retries per hundred requests.
    pub(crate) percent: u32,
    /// Retries per second that are always allowed: with few requests, a part of them would be none.
    pub(crate) per_second: u32,
    /// Retries that can be saved up, at least one.
    pub(crate) burst: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            percent: 20,
            per_second: 3,
            burst: 100,
        }
    }
}

/// A token bucket: every request puts a part of a retry in, every second a few, and a retry takes one out. Over any time there
/// are at most `percent` of its requests, `per_second` times its seconds, and `burst` retries.
///
/// `now` is any clock's time since some start; the bucket begins with what ten seconds bring.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    settings: Settings,
    /// In millionths of a retry.
    saved: u64,
    last: Duration,
}

/// What a retry costs.
const ONE: u64 = 1_000_000;

impl Budget {
    pub(crate) fn new(settings: Settings, now: Duration) -> Self {
        let begin = u64::from(settings.per_second) * 10 * ONE;
        let mut budget = Self {
            settings,
            saved: 0,
            last: now,
        };
        budget.save(begin);
        budget
    }

    /// A request was sent for the first time.
    pub(crate) fn request(&mut self) {
        self.save(u64::from(self.settings.percent) * (ONE / 100));
    }

    /// Whether one may be sent again now. It costs nothing before [`Self::retry`].
    pub(crate) fn affords(&mut self, now: Duration) -> bool {
        let micros = now.saturating_sub(self.last).as_micros();
        self.last = self.last.max(now);
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        // A retry per second is a millionth of a retry per microsecond.
        self.save(micros.saturating_mul(u64::from(self.settings.per_second)));
        self.saved >= ONE
    }

    /// Takes one from the budget, to be sent again now, if that is to be had.
    pub(crate) fn retry(&mut self, now: Duration) -> bool {
        let affords = self.affords(now);
        if affords {
            self.saved -= ONE;
        }
        affords
    }

    fn save(&mut self, amount: u64) {
        let most = u64::from(self.settings.burst.max(1)) * ONE;
        self.saved = self.saved.saturating_add(amount).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn all(budget: &mut Budget, now: Duration) -> usize {
        (0..1000).take_while(|_| budget.retry(now)).count()
    }

    #[test]
    fn one_request_in_five_may_be_retried() {
        let mut budget = Budget::new(Settings::default(), at(0));
        assert_eq!(all(&mut budget, at(0)), 30, "what it begins with");
        for _ in 0..50 {
            budget.request();
        }
        assert_eq!(all(&mut budget, at(0)), 10);
        assert!(!budget.retry(at(0)));
    }

    #[test]
    fn a_few_per_second_are_always_allowed() {
        let mut budget = Budget::new(Settings::default(), at(0));
        all(&mut budget, at(0));
        assert_eq!(all(&mut budget, at(1)), 3);
        assert_eq!(all(&mut budget, at(3)), 6);
        assert_eq!(all(&mut budget, at(2)), 0, "time does not run backwards");
        assert_eq!(all(&mut budget, at(1_000_000)), 100, "no more is saved up");
    }

    proptest! {
        #[test]
        fn retries_stay_within_their_part(steps in prop::collection::vec((0u64..3000, 0u32..20, 0u32..20), 1..200)) {
            let settings = Settings::default();
            let mut budget = Budget::new(settings, Duration::ZERO);
            let (mut now, mut requests, mut retries) = (Duration::ZERO, 0u32, 0u32);
            for (pause, new, tries) in steps {
                now += Duration::from_millis(pause);
                for _ in 0..new {
                    budget.request();
                    requests += 1;
                }
                retries += (0..tries).map(|_| u32::from(budget.retry(now))).sum::<u32>();
                let bound = f64::from(requests) * 0.2 + now.as_secs_f64() * 3.0 + 30.0;
                prop_assert!(f64::from(retries) <= bound + 1e-6, "{retries} of {bound}");
            }
        }
    }
}
