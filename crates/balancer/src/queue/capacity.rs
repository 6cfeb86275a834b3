//! How many slots a node has, and learning it from how the node answers.

use std::time::Duration;

/// How many answers a node may be asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// As configured; at least one.
    Fixed(u32),
    /// Found out by use: see [`Learnt`].
    Learnt,
}

impl Capacity {
    /// The limit to begin with, and what learns a better one.
    pub(super) fn begin(self) -> (u32, Option<Learnt>) {
        match self {
            Self::Fixed(slots) => (slots.max(1), None),
            Self::Learnt => (FIRST, Some(Learnt::default())),
        }
    }
}

const FIRST: u32 = 4;
const MOST: u32 = 256;
/// A wait is far beyond the uncontended one from this many times on, plus [`SLACK`].
const FAR: f64 = 4.0;
/// In seconds: what is this quick is good, whatever the uncontended wait was.
const SLACK: f64 = 0.25;
/// Waits near the limit that are judged together.
const JUDGED: u32 = 8;
/// Growing is tried again after this many times the usual number of good answers at most.
const MOST_PATIENCE: u32 = 16;

/// Learns a limit between 1 and 256, beginning at 4.
///
/// *Down* when the node says it is busy, to just under the concurrency at which it did (but not below half at once: others
/// may use the node too); and by a quarter when most of eight waits near the limit are far beyond the uncontended one.
/// *Up* by one after as many good answers in a row at full use as the limit, at least eight. Each step up that had to be
/// taken back makes the next one wait twice as long, up to sixteen times.
#[derive(Debug, Clone)]
pub(super) struct Learnt {
    limit: u32,
    /// Mean wait of a request that was alone, in seconds.
    alone: Option<f64>,
    /// Of the waits near the limit since the last judgement: how many, and how many too long.
    near: u32,
    far: u32,
    /// Good answers in a row at full use.
    good: u32,
    /// The limit that was too high last, and how much longer to wait before trying it again.
    failed: u32,
    patience: u32,
}

impl Default for Learnt {
    fn default() -> Self {
        Self {
            limit: FIRST,
            alone: None,
            near: 0,
            far: 0,
            good: 0,
            failed: MOST + 1,
            patience: 1,
        }
    }
}

impl Learnt {
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// An answer began after `wait`; `concurrency` slots were in use when it was asked for, its own included.
    pub(super) fn began(&mut self, concurrency: u32, wait: Duration) {
        let wait = wait.as_secs_f64();
        let far = self.alone.is_some_and(|alone| wait > FAR * alone + SLACK);
        if concurrency <= 1 {
            self.note_alone(wait);
        }
        // What was asked for under a higher limit says nothing about growing beyond this one.
        if concurrency == self.limit && !far {
            self.grow_if_due();
        } else if far {
            self.good = 0;
        }
        if concurrency > 1 && concurrency * 4 >= self.limit * 3 {
            self.judge(far);
        }
    }

    /// The node said that it was busy while `concurrency` slots were in use.
    pub(super) fn busy(&mut self, concurrency: u32) {
        let under = concurrency.saturating_sub(1);
        self.shrink_to(under.max(self.limit / 2));
    }

    /// Goes down quickly and up slowly, so that one cold load or one long prompt does not pass for the usual wait.
    fn note_alone(&mut self, wait: f64) {
        self.alone = Some(match self.alone {
            None => wait,
            Some(mean) if wait < mean => mean + 0.5 * (wait - mean),
            Some(mean) => mean + 0.1 * (wait.min(2.0 * mean + SLACK) - mean),
        });
    }

    fn judge(&mut self, far: bool) {
        self.near += 1;
        self.far += u32::from(far);
        if self.near < JUDGED {
            return;
        }
        let too_long = self.far * 2 > self.near;
        (self.near, self.far) = (0, 0);
        if too_long {
            self.shrink_to(self.limit - (self.limit / 4).max(1));
        }
    }

    fn shrink_to(&mut self, limit: u32) {
        let limit = limit.clamp(1, MOST);
        if limit >= self.limit {
            return;
        }
        if self.limit == self.failed {
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
        }
        self.failed = self.limit;
        self.limit = limit;
        (self.near, self.far, self.good) = (0, 0, 0);
    }

    fn grow_if_due(&mut self) {
        self.good += 1;
        let next = self.limit + 1;
        let patience = if next >= self.failed {
            self.patience
        } else {
            1
        };
        if next > MOST || self.good < self.limit.max(JUDGED) * patience {
            return;
        }
        if self.limit >= self.failed {
            // What failed once has held for a whole round.
            (self.failed, self.patience) = (MOST + 1, 1);
        }
        self.limit = next;
        (self.near, self.far, self.good) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUICK: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(8);

    /// A node with `lanes` of its own, where who comes beyond them waits for a whole answer: filled, kept full for as many
    /// answers again, and let run empty.
    fn use_fully(learnt: &mut Learnt, lanes: u32, rounds: u32) {
        let wait = |concurrency: u32| QUICK + LONG * ((concurrency - 1) / lanes);
        for _ in 0..rounds {
            for concurrency in 1..=learnt.limit() {
                learnt.began(concurrency, wait(concurrency));
            }
            for _ in 0..learnt.limit() {
                learnt.began(learnt.limit(), wait(learnt.limit()));
            }
        }
    }

    #[test]
    fn it_finds_a_node_that_answers_one_at_a_time() {
        let mut learnt = Learnt::default();
        use_fully(&mut learnt, 1, 40);
        let mut at_most = 0;
        for _ in 0..100 {
            use_fully(&mut learnt, 1, 1);
            at_most = at_most.max(learnt.limit());
        }
        assert!(at_most <= 2, "now and then a second is tried: {at_most}");
    }

    #[test]
    fn it_grows_to_what_a_large_node_can_do() {
        let mut learnt = Learnt::default();
        use_fully(&mut learnt, 1000, 600);
        assert_eq!(learnt.limit(), MOST);
    }

    #[test]
    fn it_stays_near_the_lanes_of_a_node_that_has_some() {
        let mut learnt = Learnt::default();
        use_fully(&mut learnt, 16, 400);
        let seen: Vec<_> = (0..200)
            .map(|_| {
                use_fully(&mut learnt, 16, 1);
                learnt.limit()
            })
            .collect();
        let (least, most) = (seen.iter().min().unwrap(), seen.iter().max().unwrap());
        assert!(*least >= 12 && *most <= 40, "{least}..={most}");
    }

    #[test]
    fn a_burst_of_busy_answers_from_one_moment_shrinks_it_once() {
        let mut learnt = Learnt::default();
        for _ in 0..5 {
            learnt.busy(4);
        }
        assert_eq!(learnt.limit(), 3);
        learnt.busy(1);
        assert_eq!(learnt.limit(), 1);
        learnt.busy(1);
        assert_eq!(learnt.limit(), 1);
    }

    #[test]
    fn a_node_that_is_not_used_fully_does_not_grow() {
        let mut learnt = Learnt::default();
        for _ in 0..1000 {
            learnt.began(2, QUICK);
        }
        assert_eq!(learnt.limit(), 4);
    }

    #[test]
    fn one_slow_answer_changes_nothing() {
        let mut learnt = Learnt::default();
        learnt.began(1, QUICK);
        for _ in 0..7 {
            learnt.began(3, QUICK);
        }
        learnt.began(4, LONG);
        assert_eq!(learnt.limit(), 4);
    }

    #[test]
    fn steps_up_that_fail_are_tried_ever_more_rarely() {
        let tries = |rounds| {
            let mut learnt = Learnt::default();
            use_fully(&mut learnt, 1, 60);
            let mut ups = 0;
            for _ in 0..rounds {
                let before = learnt.limit();
                use_fully(&mut learnt, 1, 1);
                ups += u32::from(learnt.limit() > before);
            }
            ups
        };
        assert!(tries(1000) < 20, "{}", tries(1000));
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(seen in prop::collection::vec((0u32..400, 0u64..30_000, any::<bool>()), 0..600)) {
            let mut learnt = Learnt::default();
            for (concurrency, millis, busy) in seen {
                if busy {
                    learnt.busy(concurrency);
                } else {
                    learnt.began(concurrency, Duration::from_millis(millis));
                }
                prop_assert!((1..=MOST).contains(&learnt.limit()));
            }
        }
    }
}
