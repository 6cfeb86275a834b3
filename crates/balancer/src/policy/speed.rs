//! Estimates that follow what is observed: old knowledge fades, one odd value does not move them far.

use std::time::Duration;

/// What was seen this long ago counts half.
const HALF_LIFE: f64 = 300.0;
/// No more than this many observations count, so that a change is noticed within about as many, however busy it is.
const MOST: f64 = 40.0;
/// How many observations the prior is worth.
const PRIOR_WEIGHT: f64 = 2.0;
/// How many its level is worth: much less than its shape.
const LEVEL_WEIGHT: f64 = 0.25;
/// Values further from the expected than this many typical errors are drawn in.
const ODD: f64 = 4.0;

/// How much of something seen at `then` still counts at `now`.
fn faded(then: Duration, now: Duration) -> f64 {
    (now.saturating_sub(then).as_secs_f64() / -HALF_LIFE).exp2()
}

/// A straight line, y = `base` + `slope` · x. Neither is negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fit {
    pub(super) base: f64,
    pub(super) slope: f64,
}

impl Fit {
    pub(super) fn at(self, x: f64) -> f64 {
        self.base + self.slope * x
    }
}

/// What is believed before anything is seen: the line's shape, and an x typical of what will be asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prior {
    pub(super) fit: Fit,
    pub(super) typical: f64,
}

/// A line learnt by weighted least squares. Where little was seen, the prior's shape at the level of what was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    /// Typical distance of a value from the line.
    spread: f64,
    seen: Duration,
}

impl Line {
    pub(super) fn fit(&self, prior: Prior, now: Duration) -> Fit {
        let kept = faded(self.seen, now);
        let (base, slope, typical) = (prior.fit.base, prior.fit.slope, prior.typical);
        // The level: how much more or less was seen than the prior says, as a ratio, so that a prior ten times too high
        // weighs as little as one ten times too low.
        let seen = kept * self.weight;
        let foretold = self.weight * base + self.x * slope;
        let level = if self.y > 0.0 && foretold > 0.0 {
            (self.y / foretold).powf(seen / (seen + LEVEL_WEIGHT))
        } else {
            1.0
        };
        // The prior, at this level, as observations at 0 and at the typical x.
        let half = PRIOR_WEIGHT / 2.0;
        let (low, high) = (level * base, level * prior.fit.at(typical));
        let weight = kept * self.weight + PRIOR_WEIGHT;
        let x = kept * self.x + half * typical;
        let y = kept * self.y + half * (low + high);
        let xx = kept * self.xx + half * typical * typical;
        let xy = kept * self.xy + half * typical * high;
        let slope = (weight * xy - x * y) / (weight * xx - x * x).max(f64::MIN_POSITIVE);
        // A line through 0 with the best slope if the best line would begin below.
        let slope = slope.clamp(0.0, xy / xx.max(f64::MIN_POSITIVE));
        Fit {
            base: ((y - slope * x) / weight).max(0.0),
            slope,
        }
    }

    /// Takes in that `y` was seen at `x`; `fit` is the line as of now.
    pub(super) fn learn(&mut self, x: f64, y: f64, fit: Fit, now: Duration) {
        if !(x.is_finite() && y.is_finite() && x >= 0.0 && y >= 0.0) {
            return;
        }
        let expected = fit.at(x);
        let kept = faded(self.seen, now);
        let kept = kept * (MOST / (self.weight * kept + 1.0)).min(1.0);
        for sum in [
            &mut self.weight,
            &mut self.x,
            &mut self.y,
            &mut self.xx,
            &mut self.xy,
        ] {
            *sum *= kept;
        }
        let y = self.drawn_in(y, expected);
        self.weight += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.seen = now;
    }

    /// The first few values say what is usual; after them an odd one counts only as far as it widens the typical error,
    /// which a lasting change does within some ten values.
    fn drawn_in(&mut self, y: f64, expected: f64) -> f64 {
        let error = y - expected;
        if self.weight < 3.0 {
            self.spread = self.spread.max(error.abs() / 2.0);
            return y;
        }
        let reach = ODD * self.spread.max(expected * 0.02);
        let error = error.clamp(-reach, reach);
        self.spread = 0.9 * self.spread + 0.1 * error.abs();
        expected + error
    }

    /// How many observations still count.
    pub(super) fn weight(&self, now: Duration) -> f64 {
        self.weight * faded(self.seen, now)
    }
}

/// A mean that fades towards its prior.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    weight: f64,
    sum: f64,
    seen: Duration,
}

impl Mean {
    pub(super) fn value(&self, prior: f64, now: Duration) -> f64 {
        let kept = faded(self.seen, now);
        (kept * self.sum + prior) / (kept * self.weight + 1.0)
    }

    pub(super) fn learn(&mut self, value: f64, now: Duration) {
        if !(value.is_finite() && value >= 0.0) {
            return;
        }
        let kept = faded(self.seen, now);
        let kept = kept * (MOST / (self.weight * kept + 1.0)).min(1.0);
        self.weight = self.weight * kept + 1.0;
        self.sum = self.sum * kept + value;
        self.seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::{Fit, Line, Mean, Prior};
    use std::time::Duration;

    const PRIOR: Prior = Prior {
        fit: Fit {
            base: 1.0,
            slope: 0.1,
        },
        typical: 4.0,
    };

    fn learn(line: &mut Line, x: f64, y: f64, now: Duration) {
        line.learn(x, y, line.fit(PRIOR, now), now);
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn near(left: f64, right: f64, share: f64) -> bool {
        (left - right).abs() <= share * right.abs()
    }

    #[test]
    fn a_line_is_found() {
        let mut line = Line::default();
        for step in 0..40_u32 {
            let x = f64::from(step % 8);
            learn(&mut line, x, 0.02 + 0.005 * x, at(u64::from(step)));
        }
        let fit = line.fit(PRIOR, at(40));
        assert!(near(fit.at(0.0), 0.02, 0.15), "{fit:?}");
        assert!(near(fit.at(7.0), 0.055, 0.05), "{fit:?}");
    }

    #[test]
    fn little_knowledge_keeps_the_priors_shape() {
        let mut line = Line::default();
        for step in 0..20 {
            learn(&mut line, 0.0, 10.0, at(step));
        }
        let fit = line.fit(PRIOR, at(20));
        assert!(near(fit.base, 10.0, 0.1), "{fit:?}");
        assert!(
            fit.slope > 0.5,
            "more load still costs more, in proportion: {fit:?}"
        );
    }

    #[test]
    fn one_odd_value_does_not_move_it_far() {
        let mut line = Line::default();
        for step in 0..30_u32 {
            let y = 1.0 + 0.01 * f64::from(step % 3);
            learn(&mut line, 0.0, y, at(u64::from(step)));
        }
        let before = line.fit(PRIOR, at(30)).base;
        learn(&mut line, 0.0, 500.0, at(30));
        let after = line.fit(PRIOR, at(30)).base;
        assert!(after < before * 1.1, "{before} became {after}");
    }

    #[test]
    fn a_lasting_change_is_followed() {
        let mut line = Line::default();
        for step in 0..40 {
            learn(&mut line, 0.0, 1.0, at(step));
        }
        for step in 40..100 {
            learn(&mut line, 0.0, 5.0, at(step));
        }
        assert!(line.fit(PRIOR, at(100)).base > 3.5);
    }

    #[test]
    fn old_knowledge_fades_to_the_prior() {
        let (mut line, mut mean) = (Line::default(), Mean::default());
        for step in 0..10 {
            learn(&mut line, 0.0, 9.0, at(step));
            mean.learn(9.0, at(step));
        }
        let late = at(24 * 3600);
        assert!(near(line.fit(PRIOR, late).base, 1.0, 0.01));
        assert!(near(mean.value(1.0, late), 1.0, 0.01));
        assert!(mean.value(1.0, at(10)) > 8.0);
    }

    #[test]
    fn what_is_no_number_teaches_nothing() {
        let mut line = Line::default();
        for (x, y) in [(0.0, f64::NAN), (f64::INFINITY, 1.0), (0.0, -1.0)] {
            learn(&mut line, x, y, at(0));
        }
        assert!(line.weight(at(0)).abs() < f64::EPSILON);
    }
}
