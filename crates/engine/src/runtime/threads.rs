//! How many threads compute a step.
//!
//! A token of a small model takes some hundred barriers, a few microseconds apart, at which threads wait awake for one
//! another. On an idle machine all threads together are the fastest; once another program wants the processor they use
//! up the time of the very thread they wait for, and a step takes fifty times as long, while one thread alone would
//! hardly feel it. Which number is best is measured, not guessed: the time of every step counts for the number it was
//! computed with, separately for each kind of step.

use std::time::{Duration, Instant};

use super::openmp::with_limit;

/// Kinds of steps that are compared with one another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// The next tokens of so many answers.
    Answers(usize),
    /// So many tokens of prompts, beside answers or alone.
    Prompts(usize),
}

/// Chooses the number of threads for each step.
#[derive(Debug)]
pub(super) struct Threads {
    /// All threads, half of them, and so on down to one.
    counts: Vec<u32>,
    /// Index of the count that the last step of any kind settled on.
    last: usize,
    /// By kind: prompts first, then answers by their number.
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone)]
struct Kind {
    chosen: Option<usize>,
    /// By index of the count: what a step takes, seconds (of prompts, a token of it), a moving mean.
    taken: Vec<Option<f64>>,
    trial: Option<Trial>,
    /// When more threads are tried again, and how long after that.
    again: Option<Instant>,
    pause: Duration,
}

/// Steps that are computed with another number of threads to learn what they take.
#[derive(Debug, Clone, Copy)]
struct Trial {
    count: usize,
    done: u32,
    left: u32,
    /// What its steps took so far, in the unit of `Kind::taken`.
    sum: f64,
    began: Instant,
}

impl Trial {
    fn new(count: usize, steps: u32, began: Instant) -> Self {
        Self {
            count,
            done: 0,
            left: steps,
            sum: 0.0,
            began,
        }
    }
}

/// Of fewer prompt tokens the time a token says nothing.
const FEWEST_TOKENS: usize = 16;
/// What one more measurement weighs.
const WEIGHT: f64 = 0.2;
/// A step that took longer counts as so many times the mean: one hiccup of the machine is no load.
const OUTLIER: f64 = 2.0;
/// Steps of a trial of fewer threads: they take much the same time each.
const TRIAL_OF_FEWER: u32 = 3;
/// Of more threads: on a loaded machine some steps in a row may go well.
const TRIAL_OF_MORE: u32 = 16;
/// A trial that has lost the time of so many steps ends.
const BEARABLE: u32 = 3;
/// Trials of more threads come so much more rarely than the time they take.
const SPARING: u32 = 20;
/// Fewer threads must be better by so much, more threads by so much.
const FEWER: f64 = 0.9;
const MORE: f64 = 0.97;
/// More threads are tried again after the first pause; each time that they do worse, it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl Threads {
    /// At most `most` threads, for steps of at most `parallel` answers.
    pub(super) fn new(most: usize, parallel: usize) -> Self {
        let most = u32::try_from(most.max(1)).unwrap_or(u32::MAX);
        let counts: Vec<u32> =
            std::iter::successors(Some(most), |count| (*count > 1).then_some(count / 2)).collect();
        let kind = Kind {
            chosen: None,
            taken: vec![None; counts.len()],
            trial: None,
            again: None,
            pause: FIRST_PAUSE,
        };
        Self {
            counts,
            last: 0,
            kinds: vec![kind; parallel + 1],
        }
    }

    /// Never fewer than all: results then do not depend on the machine's load.
    pub(super) fn fixed(most: usize) -> Self {
        let mut threads = Self::new(most, 0);
        threads.counts.truncate(1);
        threads
    }

    /// Computes one step with the number of threads that seems best now, and learns from the time it took.
    pub(super) fn compute<T>(&mut self, work: Work, step: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let at = self.begin(work, began);
        let done = with_limit(self.counts[at], step);
        let ended = Instant::now();
        self.end(work, at, ended - began, ended);
        done
    }

    /// Index of the count for the coming step.
    fn begin(&mut self, work: Work, now: Instant) -> usize {
        let (last, fewest) = (self.last, self.counts.len() - 1);
        let kind = self.kind(work);
        let chosen = *kind.chosen.get_or_insert(last);
        if kind.trial.is_none() && kind.taken[chosen].is_some() {
            let unknown = [(chosen + 1).min(fewest), fewest]
                .into_iter()
                .find(|count| kind.taken[*count].is_none());
            let due = chosen > 0 && kind.again.is_none_or(|again| again <= now);
            kind.trial = if due {
                Some(Trial::new(chosen - 1, TRIAL_OF_MORE, now))
            } else {
                unknown.map(|count| Trial::new(count, TRIAL_OF_FEWER, now))
            };
        }
        kind.trial.map_or(chosen, |trial| trial.count)
    }

    /// Learns what a step took, and settles on another count if that is better.
    fn end(&mut self, work: Work, at: usize, took: Duration, now: Instant) {
        let tokens = match work {
            Work::Answers(_) => 1,
            Work::Prompts(few) if few < FEWEST_TOKENS => return,
            Work::Prompts(tokens) => u32::try_from(tokens).unwrap_or(u32::MAX),
        };
        let seconds = took.as_secs_f64() / f64::from(tokens.max(1));
        let kind = self.kind(work);
        let Some(chosen) = kind.chosen else { return };
        if let Some(trial) = &mut kind.trial {
            trial.done += 1;
            trial.left -= 1;
            trial.sum += seconds;
            let lost = kind.taken[chosen]
                .is_some_and(|ours| trial.sum > ours * f64::from(trial.done + BEARABLE));
            if trial.left > 0 && !lost {
                return;
            }
            kind.taken[at] = Some(trial.sum / f64::from(trial.done));
            if at < chosen {
                kind.again = Some(now + kind.pause.max(SPARING * (now - trial.began)));
                kind.pause = (2 * kind.pause).min(LONGEST_PAUSE);
            }
            kind.trial = None;
        } else {
            let known = kind.taken[at].unwrap_or(seconds);
            kind.taken[at] = Some(known + WEIGHT * (seconds.min(OUTLIER * known) - known));
        }
        let ours = kind.taken[chosen].unwrap_or(seconds);
        let settled = (0..kind.taken.len())
            .filter_map(|count| {
                let by = match count {
                    more if more + 1 == chosen => MORE,
                    fewer if fewer > chosen => FEWER,
                    _ => return None,
                };
                let others = kind.taken[count]?;
                (others < by * ours).then_some((count, others))
            })
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
            .map_or(chosen, |(count, _)| count);
        if settled > chosen {
            // Long after the last trial the load is new, and may soon be gone.
            let long_ago = |again: Instant| now.saturating_duration_since(again) > LONGEST_PAUSE;
            if kind.again.is_none_or(long_ago) {
                kind.pause = FIRST_PAUSE;
            }
            kind.again = Some(now + kind.pause);
        }
        if settled != chosen {
            let taken = format!("{:.4?}", kind.taken);
            tracing::debug!(
                ?work,
                threads = self.counts[settled],
                taken,
                "other number of threads"
            );
        }
        self.kind(work).chosen = Some(settled);
        self.last = settled;
    }

    fn kind(&mut self, work: Work) -> &mut Kind {
        let at = match work {
            Work::Prompts(_) => 0,
            Work::Answers(number) => number.min(self.kinds.len() - 1),
        };
        &mut self.kinds[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with simulated time.
    struct Machine {
        threads: Threads,
        now: Instant,
    }

    impl Machine {
        fn new(most: usize) -> Self {
            Self {
                threads: Threads::new(most, 4),
                now: Instant::now(),
            }
        }

        /// Computes steps that take `milliseconds(threads)`; returns how long they took and how many had `best` threads.
        fn run(
            &mut self,
            steps: usize,
            work: Work,
            best: u32,
            milliseconds: impl Fn(u32) -> u64,
        ) -> (Duration, usize) {
            let (began, mut right) = (self.now, 0);
            for _ in 0..steps {
                let at = self.threads.begin(work, self.now);
                let count = self.threads.counts[at];
                let took = Duration::from_millis(milliseconds(count));
                right += usize::from(count == best);
                self.now += took;
                self.threads.end(work, at, took, self.now);
            }
            (self.now - began, right)
        }
    }

    const IDLE: fn(u32) -> u64 = |threads| 96 / u64::from(threads);
    const LOADED: fn(u32) -> u64 = |threads| if threads > 1 { 400 } else { 100 };

    #[test]
    fn an_idle_machine_uses_all_threads_but_for_one_trial() {
        let (_, right) = Machine::new(8).run(1_000, Work::Answers(1), 8, IDLE);
        assert!(right >= 990, "{right}");
    }

    #[test]
    fn a_loaded_machine_uses_one_and_trials_cost_little() {
        let (took, _) = Machine::new(8).run(2_000, Work::Answers(1), 1, LOADED);
        assert!(took < Duration::from_secs(210), "{took:?}");
    }

    #[test]
    fn in_between_half_of_the_threads_may_be_best() {
        let half_taken = |threads| if threads > 4 { 90 } else { IDLE(threads) };
        let (_, right) = Machine::new(8).run(1_000, Work::Answers(1), 4, half_taken);
        assert!(right >= 950, "{right}");
    }

    #[test]
    fn a_change_of_the_load_is_followed_both_ways() {
        let mut machine = Machine::new(8);
        machine.run(500, Work::Answers(2), 8, IDLE);
        machine.run(500, Work::Answers(2), 1, LOADED);
        let (_, right) = machine.run(500, Work::Answers(2), 1, LOADED);
        assert!(right >= 480, "{right}");
        machine.run(3_000, Work::Answers(2), 8, IDLE);
        let (_, right) = machine.run(500, Work::Answers(2), 8, IDLE);
        assert_eq!(right, 500);
    }

    #[test]
    fn a_new_kind_of_step_begins_where_the_last_one_stands() {
        let mut machine = Machine::new(2);
        machine.run(200, Work::Answers(1), 1, LOADED);
        let (_, right) = machine.run(1, Work::Prompts(64), 1, LOADED);
        assert_eq!(right, 1);
    }

    #[test]
    fn fixed_threads_stay() {
        let mut threads = Threads::fixed(4);
        for _ in 0..50 {
            let at = threads.begin(Work::Answers(1), Instant::now());
            assert_eq!(threads.counts[at], 4);
            threads.end(Work::Answers(1), at, Duration::from_secs(1), Instant::now());
        }
    }
}
