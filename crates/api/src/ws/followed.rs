//! The answers that one socket follows.

use crate::generations::{Event, Follower};
use futures_util::{Stream, StreamExt as _};
use jarvis_domain::{Epoch, GenerationId};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

type Events = Pin<Box<dyn Stream<Item = (Event, Epoch, usize)> + Send>>;

/// A few streams of events, taken in turns. Nothing is allocated while there are none.
#[derive(Default)]
pub(super) struct Followed(Vec<(GenerationId, Events)>);

impl Followed {
    /// Follows an answer, in place of an earlier following of the same; false if there are `limit` others.
    pub(super) fn add(&mut self, id: GenerationId, follower: Follower, limit: usize) -> bool {
        self.remove(id);
        if self.0.len() >= limit {
            return false;
        }
        self.0.push((id, follower.events()));
        true
    }

    pub(super) fn remove(&mut self, id: GenerationId) {
        self.0.retain(|(followed, _)| *followed != id);
    }

    /// The next event of any; waits for ever while there is none. Cancel safe.
    pub(super) async fn next(&mut self) -> Event {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let mut index = 0;
        while index < self.0.len() {
            match self.0[index].1.poll_next_unpin(context) {
                Poll::Ready(Some((event, _, _))) => {
                    // Whoever has spoken goes to the end of the row.
                    self.0[index..].rotate_left(1);
                    return Poll::Ready(event);
                }
                Poll::Ready(None) => drop(self.0.remove(index)),
                Poll::Pending => index += 1,
            }
        }
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Poll::Pending
    }
}
