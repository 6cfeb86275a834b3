//! Keeping requests from a node that fails, and finding out when it is well again. Pure: time is passed in.

use super::window::Window;
use std::time::Duration;

/// When a node is taken out, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Failures in a row that open the breaker.
    pub(crate) consecutive: u32,
    /// Part of the requests since it closed (of the last minute at most) whose failure opens it…
    pub(crate) error_rate: f64,
    /// … if there were at least so many.
    pub(crate) volume: u64,
    /// The pause after the first opening; it doubles with each that follows …
    pub(crate) pause: Duration,
    /// … up to this.
    pub(crate) longest_pause: Duration,
    /// A probe that nobody has reported on for so long is taken for lost.
    pub(crate) probe_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            consecutive: 5,
            error_rate: 0.5,
            volume: 20,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_mins(1),
            probe_limit: Duration::from_mins(5),
        }
    }
}

/// What a request says about its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered: its first byte has come, or the whole answer.
    Success,
    /// It did not, or with a 5xx, an instant 503 included, or it broke off.
    Failure,
    /// Nothing about the node: a 4xx, or the client left.
    Neutral,
}

/// Whether a node gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It does.
    Closed,
    /// It does not, before `until`.
    Open { until: Duration },
    /// It gets one, and what becomes of it decides.
    HalfOpen,
}

/// A request that was let through. Each is to be reported on with [`Breaker::record`].
#[derive(Debug)]
#[must_use = "a probe that is not reported on keeps the node out"]
pub(crate) struct Pass {
    /// It is from before the breaker's last change if this is not the breaker's own.
    epoch: u64,
    #[cfg_attr(not(test), expect(dead_code, reason = "seen by tests"))]
    probe: bool,
}

impl Pass {
    #[cfg(test)]
    /// Whether what becomes of this one decides if the node gets others.
    pub(crate) fn is_probe(&self) -> bool {
        self.probe
    }
}

/// A circuit breaker. `now` is any clock's time since some start.
///
/// Closed → open after failures in a row, or too high a part of them. Open → half open once its pause is over, with the first
/// request or probe that asks. Half open → closed when that one succeeds, open again, for twice as long, when it fails.
/// Requests that began before the last change say nothing any more.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    settings: Settings,
    phase: Phase,
    epoch: u64,
    in_a_row: u32,
    /// Since it was closed.
    recent: Window,
    /// Openings without a long enough time closed between them.
    trips: u32,
    closed_at: Duration,
    random: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        until: Duration,
    },
    /// `probe`: when the one request was let through that may be under way.
    HalfOpen {
        probe: Option<Duration>,
    },
}

impl Breaker {
    /// `seed` spreads the pauses of several breakers.
    pub(crate) fn new(settings: Settings, seed: u64, now: Duration) -> Self {
        Self {
            settings,
            phase: Phase::Closed,
            epoch: 0,
            in_a_row: 0,
            recent: Window::default(),
            trips: 0,
            closed_at: now,
            random: seed,
        }
    }

    pub(crate) fn state(&self, now: Duration) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { until } if now < until => State::Open { until },
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether [`Self::admit`] would let a request through.
    pub(crate) fn admits(&self, now: Duration) -> bool {
        match self.phase {
            Phase::Closed => true,
            Phase::Open { until } => now >= until,
            Phase::HalfOpen { probe } => self.is_lost(probe, now),
        }
    }

    /// Lets a request, or an active probe, through, or not.
    pub(crate) fn admit(&mut self, now: Duration) -> Option<Pass> {
        if !self.admits(now) {
            return None;
        }
        let probe = !matches!(self.phase, Phase::Closed);
        if probe {
            // A lost probe that turns up later belongs to an earlier epoch.
            self.change(Phase::HalfOpen { probe: Some(now) });
        }
        Some(Pass {
            epoch: self.epoch,
            probe,
        })
    }

    /// What became of a request that was let through. It may be said more than once of one: that it began to answer, and later
    /// that it broke off.
    pub(crate) fn record(&mut self, pass: &Pass, outcome: Outcome, now: Duration) {
        if pass.epoch != self.epoch {
            return;
        }
        match (self.phase, outcome) {
            (Phase::Closed, Outcome::Success) => {
                self.in_a_row = 0;
                self.recent.success(Duration::ZERO, now);
            }
            (Phase::Closed, Outcome::Failure) => {
                self.in_a_row += 1;
                self.recent.failure(now);
                if self.is_too_much(now) {
                    self.open(now);
                }
            }
            (Phase::HalfOpen { .. }, Outcome::Success) => self.close(now),
            (Phase::HalfOpen { .. }, Outcome::Failure) => self.open(now),
            (Phase::HalfOpen { .. }, Outcome::Neutral) => {
                self.change(Phase::HalfOpen { probe: None });
            }
            (Phase::Closed, Outcome::Neutral) | (Phase::Open { .. }, _) => {}
        }
    }

    /// The node is known to be down: it refuses connections, an active probe found it dead.
    pub(crate) fn trip(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Closed) {
            self.open(now);
        }
    }

    fn is_lost(&self, probe: Option<Duration>, now: Duration) -> bool {
        probe.is_none_or(|began| now >= began + self.settings.probe_limit)
    }

    fn is_too_much(&mut self, now: Duration) -> bool {
        let totals = self.recent.totals(now);
        let often = totals.requests() >= self.settings.volume
            && totals.error_rate() >= self.settings.error_rate;
        often || self.in_a_row >= self.settings.consecutive
    }

    fn open(&mut self, now: Duration) {
        // One that closed and fell again at once is no better for it.
        let steady = self.closed_at + self.settings.longest_pause <= now;
        let was_closed = matches!(self.phase, Phase::Closed);
        self.trips = if was_closed && steady {
            1
        } else {
            self.trips.saturating_add(1)
        };
        let until = now + self.pause();
        self.change(Phase::Open { until });
    }

    fn close(&mut self, now: Duration) {
        self.closed_at = now;
        self.in_a_row = 0;
        self.recent = Window::default();
        self.change(Phase::Closed);
    }

    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
    }

    /// Between half of what is due and all of it.
    fn pause(&mut self) -> Duration {
        let doublings = self.trips.saturating_sub(1).min(31);
        let whole = self.settings.pause.saturating_mul(1 << doublings);
        let whole = whole.min(self.settings.longest_pause);
        whole.mul_f64(0.5 + 0.5 * self.next_random())
    }

    /// In [0, 1), by SplitMix64.
    fn next_random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn breaker() -> Breaker {
        Breaker::new(Settings::default(), 1, at(0))
    }

    fn send(breaker: &mut Breaker, outcome: Outcome, now: Duration) {
        let pass = breaker.admit(now).unwrap();
        breaker.record(&pass, outcome, now);
    }

    fn open(breaker: &mut Breaker, now: Duration) -> Duration {
        for _ in 0..5 {
            send(breaker, Outcome::Failure, now);
        }
        match breaker.state(now) {
            State::Open { until } => until,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_it_for_a_pause() {
        let mut breaker = breaker();
        for _ in 0..4 {
            send(&mut breaker, Outcome::Failure, at(1));
        }
        send(&mut breaker, Outcome::Success, at(1));
        let until = open(&mut breaker, at(2));
        assert!(until > at(2) && until <= at(3));
        assert!(
            breaker
                .admit(until.checked_sub(Duration::from_nanos(1)).unwrap())
                .is_none()
        );
        assert_eq!(breaker.state(until), State::HalfOpen);
    }

    #[test]
    fn a_part_of_failures_opens_it_too_once_there_were_enough() {
        let mut breaker = breaker();
        for _ in 0..9 {
            send(&mut breaker, Outcome::Success, at(1));
            send(&mut breaker, Outcome::Failure, at(1));
        }
        send(&mut breaker, Outcome::Success, at(1));
        assert_eq!(breaker.state(at(1)), State::Closed);
        send(&mut breaker, Outcome::Failure, at(1));
        assert!(
            matches!(breaker.state(at(1)), State::Open { .. }),
            "ten of twenty"
        );
        let State::Open { until } = breaker.state(at(1)) else {
            panic!("open")
        };
        send(&mut breaker, Outcome::Success, until);
        send(&mut breaker, Outcome::Failure, until);
        assert_eq!(breaker.state(until), State::Closed, "a new count");
    }

    #[test]
    fn statuses_say_whose_fault_it_was_and_a_4xx_never_counts() {
        let mut breaker = breaker();
        for _ in 0..300 {
            send(&mut breaker, Outcome::Neutral, at(1));
        }
        assert_eq!(breaker.state(at(1)), State::Closed);
        for _ in 0..5 {
            send(&mut breaker, Outcome::Failure, at(1));
        }
        assert!(matches!(breaker.state(at(1)), State::Open { .. }));
    }

    #[test]
    fn half_open_lets_one_through_whose_success_closes_it() {
        let mut breaker = breaker();
        let until = open(&mut breaker, at(1));
        let probe = breaker.admit(until).unwrap();
        assert!(probe.is_probe());
        assert!(breaker.admit(until).is_none() && !breaker.admits(until));
        breaker.record(&probe, Outcome::Success, until);
        assert_eq!(breaker.state(until), State::Closed);
        // What failed before is forgotten: it takes as many as at first.
        for _ in 0..4 {
            send(&mut breaker, Outcome::Failure, until);
        }
        assert_eq!(breaker.state(until), State::Closed);
    }

    #[test]
    fn a_probe_that_says_nothing_makes_room_for_another_and_so_does_a_lost_one() {
        let mut breaker = breaker();
        let until = open(&mut breaker, at(1));
        let probe = breaker.admit(until).unwrap();
        breaker.record(&probe, Outcome::Neutral, until);
        assert_eq!(breaker.state(until), State::HalfOpen);
        let lost = breaker.admit(until).unwrap();
        let later = until + Settings::default().probe_limit;
        let probe = breaker.admit(later).unwrap();
        breaker.record(&lost, Outcome::Failure, later);
        assert_eq!(
            breaker.state(later),
            State::HalfOpen,
            "the lost one came too late"
        );
        breaker.record(&probe, Outcome::Success, later);
        assert_eq!(breaker.state(later), State::Closed);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_steady_time() {
        let mut breaker = breaker();
        let (mut now, mut pauses) = (at(1), Vec::new());
        for trip in 0..10 {
            let until = if trip == 0 {
                open(&mut breaker, now)
            } else {
                send(&mut breaker, Outcome::Failure, now);
                let State::Open { until } = breaker.state(now) else {
                    panic!("a failed probe opens it again")
                };
                until
            };
            pauses.push(until.checked_sub(now).unwrap().as_secs_f64());
            now = until;
        }
        for (trip, pause) in pauses.iter().enumerate() {
            let whole = f64::from(1_u32 << trip).min(60.0);
            assert!((whole / 2.0..=whole).contains(pause), "{pauses:?}");
        }
        send(&mut breaker, Outcome::Success, now);
        let until = open(&mut breaker, now + at(1));
        assert!(until >= now + at(1) + at(30), "it fell again at once");
        send(&mut breaker, Outcome::Success, until);
        let until = until + at(60);
        assert!(open(&mut breaker, until) <= until + at(1));
    }

    #[test]
    fn requests_from_before_a_change_say_nothing() {
        let mut breaker = breaker();
        let old: Vec<_> = (0..20).map(|_| breaker.admit(at(0)).unwrap()).collect();
        let until = open(&mut breaker, at(1));
        let probe = breaker.admit(until).unwrap();
        for (number, pass) in old.into_iter().enumerate() {
            let outcome = if number % 2 == 0 {
                Outcome::Success
            } else {
                Outcome::Failure
            };
            breaker.record(&pass, outcome, until);
        }
        assert_eq!(breaker.state(until), State::HalfOpen);
        breaker.record(&probe, Outcome::Success, until);
        breaker.trip(until);
        assert!(
            matches!(breaker.state(until), State::Open { .. }),
            "known to be down"
        );
    }

    #[test]
    fn seeds_spread_the_pauses() {
        let mut pauses: Vec<_> = (0..20)
            .map(|seed| open(&mut Breaker::new(Settings::default(), seed, at(0)), at(1)))
            .collect();
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() >= 19, "{pauses:?}");
        let again = open(&mut Breaker::new(Settings::default(), 7, at(0)), at(1));
        assert_eq!(
            again,
            open(&mut Breaker::new(Settings::default(), 7, at(0)), at(1))
        );
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u64),
        Admit,
        Record(usize, Outcome),
    }

    fn step() -> impl Strategy<Value = Step> {
        use Outcome::{Failure, Neutral, Success};
        let outcome = prop::sample::select(vec![Success, Failure, Failure, Neutral]);
        prop_oneof![
            (0u64..4000).prop_map(Step::Wait),
            Just(Step::Admit),
            Just(Step::Admit),
            (any::<usize>(), outcome).prop_map(|(at, outcome)| Step::Record(at, outcome)),
        ]
    }

    proptest! {
        #[test]
        fn the_state_machine_holds(seed: u64, steps in prop::collection::vec(step(), 0..400)) {
            let settings = Settings { probe_limit: Duration::MAX / 4, ..Settings::default() };
            let mut breaker = Breaker::new(settings, seed, at(0));
            let (mut now, mut passes) = (at(0), Vec::new());
            for step in steps {
                let before = breaker.state(now);
                match step {
                    Step::Wait(millis) => {
                        now += Duration::from_millis(millis);
                        if before == State::Closed {
                            prop_assert_eq!(breaker.state(now), State::Closed, "time alone opens nothing");
                        }
                    }
                    Step::Admit => {
                        let probing = passes.iter().any(|pass: &Pass| pass.is_probe() && pass.epoch == breaker.epoch);
                        let expected = match before {
                            State::Closed => true,
                            State::Open { .. } => false,
                            State::HalfOpen => !probing,
                        };
                        prop_assert_eq!(breaker.admits(now), expected);
                        let pass = breaker.admit(now);
                        prop_assert_eq!(pass.is_some(), expected);
                        passes.extend(pass);
                    }
                    Step::Record(at, outcome) if !passes.is_empty() => {
                        let pass = passes.swap_remove(at % passes.len());
                        let current = pass.epoch == breaker.epoch;
                        breaker.record(&pass, outcome, now);
                        let after = breaker.state(now);
                        if !current || outcome == Outcome::Neutral {
                            prop_assert_eq!(after, before);
                        }
                        if let State::Open { until } = after && before != after {
                            let pause = until.checked_sub(now).unwrap();
                            prop_assert!(pause >= settings.pause / 2 && pause <= settings.longest_pause);
                            prop_assert_eq!(outcome, Outcome::Failure);
                        }
                        if before == State::HalfOpen && after == State::Closed {
                            prop_assert_eq!(outcome, Outcome::Success);
                        }
                    }
                    Step::Record(..) => {}
                }
            }
        }
    }
}
