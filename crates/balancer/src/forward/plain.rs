//! The body of a streamed answer of a route that is not followed: it goes through as it comes, and cannot go on elsewhere.

use super::{blame, silence::Silence};
use crate::{
    ask::Ask, dispatch::Lease, policy::Outcome, shared::Shared, transport::TransportError,
};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

pub(crate) struct Plain {
    ask: Arc<Ask>,
    /// `None` once the answer has ended.
    lease: Option<Box<Lease>>,
    silence: Silence,
}

impl Plain {
    pub(super) fn new(shared: &Arc<Shared>, ask: &Arc<Ask>, lease: Box<Lease>) -> Self {
        Self {
            ask: Arc::clone(ask),
            silence: Silence::new(&shared.options, lease.began),
            lease: Some(lease),
        }
    }
}

impl Body for Plain {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let this = self.get_mut();
        let Some(lease) = &mut this.lease else {
            return Poll::Ready(None);
        };
        let error = match Pin::new(&mut lease.line).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                lease.begun();
                this.silence.broken();
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => {
                if let Some(lease) = this.lease.take() {
                    let ok = Outcome {
                        ok: true,
                        ..Outcome::default()
                    };
                    lease.finish(&this.ask, ok, None);
                }
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => error,
            Poll::Pending => ready!(this.silence.poll_over(context)),
        };
        if let Some(lease) = this.lease.take() {
            blame(lease, &error);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}
