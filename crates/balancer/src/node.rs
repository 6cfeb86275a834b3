//! One node: what it offers, as last seen; who is at it; how it has done of late.

mod breaker;
mod budget;
mod look;
mod window;

pub(crate) use breaker::{Pass, State};
pub(crate) use budget::{Budget, Settings as BudgetSettings};
pub(crate) use look::{Offer, Seen};

use crate::{
    NodeSpec, Options,
    metrics::NodeMeter,
    policy::View,
    queue::{Capacity, Freed, Queue, Slots},
    seldom::Seldom,
    transport::{Line, Link, NodeBody, TransportError},
    upstream::Outgoing,
};
use breaker::{Breaker, Outcome, Settings};
use http::{HeaderValue, Response, response::Parts};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use window::Window;

#[derive(Debug)]
pub(crate) struct Node {
    /// Never given to another.
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The name as a header, where it can stand in one.
    pub(crate) signature: Option<HeaderValue>,
    pub(crate) optional: bool,
    pub(crate) slots: Arc<Slots>,
    pub(crate) meter: NodeMeter,
    /// Cancelled when the node is taken out of the pool.
    pub(crate) gone: CancellationToken,
    /// `host:port`, or that it is in this process.
    address: String,
    link: Link,
    weight: AtomicU32,
    drained: AtomicBool,
    /// A request has cast doubt on it.
    doubted: Notify,
    /// When a request last had it looked at.
    looked: Seldom,
    seen: watch::Sender<Seen>,
    health: Mutex<Health>,
    began: Instant,
}

#[derive(Debug)]
struct Health {
    window: Window,
    breaker: Breaker,
    /// Until when it is spared because it said that it was busy.
    rests: Duration,
}

/// What became of one request, as far as the node is to be judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered; the time to its first byte.
    Answered(Duration),
    /// It refused, broke, stalled or said that it was busy.
    Failed,
    /// It has too much to do and said so without failing: it is to be spared for so long. A choice counts that against it,
    /// or who answers at once would be chosen again at once; its breaker does not.
    Busy(Duration),
    /// It said nothing about the node: a refusal of the request, a client that left.
    Unjudged,
}

/// A node as people and programs see it.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) response_time: Option<f64>,
    pub(crate) error_rate: f64,
    pub(crate) active: u32,
    pub(crate) health_score: f64,
}

impl Node {
    pub(crate) fn new(id: u64, spec: NodeSpec, options: &Options, queue: &Queue) -> Self {
        let seen = watch::Sender::new(Seen::Nothing);
        let capacity = match spec.slots {
            Some(slots) => Capacity::Fixed(slots.get()),
            None => Capacity::Learnt,
        };
        let slots = Arc::new_cyclic(|slots| {
            Slots::new(capacity, freed(slots.clone(), queue.clone(), seen.clone()))
        });
        Self {
            id,
            meter: NodeMeter::new(&spec.name),
            signature: HeaderValue::from_str(&spec.name).ok(),
            name: spec.name,
            optional: spec.optional,
            slots,
            gone: CancellationToken::new(),
            address: spec.transport.name(),
            link: spec.transport.open(options),
            weight: AtomicU32::new(spec.weight),
            drained: AtomicBool::new(false),
            doubted: Notify::new(),
            looked: Seldom::default(),
            seen,
            health: Mutex::new(Health {
                window: Window::default(),
                breaker: Breaker::new(Settings::default(), id, Duration::ZERO),
                rests: Duration::ZERO,
            }),
            began: Instant::now(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        request: Outgoing<'_>,
    ) -> Result<Response<NodeBody>, TransportError> {
        self.link.send(request, None).await
    }

    /// The same, with `limit` for the head instead of the one for a first token.
    pub(crate) async fn send_within(
        &self,
        request: Outgoing<'_>,
        limit: Duration,
    ) -> Result<Response<NodeBody>, TransportError> {
        self.link.send(request, Some(limit)).await
    }

    /// The same for who has a slot, on `line` as long as the answer is under way.
    pub(crate) async fn open(
        &self,
        line: &mut Line,
        request: Outgoing<'_>,
        limit: Duration,
    ) -> Result<Parts, TransportError> {
        self.link.open(line, request, limit).await
    }

    /// Whether new requests may go to it: it is not being drained, is not spared, and its breaker lets one through.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.serves() && self.health().admits(self.at(now))
    }

    /// Whether it is to get requests at all: it is not being drained, and has some weight.
    pub(crate) fn serves(&self) -> bool {
        !self.is_drained() && self.weight() > 0
    }

    /// A request goes to it now: while it recovers, only one may.
    pub(crate) fn admit(&self, now: Instant) -> Option<Pass> {
        self.health().breaker.admit(self.at(now))
    }

    /// How a policy sees it; `queued` is what waits for it.
    pub(crate) fn view(&self, model: &str, queued: f64, now: Instant) -> View {
        let totals = self.health().window.totals(self.at(now));
        View {
            node: self.id,
            weight: self.weight(),
            slots: Some(self.slots.capacity()),
            active: self.slots.active(),
            queued,
            response_time: totals.response_time(),
            error_rate: totals.error_rate(),
            loaded: self.has_loaded(model),
        }
    }

    /// Judges the node by a request; `pass` is what [`Self::admit`] gave, if it was asked.
    pub(crate) fn judge(&self, pass: Option<&Pass>, verdict: Verdict, now: Instant) {
        let now = self.at(now);
        let mut health = self.health();
        let outcome = match verdict {
            Verdict::Answered(wait) => {
                health.window.success(wait, now);
                Outcome::Success
            }
            Verdict::Failed => {
                health.window.failure(now);
                Outcome::Failure
            }
            Verdict::Busy(rest) => {
                health.window.failure(now);
                health.rests = health.rests.max(now + rest);
                Outcome::Neutral
            }
            Verdict::Unjudged => Outcome::Neutral,
        };
        let before = health.breaker.state(now);
        if let Some(pass) = pass {
            health.breaker.record(pass, outcome, now);
        }
        let after = health.breaker.state(now);
        drop(health);
        match (before, after) {
            (State::Closed | State::HalfOpen, State::Open { until }) => {
                let seconds = until.saturating_sub(now).as_secs_f64();
                tracing::warn!(
                    node = self.name,
                    seconds,
                    "node is left alone for a while: it fails"
                );
            }
            (State::HalfOpen, State::Closed) => {
                tracing::info!(node = self.name, "node is back: it answered");
            }
            _ => {}
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let active = self.slots.active();
        let totals = self.health().window.totals(self.now());
        Figures {
            response_time: totals.response_time(),
            error_rate: totals.error_rate(),
            active,
            health_score: totals.health_score(active),
        }
    }

    /// Whether its breaker lets requests through.
    pub(crate) fn breaker(&self) -> State {
        self.health().breaker.state(self.now())
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    pub(crate) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    /// Whether it gets no new requests because somebody said so.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    pub(crate) fn set_drained(&self, drained: bool) {
        self.drained.store(drained, Relaxed);
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn now(&self) -> Duration {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    fn admits(&self, now: Duration) -> bool {
        self.rests <= now && self.breaker.admits(now)
    }
}

/// Tells the queue of freed slots, for those whose model the node has.
fn freed(
    slots: Weak<Slots>,
    queue: Queue,
    seen: watch::Sender<Seen>,
) -> impl Fn(Freed) + Send + Sync + 'static {
    move |freed| {
        if let Some(held) = freed.held {
            queue.held(held);
        }
        if freed.slots > 0
            && !queue.is_empty()
            && let Seen::Up(offer) = &*seen.borrow()
        {
            let (offer, slots) = (Arc::clone(offer), slots.clone());
            queue.wake_for(move |model| {
                offer.has(model) && slots.upgrade().is_some_and(|slots| slots.free() > 0)
            });
        }
    }
}
