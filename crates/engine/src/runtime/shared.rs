use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jarvis_protocol::ollama::KeepAlive;

use super::job::Ticket;
use crate::error::EngineError;

/// What the handle of a loaded model and its thread both see.
pub(crate) struct Shared {
    state: Mutex<State>,
    limit: usize,
}

struct State {
    accepting: bool,
    in_flight: usize,
    idle_since: Instant,
    keep_alive: KeepAlive,
}

impl Shared {
    /// At most `limit` jobs may exist at once.
    pub(super) fn new(limit: usize, keep_alive: KeepAlive) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                accepting: true,
                in_flight: 0,
                idle_since: Instant::now(),
                keep_alive,
            }),
            limit,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the queue; `Ok(None)` when the model is on its way out of memory.
    pub(super) fn take(self: &Arc<Self>) -> Result<Option<Ticket>, EngineError> {
        let mut state = self.lock();
        if !state.accepting {
            return Ok(None);
        }
        if state.in_flight >= self.limit {
            return Err(EngineError::Busy);
        }
        state.in_flight += 1;
        Ok(Some(Ticket(Arc::clone(self))))
    }

    pub(super) fn give_back(&self) {
        let mut state = self.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }

    pub(super) fn keep(&self, keep_alive: KeepAlive) {
        let mut state = self.lock();
        state.keep_alive = keep_alive;
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }

    /// No new job from now on.
    pub(super) fn refuse(&self) {
        self.lock().accepting = false;
    }

    pub(super) fn accepting(&self) -> bool {
        self.lock().accepting
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.in_flight == 0).then_some(state.idle_since)
    }

    /// When the model leaves memory if nobody asks any more; `None`: never.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        let from = if state.in_flight == 0 {
            state.idle_since
        } else {
            Instant::now()
        };
        match state.keep_alive {
            KeepAlive::Forever => None,
            KeepAlive::For(time) => from.checked_add(time),
        }
    }

    /// Stops accepting if the deadline has passed and nothing is in flight; whether it did.
    pub(super) fn expire(&self) -> bool {
        let mut state = self.lock();
        if state.in_flight > 0 {
            return false;
        }
        let due = match state.keep_alive {
            KeepAlive::Forever => false,
            KeepAlive::For(time) => state.idle_since.elapsed() >= time,
        };
        if due {
            state.accepting = false;
        }
        due || !state.accepting
    }
}
