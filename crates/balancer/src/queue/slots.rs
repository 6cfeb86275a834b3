//! What one node may be given at once.

use super::capacity::{Capacity, Learnt};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

/// What [`Slots`] report when one of them was let go, or when there are more than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Freed {
    /// How many can be claimed that could not be before: none where the node has shrunk meanwhile.
    pub(crate) slots: u32,
    /// How long the slot was held, if one was.
    pub(crate) held: Option<Duration>,
}

/// The slots of one node.
///
/// Every slot in use is a [`Claim`] or a [`Draining`], and only their drop subtracts from the counters, once each:
/// they cannot go negative. All counters are sequentially consistent, so that who frees a slot and then finds nobody
/// waiting, and who begins to wait and then finds no slot, cannot both be wrong.
pub(crate) struct Slots {
    active: AtomicU32,
    draining: AtomicU32,
    capacity: AtomicU32,
    learnt: Mutex<Option<Learnt>>,
    /// A moving mean of how long a slot is held, seconds, as bits; 0 before any was let go.
    mean_hold: AtomicU64,
    /// When the last look began that found the node idle.
    idle: watch::Sender<Option<Instant>>,
    freed: Box<dyn Fn(Freed) + Send + Sync>,
}

impl Slots {
    /// `freed` is called after every release and growth, with no lock held.
    pub(crate) fn new(capacity: Capacity, freed: impl Fn(Freed) + Send + Sync + 'static) -> Self {
        let (limit, learnt) = capacity.begin();
        Self {
            active: AtomicU32::new(0),
            draining: AtomicU32::new(0),
            capacity: AtomicU32::new(limit),
            learnt: Mutex::new(learnt),
            mean_hold: AtomicU64::new(0),
            idle: watch::Sender::new(None),
            freed: Box::new(freed),
        }
    }

    /// Takes a slot, if one is free `now`.
    pub(crate) fn try_claim(self: &Arc<Self>, now: Instant) -> Option<Claim> {
        let capacity = self.capacity.load(SeqCst);
        let take = |active: u32| (active < capacity).then(|| active + 1);
        let before = self.active.fetch_update(SeqCst, SeqCst, take).ok()?;
        Some(Claim {
            concurrency: before + 1,
            charge: Charge {
                slots: Arc::clone(self),
                since: now,
            },
        })
    }

    /// Slots in use, those that drain among them.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(SeqCst)
    }

    /// Slots whose client has left, until the node is seen idle.
    pub(crate) fn draining(&self) -> u32 {
        self.draining.load(SeqCst)
    }

    /// How many may be in use.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity.load(SeqCst)
    }

    /// How many can be claimed now.
    pub(crate) fn free(&self) -> u32 {
        let capacity = self.capacity.load(SeqCst);
        capacity.saturating_sub(self.active.load(SeqCst))
    }

    /// How long a slot is held, in the mean of late; `None` before one was let go.
    pub(crate) fn mean_hold(&self) -> Option<f64> {
        let mean = self.mean_hold.load(Relaxed);
        (mean != 0).then(|| f64::from_bits(mean))
    }

    fn held(&self, held: Duration) {
        let held = held.as_secs_f64();
        let mean = self.mean_hold();
        let mean = mean.map_or(held, |mean| mean + 0.1 * (held - mean));
        // Of two at once one may be lost: it is an estimate.
        self.mean_hold.store(mean.to_bits(), Relaxed);
    }

    /// From now on. What is in use beyond a smaller capacity stays until it ends.
    pub(crate) fn set_capacity(&self, capacity: Capacity) {
        let mut learnt = self.learnt();
        let (limit, begun) = capacity.begin();
        *learnt = begun;
        let before = self.capacity.swap(limit, SeqCst);
        drop(learnt);
        self.grown(before, limit);
    }

    /// The node was seen idle by a look that began at `began`: what has drained since before then is free.
    pub(crate) fn seen_idle(&self, began: Instant) {
        self.idle.send_replace(Some(began));
    }

    fn learn(&self, from: impl FnOnce(&mut Learnt)) {
        let mut guard = self.learnt();
        let Some(learnt) = guard.as_mut() else { return };
        from(learnt);
        let limit = learnt.limit();
        let before = self.capacity.swap(limit, SeqCst);
        drop(guard);
        self.grown(before, limit);
    }

    fn grown(&self, before: u32, now: u32) {
        let slots = now.saturating_sub(before).min(self.free());
        if slots > 0 {
            (self.freed)(Freed { slots, held: None });
        }
    }

    fn learnt(&self) -> MutexGuard<'_, Option<Learnt>> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("active", &self.active())
            .field("draining", &self.draining())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// One slot in use.
#[derive(Debug)]
struct Charge {
    slots: Arc<Slots>,
    since: Instant,
}

impl Drop for Charge {
    fn drop(&mut self) {
        let before = self.slots.active.fetch_sub(1, SeqCst);
        let usable = before <= self.slots.capacity.load(SeqCst);
        let held = self.since.elapsed();
        self.slots.held(held);
        (self.slots.freed)(Freed {
            slots: u32::from(usable),
            held: Some(held),
        });
    }
}

/// A slot that is held for a request; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Claim {
    charge: Charge,
    concurrency: u32,
}

impl Claim {
    #[cfg(test)]
    /// How many slots were in use when this one was claimed, itself included.
    pub(crate) fn concurrency(&self) -> u32 {
        self.concurrency
    }

    /// The node began to answer after `wait`. Not to be told of an answer that had to wait for its model to be loaded.
    pub(crate) fn began(&self, wait: Duration) {
        let slots = &self.charge.slots;
        slots.learn(|learnt| learnt.began(self.concurrency, wait));
    }

    /// The node said that it was busy (503, or 429 about itself).
    pub(crate) fn busy(&self) {
        self.charge.slots.learn(|l| l.busy(self.concurrency));
    }

    /// The client has left, but the node may work on: the slot stays charged until what is returned is dropped.
    pub(crate) fn drain(self) -> Draining {
        self.charge.slots.draining.fetch_add(1, SeqCst);
        Draining {
            began: Instant::now(),
            charge: self.charge,
        }
    }
}

/// A slot that nobody reads from any more; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Draining {
    charge: Charge,
    began: Instant,
}

impl Draining {
    /// Frees the slot as soon as `ended` says that the node is done, or a look at the node that began later finds it idle, at
    /// `deadline` at the latest.
    pub(crate) async fn until(self, ended: impl Future<Output = ()>, deadline: Instant) {
        let mut idle = self.charge.slots.idle.subscribe();
        tokio::select! {
            () = ended => {}
            _ = idle.wait_for(|look| look.is_some_and(|began| began >= self.began)) => {}
            () = time::sleep_until(deadline) => {}
        }
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        // The charge itself follows, with its own drop.
        self.charge.slots.draining.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::future::{pending, ready};

    fn slots(capacity: Capacity) -> (Arc<Slots>, Arc<Mutex<Vec<Freed>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hook = Arc::clone(&told);
        let slots = Slots::new(capacity, move |freed| hook.lock().unwrap().push(freed));
        (Arc::new(slots), told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_free_again_when_its_claim_is_dropped_and_that_is_told() {
        let (slots, told) = slots(Capacity::Fixed(1));
        let claim = slots.try_claim(Instant::now()).unwrap();
        assert!(slots.try_claim(Instant::now()).is_none());
        time::advance(Duration::from_secs(3)).await;
        drop(claim);
        let freed = Freed {
            slots: 1,
            held: Some(Duration::from_secs(3)),
        };
        assert_eq!(*told.lock().unwrap(), [freed]);
        assert_eq!(slots.mean_hold(), Some(3.0));
        assert!(slots.try_claim(Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_slot_stays_charged_until_a_later_look_finds_the_node_idle() {
        let (slots, _) = slots(Capacity::Fixed(1));
        let before = Instant::now();
        time::advance(Duration::from_millis(1)).await;
        let draining = slots.try_claim(Instant::now()).unwrap().drain();
        let far = Instant::now() + Duration::from_mins(10);
        let mut freed = tokio_test_task(draining.until(pending(), far));
        slots.seen_idle(before);
        assert!(!freed.poll(), "that look began before the client left");
        assert_eq!((slots.active(), slots.draining()), (1, 1));
        assert!(slots.try_claim(Instant::now()).is_none());
        slots.seen_idle(Instant::now());
        assert!(freed.poll());
        assert_eq!((slots.active(), slots.draining()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_slot_is_freed_at_its_deadline_or_when_it_is_dropped() {
        let (slots, _) = slots(Capacity::Fixed(1));
        let deadline = Instant::now() + Duration::from_secs(30);
        slots
            .try_claim(Instant::now())
            .unwrap()
            .drain()
            .until(pending(), deadline)
            .await;
        assert_eq!(Instant::now(), deadline);
        assert_eq!((slots.active(), slots.draining()), (0, 0));
        drop(
            slots
                .try_claim(Instant::now())
                .unwrap()
                .drain()
                .until(pending(), deadline),
        );
        assert_eq!((slots.active(), slots.draining()), (0, 0));
        let draining = slots.try_claim(Instant::now()).unwrap().drain();
        draining.until(ready(()), deadline).await;
        assert_eq!((slots.active(), slots.draining()), (0, 0));
    }

    /// A future that is polled by hand.
    struct Polled<F>(std::pin::Pin<Box<F>>);

    fn tokio_test_task<F: Future<Output = ()>>(future: F) -> Polled<F> {
        let mut polled = Polled(Box::pin(future));
        assert!(!polled.poll());
        polled
    }

    impl<F: Future<Output = ()>> Polled<F> {
        fn poll(&mut self) -> bool {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            self.0.as_mut().poll(&mut context).is_ready()
        }
    }

    #[tokio::test]
    async fn capacity_changes_at_run_time_and_growth_is_told() {
        let (slots, told) = slots(Capacity::Fixed(3));
        let claims: Vec<_> = (0..3)
            .map(|_| slots.try_claim(Instant::now()).unwrap())
            .collect();
        slots.set_capacity(Capacity::Fixed(1));
        assert!(slots.try_claim(Instant::now()).is_none());
        drop(claims);
        let usable: u32 = told.lock().unwrap().iter().map(|freed| freed.slots).sum();
        assert_eq!(usable, 1, "of three releases, only the last made room");
        told.lock().unwrap().clear();
        slots.set_capacity(Capacity::Fixed(5));
        let grown = Freed {
            slots: 4,
            held: None,
        };
        assert_eq!(*told.lock().unwrap(), [grown]);
    }

    #[tokio::test]
    async fn a_busy_answer_shrinks_a_learnt_capacity() {
        let (slots, _) = slots(Capacity::Learnt);
        assert_eq!(slots.capacity(), 4);
        let claims: Vec<_> = (0..4)
            .map(|_| slots.try_claim(Instant::now()).unwrap())
            .collect();
        assert_eq!(claims[2].concurrency(), 3);
        claims[3].busy();
        assert_eq!(slots.capacity(), 3);
        assert_eq!(slots.active(), 4);
    }

    #[tokio::test]
    async fn good_answers_at_full_use_let_a_learnt_capacity_grow_and_that_is_told() {
        let (slots, told) = slots(Capacity::Learnt);
        let claims: Vec<_> = (0..4)
            .map(|_| slots.try_claim(Instant::now()).unwrap())
            .collect();
        for _ in 0..8 {
            claims[3].began(Duration::from_millis(10));
        }
        assert_eq!((slots.capacity(), slots.free()), (5, 1));
        let grown = Freed {
            slots: 1,
            held: None,
        };
        assert_eq!(*told.lock().unwrap(), [grown]);
    }

    #[test]
    fn threads_never_hold_more_than_the_capacity_together() {
        let (slots, _) = slots(Capacity::Fixed(3));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(claim) = slots.try_claim(Instant::now()) {
                            assert!(slots.active() <= 3 && claim.concurrency() <= 3);
                        }
                    }
                });
            }
        });
        assert_eq!(slots.active(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Claim,
        Drop(usize),
        Drain(usize),
        Release(usize),
        Resize(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Claim),
            2 => any::<usize>().prop_map(Step::Drop),
            1 => any::<usize>().prop_map(Step::Drain),
            1 => any::<usize>().prop_map(Step::Release),
            1 => (1u32..6).prop_map(Step::Resize),
        ]
    }

    fn take<T>(from: &mut Vec<T>, index: usize) -> Option<T> {
        (!from.is_empty()).then(|| from.swap_remove(index % from.len()))
    }

    proptest! {
        #[test]
        fn no_claim_beyond_the_capacity_and_counters_end_at_zero(steps in prop::collection::vec(step(), 0..80)) {
            let (slots, _) = slots(Capacity::Fixed(3));
            let (mut capacity, mut claims, mut drains) = (3, Vec::new(), Vec::new());
            for step in steps {
                let used = claims.len() + drains.len();
                match step {
                    Step::Claim => {
                        let claim = slots.try_claim(Instant::now());
                        prop_assert_eq!(claim.is_some(), used < capacity as usize);
                        claims.extend(claim);
                    }
                    Step::Drop(at) => drop(take(&mut claims, at)),
                    Step::Drain(at) => drains.extend(take(&mut claims, at).map(Claim::drain)),
                    Step::Release(at) => drop(take(&mut drains, at)),
                    Step::Resize(to) => {
                        capacity = to;
                        slots.set_capacity(Capacity::Fixed(to));
                    }
                }
                prop_assert_eq!(slots.active() as usize, claims.len() + drains.len());
                prop_assert_eq!(slots.draining() as usize, drains.len());
            }
            drop((drains, claims));
            prop_assert_eq!((slots.active(), slots.draining()), (0, 0));
        }
    }
}
