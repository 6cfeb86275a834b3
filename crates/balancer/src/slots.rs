//! A node's slots, and the queue of those who wait for one: first come, first served, each knowing its place.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// No more may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

#[derive(Debug)]
pub(crate) struct Slots {
    capacity: usize,
    max_queue: usize,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    active: usize,
    waiting: VecDeque<u64>,
    next_ticket: u64,
    /// A moving mean of how long a slot was held, in seconds.
    mean_hold: Option<f64>,
}

impl Slots {
    pub(crate) fn new(capacity: Option<NonZeroUsize>, max_queue: usize) -> Self {
        let capacity = capacity.map_or(usize::MAX, NonZeroUsize::get);
        Self {
            capacity,
            max_queue,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// How many hold a slot or wait for one.
    pub(crate) fn load(&self) -> usize {
        let state = self.state();
        state.active + state.waiting.len()
    }

    /// Joins the queue, at its head if nobody waits.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Ticket, QueueFull> {
        let mut state = self.state();
        if state.waiting.len() >= self.max_queue {
            return Err(QueueFull);
        }
        let number = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(number);
        Ok(Ticket {
            number,
            slots: Arc::clone(self),
            changed: self.changed.subscribe(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub(crate) struct Ticket {
    number: u64,
    slots: Arc<Slots>,
    changed: watch::Receiver<()>,
}

/// Where a waiter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// How many are ahead.
    pub(crate) ahead: usize,
    /// Estimated wait, once any answer has been timed.
    pub(crate) eta: Option<Duration>,
}

impl Ticket {
    /// Takes a slot if it is this ticket's turn and one is free; else says where it stands.
    pub(crate) fn try_take(&mut self) -> Result<Slot, Place> {
        self.changed.mark_unchanged();
        let mut state = self.slots.state();
        let ahead = state
            .waiting
            .iter()
            .position(|number| *number == self.number)
            .unwrap_or(0);
        if ahead == 0 && state.active < self.slots.capacity {
            state.waiting.pop_front();
            state.active += 1;
            drop(state);
            self.slots.changed.send_replace(());
            return Ok(Slot {
                slots: Arc::clone(&self.slots),
                since: Instant::now(),
            });
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate over small counts")]
        let rounds = (ahead + 1) as f64 / self.slots.capacity as f64;
        let eta = state
            .mean_hold
            .map(|mean| Duration::from_secs_f64(mean * rounds));
        Err(Place { ahead, eta })
    }

    /// Waits until the queue has moved. Cancel safe.
    pub(crate) async fn moved(&mut self) {
        // The sender lives in `slots`, which this ticket holds: it cannot be gone.
        let _ = self.changed.changed().await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        let before = state.waiting.len();
        state.waiting.retain(|number| *number != self.number);
        if state.waiting.len() < before {
            drop(state);
            self.slots.changed.send_replace(());
        }
    }
}

/// A slot that is held; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    since: Instant,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let held = self.since.elapsed().as_secs_f64();
        let mut state = self.slots.state();
        state.active -= 1;
        state.mean_hold = Some(state.mean_hold.map_or(held, |mean| mean * 0.8 + held * 0.2));
        drop(state);
        self.slots.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(capacity: usize, max_queue: usize) -> Arc<Slots> {
        Arc::new(Slots::new(NonZeroUsize::new(capacity), max_queue))
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_are_served_in_order_and_know_their_place() {
        let slots = slots(1, 8);
        let held = slots.enter().unwrap().try_take().unwrap();
        let (mut first, mut second) = (slots.enter().unwrap(), slots.enter().unwrap());
        assert_eq!(
            first.try_take().unwrap_err(),
            Place {
                ahead: 0,
                eta: None
            }
        );
        assert_eq!(
            second.try_take().unwrap_err(),
            Place {
                ahead: 1,
                eta: None
            }
        );
        tokio::time::advance(Duration::from_secs(4)).await;
        drop(held);
        second.moved().await;
        let eta = Some(Duration::from_secs(8));
        assert_eq!(
            second.try_take().unwrap_err(),
            Place { ahead: 1, eta },
            "no overtaking"
        );
        let held = first.try_take().unwrap();
        drop((held, first));
        assert!(second.try_take().is_ok());
        drop(second);
        assert_eq!(slots.load(), 0);
    }

    #[tokio::test]
    async fn a_waiter_that_leaves_lets_the_next_one_in() {
        let slots = slots(1, 2);
        let held = slots.enter().unwrap().try_take().unwrap();
        let (first, mut second) = (slots.enter().unwrap(), slots.enter().unwrap());
        assert_eq!(slots.enter().unwrap_err(), QueueFull);
        drop((first, held));
        second.moved().await;
        assert!(second.try_take().is_ok());
    }
}
