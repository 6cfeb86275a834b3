//! A simulated node as the balancer sees it.

use super::machine::Machine;
use crate::policy::View;
use std::collections::VecDeque;

/// How far back answers count, in seconds.
const WINDOW: f64 = 60.0;

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) machine: Machine,
    /// How long it takes to see that it is down or up.
    probe: f64,
    /// When it answered, and after how many seconds; `None`: it failed.
    answers: VecDeque<(f64, Option<f64>)>,
}

impl Seat {
    pub(super) fn new(machine: Machine, probe: f64) -> Self {
        Self {
            machine,
            probe,
            answers: VecDeque::new(),
        }
    }

    pub(super) fn answered(&mut self, now: f64, seconds: f64) {
        self.answers.push_back((now, Some(seconds)));
    }

    pub(super) fn refused(&mut self, now: f64) {
        self.answers.push_back((now, None));
    }

    /// It is not known to be down.
    pub(super) fn visible(&self, now: f64) -> bool {
        let mut down = self.machine.shape.down.iter();
        !down.any(|span| span.from + self.probe <= now && now < span.to + self.probe)
    }

    /// When that changes.
    pub(super) fn sightings(&self) -> impl Iterator<Item = f64> {
        let down = self.machine.shape.down.iter();
        down.flat_map(|span| [span.from + self.probe, span.to + self.probe])
    }

    pub(super) fn offers(&self, model: &String) -> bool {
        let models = &self.machine.shape.models;
        models.is_empty() || models.contains(model)
    }

    /// It has a slot to give.
    pub(super) fn free(&self) -> bool {
        let shape = &self.machine.shape;
        !shape.says_slots || active(&self.machine) < shape.slots
    }

    pub(super) fn view(&mut self, node: usize, model: usize, queued: f64, now: f64) -> View {
        while self
            .answers
            .pop_front_if(|(at, _)| *at < now - WINDOW)
            .is_some()
        {}
        let (mut good, mut bad, mut seconds) = (0.0, 0.0, 0.0);
        for (_, answer) in &self.answers {
            match answer {
                Some(time) => {
                    good += 1.0;
                    seconds += time;
                }
                None => bad += 1.0,
            }
        }
        View {
            node: u64::try_from(node).unwrap_or(u64::MAX),
            weight: self.machine.shape.weight,
            slots: self
                .machine
                .shape
                .says_slots
                .then_some(self.machine.shape.slots),
            active: active(&self.machine),
            queued,
            response_time: (good > 0.0).then(|| seconds / good),
            error_rate: bad / (good + bad + f64::MIN_POSITIVE),
            loaded: self.machine.holds(model),
        }
    }
}

fn active(machine: &Machine) -> u32 {
    u32::try_from(machine.active()).unwrap_or(u32::MAX)
}
