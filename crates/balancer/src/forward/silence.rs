//! How long a stream may say nothing, and how long it may take in all.

use crate::{Options, transport::TransportError};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Watches a stream. The alarm is not set anew for every piece that comes: it looks when it rings.
pub(super) struct Silence {
    between: Duration,
    whole: Duration,
    began: Instant,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl Silence {
    /// Of a stream that was asked for at `began` and is silent from now on.
    pub(super) fn new(options: &Options, began: Instant) -> Self {
        let last = Instant::now();
        let (between, whole) = (options.token_timeout, options.total_timeout);
        Self {
            between,
            whole,
            began,
            last,
            alarm: Box::pin(sleep_until(last + between.min(whole))),
        }
    }

    /// When the stream was asked for.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Something has come; gives how long nothing had.
    pub(super) fn broken(&mut self) -> Duration {
        let now = Instant::now();
        let gap = now - self.last;
        self.last = now;
        gap
    }

    /// Ready when nothing has come for too long, or the whole has taken too long.
    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<TransportError> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let now = Instant::now();
            let (silent, over) = (self.last + self.between, self.began + self.whole);
            if over <= now {
                return Poll::Ready(TransportError::Silent(self.whole));
            }
            if silent <= now {
                return Poll::Ready(TransportError::Silent(self.between));
            }
            self.alarm.as_mut().reset(silent.min(over));
        }
    }
}
