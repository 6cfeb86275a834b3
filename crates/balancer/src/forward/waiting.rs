//! An answer that is waited for, with news of its request's place in the queue meanwhile.

use crate::{dispatch::Places, queue::Place};
use std::pin::Pin;
use tokio::sync::watch;

pub(crate) struct Waiting<T> {
    answer: Pin<Box<dyn Future<Output = T> + Send>>,
    places: watch::Receiver<Option<Place>>,
}

pub(crate) enum News<T> {
    Place(Place),
    /// The last.
    Answer(T),
}

impl<T> Waiting<T> {
    /// `ask` is given where the places are to be told.
    pub(crate) fn new<F>(ask: impl FnOnce(Places) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (told, places) = watch::channel(None);
        Self {
            answer: Box::pin(ask(told)),
            places,
        }
    }

    /// Waits for the next. Cancel safe.
    pub(crate) async fn news(&mut self) -> News<T> {
        loop {
            tokio::select! {
                biased;
                answer = &mut self.answer => return News::Answer(answer),
                Ok(()) = self.places.changed() => {}
            }
            if let Some(place) = *self.places.borrow_and_update() {
                return News::Place(place);
            }
        }
    }
}
