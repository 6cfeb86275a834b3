//! The body of a streamed answer. It reads the node itself when it is polled, hands on whole records as they come, and goes
//! on elsewhere when the node is lost.

use super::{Begun, blame, go_on, seconds, silence::Silence};
use crate::{
    ask::Ask,
    dispatch::{Lease, Wanted},
    forward::go_on::{Gone, WentOn},
    node::Node,
    policy::Outcome,
    resume::{Cause, End, Spent, Splice, Transcript},
    shared::Shared,
    transport::TransportError,
};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// An answer ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the answer of the node `{node}` broke off and could not be continued: {why}")]
pub(crate) struct RelayError {
    pub(crate) node: String,
    pub(crate) why: Gone,
    #[source]
    pub(crate) source: TransportError,
}

type GoingOn = Pin<Box<dyn Future<Output = (Transcript, Result<WentOn, Gone>)> + Send>>;

/// A streamed answer.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    ask: Arc<Ask>,
    state: State,
    /// `None` while the answer is being continued, which needs it.
    transcript: Option<Transcript>,
    /// Read before the head was sent.
    begun: Option<Begun>,
    /// Tokens that were there before all this, and tokens when the transcript was last here.
    before: u64,
    counted: u64,
    tried: Vec<u64>,
    /// How often it went on elsewhere.
    resumed: u32,
    /// The last of them.
    node: Option<Arc<Node>>,
    silence: Silence,
    /// The longest silence between two pieces.
    gap: Option<Duration>,
}

enum State {
    Reading(Box<Reading>),
    GoingOn(Box<Lost>, GoingOn),
    /// What is left to be sent.
    Ending(Bytes),
    Done,
}

struct Reading {
    lease: Box<Lease>,
    splice: Option<Splice>,
}

/// The node that was lost.
struct Lost {
    node: String,
    source: TransportError,
}

impl Relay {
    pub(super) fn new(
        shared: &Arc<Shared>,
        ask: &Arc<Ask>,
        lease: Box<Lease>,
        begun: Begun,
        transcript: Transcript,
    ) -> Self {
        let silence = Silence::new(&shared.options, lease.began);
        Self {
            shared: Arc::clone(shared),
            ask: Arc::clone(ask),
            tried: vec![lease.node.id],
            resumed: 0,
            node: Some(Arc::clone(&lease.node)),
            state: State::Reading(Box::new(Reading {
                lease,
                splice: None,
            })),
            transcript: Some(transcript),
            begun: Some(begun),
            before: 0,
            counted: 0,
            silence,
            gap: None,
        }
    }

    /// An answer of which the beginning was shown elsewhere, and which goes on here.
    pub(super) fn going_on(
        shared: &Arc<Shared>,
        ask: &Arc<Ask>,
        transcript: Transcript,
        went_on: WentOn,
    ) -> Self {
        let silence = Silence::new(&shared.options, Instant::now());
        let mut relay = Self {
            shared: Arc::clone(shared),
            ask: Arc::clone(ask),
            tried: Vec::new(),
            resumed: 0,
            node: None,
            state: State::Done,
            before: transcript.tokens_used(),
            counted: transcript.tokens_used(),
            transcript: Some(transcript),
            begun: None,
            silence,
            gap: None,
        };
        relay.adopt(went_on);
        relay
    }

    /// Tokens of the answer so far, those of its beginning included: see [`Transcript::tokens_used`].
    pub(crate) fn tokens(&self) -> u64 {
        self.transcript
            .as_ref()
            .map_or(self.counted, Transcript::tokens_used)
    }

    /// The name of the node that answers, or was the last to.
    pub(crate) fn node(&self) -> &str {
        self.node.as_ref().map_or("", |node| &node.name)
    }

    /// How often it went on elsewhere so far.
    pub(crate) fn resumed(&self) -> u32 {
        self.resumed
    }

    fn adopt(&mut self, went_on: WentOn) {
        self.silence.broken();
        self.state = match went_on {
            WentOn::Stream { lease, splice } => {
                self.tried.push(lease.node.id);
                self.node = Some(Arc::clone(&lease.node));
                State::Reading(Box::new(Reading {
                    lease,
                    splice: Some(*splice),
                }))
            }
            WentOn::End(bytes) => match self.transcript.as_mut().map(|known| known.push(bytes)) {
                Some(Ok(bytes)) => State::Ending(bytes),
                _ => State::Done,
            },
        };
    }

    /// The next piece of the node's body, or how it was lost.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, TransportError>> {
        let State::Reading(reading) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        match Pin::new(&mut reading.lease.line).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let gap = self.silence.broken();
                self.gap = Some(self.gap.map_or(gap, |longest| longest.max(gap)));
                Poll::Ready(Ok(Some(frame.into_data().unwrap_or_default())))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Pending => self.silence.poll_over(context).map(Err),
        }
    }

    /// What the client shall see of a piece; `Err` with what comes before the fault.
    fn take(&mut self, piece: Bytes) -> Result<Bytes, (Bytes, Cause)> {
        let Some(transcript) = &mut self.transcript else {
            return Ok(Bytes::new());
        };
        let spliced = match &mut self.state {
            State::Reading(reading) => match &mut reading.splice {
                Some(splice) => splice.push(piece),
                None => Ok(piece),
            },
            _ => Ok(piece),
        };
        match spliced {
            Ok(piece) => transcript
                .push(piece)
                .map_err(|broken| (broken.before, broken.cause)),
            Err(broken) => {
                let before = transcript.push(broken.before).unwrap_or_default();
                Err((before, broken.cause))
            }
        }
    }

    /// The node's body has ended: well, if the answer is complete.
    fn end(&mut self) -> Result<Bytes, Cause> {
        let Some(transcript) = &mut self.transcript else {
            return Ok(Bytes::new());
        };
        let State::Reading(reading) = &mut self.state else {
            return Ok(Bytes::new());
        };
        let rest = match &mut reading.splice {
            Some(splice) => splice.finish().and_then(|rest| transcript.push(rest)),
            None => transcript.finish(),
        };
        rest.map_err(|broken| broken.cause)
    }

    fn is_complete(&self) -> bool {
        self.transcript
            .as_ref()
            .is_some_and(Transcript::is_complete)
    }

    /// Whether the answer is complete and its body at its end. While it is not, it is read on: only then can the connection
    /// be used again.
    fn is_over(&self) -> bool {
        let State::Reading(reading) = &self.state else {
            return false;
        };
        reading.lease.line.is_end_stream() && self.is_complete()
    }

    /// The answer is complete.
    fn finish(&mut self) {
        let State::Reading(reading) = std::mem::replace(&mut self.state, State::Done) else {
            return;
        };
        let end = self.transcript.as_ref().and_then(Transcript::ended);
        let outcome = end.map_or_else(Outcome::default, |end| outcome(end, self.before));
        self.shared.served(&self.ask, &reading.lease.digest);
        reading.lease.finish(
            &self.ask,
            Outcome {
                ok: true,
                ..outcome
            },
            self.gap,
        );
    }

    /// The node was lost: goes on elsewhere, if that is right.
    fn lost(&mut self, error: TransportError) {
        if self.is_complete() {
            return self.finish();
        }
        let State::Reading(reading) = std::mem::replace(&mut self.state, State::Done) else {
            return;
        };
        let Some(mut transcript) = self.transcript.take() else {
            return;
        };
        // What cannot be read makes going on impossible, which is found there.
        let _ = transcript.settle();
        self.counted = transcript.tokens_used();
        let lease = reading.lease;
        let lost = Lost {
            node: lease.node.name.clone(),
            source: error,
        };
        let wanted = Wanted {
            tried: self.tried.clone(),
            digest: Some(lease.digest.clone()),
            resumes: true,
        };
        let spent = Spent {
            total: self.silence.began().elapsed(),
            decoding: lease.first_byte().map_or(Duration::ZERO, |first| {
                lease.began.elapsed().saturating_sub(first)
            }),
        };
        blame(lease, &lost.source);
        let going_on = go_on::go_on(
            Arc::clone(&self.shared),
            Arc::clone(&self.ask),
            transcript,
            wanted,
            spent,
        );
        self.state = State::GoingOn(Box::new(lost), Box::pin(going_on));
    }
}

/// What the nodes of this answer did. Of the tokens `before` they made none: to them they were part of the prompt.
fn outcome(end: &End, before: u64) -> Outcome {
    let metrics = &end.metrics;
    let count = |count: u64| (count > 0).then(|| u32::try_from(count).unwrap_or(u32::MAX));
    let time = |duration: u64| (duration > 0).then(|| seconds(duration));
    Outcome {
        ok: true,
        tokens: count(metrics.eval_count.saturating_sub(before)),
        prompt_tokens: count(metrics.prompt_eval_count.saturating_add(before)),
        prompt_cached: None,
        load_seconds: time(metrics.load_duration),
        prompt_seconds: time(metrics.prompt_eval_duration),
        decode_seconds: time(metrics.eval_duration),
    }
}

/// A fault in what the node sent, as its transport would say it.
pub(super) fn fault(cause: &Cause) -> TransportError {
    match cause {
        Cause::Cut => TransportError::Cut,
        Cause::TooLong | Cause::Malformed => TransportError::Malformed(cause.to_string()),
        Cause::Failed(message) => TransportError::Failed(message.clone()),
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Done => return Poll::Ready(None),
                State::Ending(bytes) => {
                    let bytes = std::mem::take(bytes);
                    this.state = State::Done;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                State::GoingOn(lost, future) => {
                    let (transcript, went_on) = ready!(future.as_mut().poll(context));
                    match went_on {
                        Ok(went_on) => {
                            this.transcript = Some(transcript);
                            this.resumed += 1;
                            this.adopt(went_on);
                        }
                        Err(why) => {
                            let error = RelayError {
                                node: std::mem::take(&mut lost.node),
                                source: std::mem::replace(&mut lost.source, TransportError::Cut),
                                why,
                            };
                            this.state = State::Done;
                            return Poll::Ready(Some(Err(error)));
                        }
                    }
                }
                State::Reading(_) => {
                    if let Some(begun) = this.begun.take() {
                        match begun.fault {
                            Some(cause) => this.lost(fault(&cause)),
                            None if begun.ended || this.is_over() => this.finish(),
                            None => {}
                        }
                        if begun.first.is_empty() {
                            continue;
                        }
                        return Poll::Ready(Some(Ok(Frame::data(begun.first))));
                    }
                    let piece = match ready!(this.read(context)) {
                        Ok(Some(piece)) => this.take(piece),
                        Ok(None) => match this.end() {
                            Ok(rest) => {
                                this.finish();
                                Ok(rest)
                            }
                            Err(cause) => Err((Bytes::new(), cause)),
                        },
                        Err(error) => {
                            this.lost(error);
                            continue;
                        }
                    };
                    let bytes = match piece {
                        Ok(bytes) => bytes,
                        Err((before, cause)) => {
                            this.lost(fault(&cause));
                            before
                        }
                    };
                    if this.is_over() {
                        this.finish();
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(bytes))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done) && self.begun.is_none()
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}
