//! All waiters, and the offers that go round among them. Pure: time is passed in.

use super::{
    offer::Offer,
    order::{Key, Order, Priority, Ticket},
};
use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// What a waiter needs: a model's name.
pub(crate) type Tag = Arc<str>;

/// Where a waiter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// How many are ahead, whatever they wait for.
    pub(crate) ahead: usize,
    /// Estimated wait; known once any slot has been let go and while a node could serve this.
    pub(crate) eta: Option<Duration>,
}

/// An offer that nobody took up for so long goes on to the next: its waiter's task is stuck, behind a client that
/// does not read for instance.
const PATIENCE: Duration = Duration::from_secs(1);
/// More offers than this that could not be placed yet are replaced by one that suits everybody.
const MOST_PARKED: usize = 32;
/// Ranks of a long queue are computed at most this often.
const RANKS_EVERY: Duration = Duration::from_millis(200);
const SHORT: usize = 64;

#[derive(Debug)]
enum Standing {
    /// May be offered something.
    Ready,
    /// Has its turn. `None`: a newcomer's first try, which nobody else gets.
    Offered {
        offer: Option<Offer>,
        since: Instant,
    },
    /// Did not take up an offer, and gets no other until it asks again.
    Asleep,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    tag: Tag,
    deadline: Instant,
    standing: Standing,
    waker: Option<Waker>,
    rank: usize,
}

/// What a waiter takes on the board, in bytes, with all indexes but without what their tables leave unused.
#[cfg(test)]
pub(super) const ENTRY_BYTES: usize = size_of::<(u64, Entry)>()
    + 3 * size_of::<Key>()
    + 2 * size_of::<(Instant, u64)>()
    + super::order::USER_BYTES;

/// What a waiter said about its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has what it needs and leaves.
    Took,
    /// There is nothing for its tag any more.
    Lost,
    /// There is something, but this one waits for better.
    Passed,
}

/// What a waiter finds when it asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its turn.
    Turn,
    /// It is not in the queue any more: its deadline has passed.
    Gone,
    Waiting,
}

/// Invariants: an entry is in `ready` exactly while its standing is `Ready`, and in `offered` exactly while that is `Offered`;
/// `fresh` is a part of what is ready. An offer is with one waiter, parked, or spent.
#[derive(Debug)]
pub(super) struct Board {
    limit: usize,
    order: Order,
    entries: HashMap<u64, Entry>,
    ready: HashMap<Tag, BTreeSet<Key>>,
    /// Newcomers who have not tried yet. Without a first try, one who comes just after a slot was freed would not know.
    fresh: BTreeSet<Key>,
    deadlines: BTreeSet<(Instant, u64)>,
    offered: Vec<u64>,
    /// Offers that suit only waiters who have another one in hand.
    parked: Vec<Offer>,
    tags: HashMap<Tag, usize>,
    mean_hold: Option<f64>,
    /// Counts changes of the order and of the estimate.
    version: u64,
    ranked: Option<(u64, Instant)>,
    wakers: Vec<Waker>,
}

impl Board {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            order: Order::default(),
            entries: HashMap::new(),
            ready: HashMap::new(),
            fresh: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            offered: Vec::new(),
            parked: Vec::new(),
            tags: HashMap::new(),
            mean_hold: None,
            version: 0,
            ranked: None,
            wakers: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    #[cfg(test)]
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn tags(&self) -> &HashMap<Tag, usize> {
        &self.tags
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Those to be woken, after the lock has been let go.
    pub(super) fn wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// `None`: no more may wait.
    pub(super) fn enter(
        &mut self,
        priority: Priority,
        user: u64,
        tag: Tag,
        deadline: Instant,
        now: Instant,
    ) -> Option<u64> {
        self.expire(now);
        if self.entries.len() >= self.limit {
            return None;
        }
        let ticket = self.order.enter(priority, user);
        let number = ticket.key.number;
        let rank = self.entries.len();
        *self.tags.entry(Arc::clone(&tag)).or_default() += 1;
        self.ready
            .entry(Arc::clone(&tag))
            .or_default()
            .insert(ticket.key);
        self.fresh.insert(ticket.key);
        self.deadlines.insert((deadline, number));
        let entry = Entry {
            ticket,
            tag,
            deadline,
            standing: Standing::Ready,
            waker: None,
            rank,
        };
        self.entries.insert(number, entry);
        self.version += 1;
        self.advance(now);
        Some(number)
    }

    pub(super) fn offer(&mut self, offer: Offer, now: Instant) {
        self.place(offer, now);
        self.advance(now);
    }

    /// A slot was held for so long.
    pub(super) fn held(&mut self, held: Duration) {
        let held = held.as_secs_f64();
        self.mean_hold = Some(
            self.mean_hold
                .map_or(held, |mean| mean + 0.1 * (held - mean)),
        );
        self.version += 1;
    }

    pub(super) fn mean_hold(&self) -> Option<f64> {
        self.mean_hold
    }

    /// What waiter `number` finds now. It is woken by `waker` when that has changed.
    pub(super) fn find(&mut self, number: u64, now: Instant, waker: &Waker) -> Found {
        if let Some(entry) = self.entries.get_mut(&number)
            && matches!(entry.standing, Standing::Asleep)
        {
            let key = entry.ticket.key;
            entry.standing = Standing::Ready;
            let tag = Arc::clone(&entry.tag);
            self.ready.entry(tag).or_default().insert(key);
            self.fresh.insert(key);
        }
        self.advance(now);
        let Some(entry) = self.entries.get_mut(&number) else {
            return Found::Gone;
        };
        if let Standing::Offered { since, .. } = &mut entry.standing {
            *since = now;
            return Found::Turn;
        }
        if entry.deadline <= now {
            self.remove(number, false, now);
            return Found::Gone;
        }
        match &mut entry.waker {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        Found::Waiting
    }

    /// What waiter `number` has to say about its turn, if it still has it.
    pub(super) fn resolve(&mut self, number: u64, verdict: Verdict, now: Instant) {
        if verdict == Verdict::Took {
            self.remove(number, true, now);
            return;
        }
        let offer = self.take_back(number, false);
        if let (Some(mut offer), Some(entry)) = (offer, self.entries.get(&number)) {
            match verdict {
                Verdict::Lost => offer.spent.push(Arc::clone(&entry.tag)),
                Verdict::Took | Verdict::Passed => offer.after = Some(entry.ticket.key),
            }
            self.place(offer, now);
        }
        self.advance(now);
    }

    /// Waiter `number` leaves; what it had in hand goes to the next.
    pub(super) fn leave(&mut self, number: u64, now: Instant) {
        self.remove(number, false, now);
    }

    /// How many are ahead of `number`. In a long queue this is up to a fifth of a second old.
    pub(super) fn ahead(&mut self, number: u64, now: Instant) -> usize {
        let due = self.ranked.is_none_or(|(version, at)| {
            version != self.version && (self.entries.len() <= SHORT || now >= at + RANKS_EVERY)
        });
        if due {
            for (rank, key) in self.order.iter().enumerate() {
                if let Some(entry) = self.entries.get_mut(&key.number) {
                    entry.rank = rank;
                }
            }
            self.ranked = Some((self.version, now));
        }
        self.entries.get(&number).map_or(0, |entry| entry.rank)
    }

    fn remove(&mut self, number: u64, served: bool, now: Instant) {
        let offer = self.take_back(number, false);
        let Some(entry) = self.forget(number) else {
            return;
        };
        if served {
            self.order.serve(&entry.ticket);
            self.raise_due();
        } else {
            self.order.leave(&entry.ticket);
        }
        if let Some(mut offer) = offer {
            if served {
                // Who passed may think otherwise now that less is free.
                offer.after = None;
            }
            self.place(offer, now);
        }
        self.advance(now);
    }

    /// Takes a waiter who has nothing in hand from everything but the order.
    fn forget(&mut self, number: u64) -> Option<Entry> {
        let mut entry = self.entries.remove(&number)?;
        self.unready(&entry.tag, &entry.ticket.key);
        self.deadlines.remove(&(entry.deadline, number));
        if let Some(count) = self.tags.get_mut(&entry.tag) {
            *count -= 1;
            if *count == 0 {
                self.tags.remove(&entry.tag);
            }
        }
        self.wakers.extend(entry.waker.take());
        self.version += 1;
        Some(entry)
    }

    /// Removes those whose deadline has passed and who have nothing in hand.
    fn expire(&mut self, now: Instant) {
        let late = self.deadlines.range(..=(now, u64::MAX));
        let late = late.map(|(_, number)| *number);
        let late: Vec<_> = late.filter(|n| !self.offered.contains(n)).collect();
        for number in late {
            if let Some(entry) = self.forget(number) {
                self.order.leave(&entry.ticket);
            }
        }
    }

    fn raise_due(&mut self) {
        while let Some(number) = self.order.due() {
            let Some(entry) = self.entries.get_mut(&number) else {
                debug_assert!(false, "the order knows a waiter that the board does not");
                return;
            };
            let before = entry.ticket.key;
            self.order.raise(&mut entry.ticket);
            let after = entry.ticket.key;
            let ready = self.ready.get_mut(&entry.tag);
            if ready.is_some_and(|ready| ready.remove(&before) && ready.insert(after)) {
                // An offer on its way may have gone by the new place already: let it try for itself.
                let tried = !self.fresh.remove(&before);
                if !tried || !self.offered.is_empty() || !self.parked.is_empty() {
                    self.fresh.insert(after);
                }
            }
        }
    }

    /// Takes its turn from a waiter, which then is ready again, or asleep. What it had in hand goes back
    /// to the caller; a first try is nobody else's.
    fn take_back(&mut self, number: u64, asleep: bool) -> Option<Offer> {
        let at = self.offered.iter().position(|other| *other == number)?;
        self.offered.swap_remove(at);
        let entry = self.entries.get_mut(&number)?;
        let next = if asleep {
            Standing::Asleep
        } else {
            let tag = Arc::clone(&entry.tag);
            self.ready.entry(tag).or_default().insert(entry.ticket.key);
            Standing::Ready
        };
        match std::mem::replace(&mut entry.standing, next) {
            Standing::Offered { offer, .. } => offer,
            Standing::Ready | Standing::Asleep => None,
        }
    }

    fn unready(&mut self, tag: &Tag, key: &Key) {
        self.fresh.remove(key);
        if let Some(ready) = self.ready.get_mut(tag) {
            ready.remove(key);
            if ready.is_empty() {
                self.ready.remove(tag);
            }
        }
    }

    fn give(&mut self, number: u64, offer: Option<Offer>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.standing = Standing::Offered { offer, since: now };
        self.wakers.extend(entry.waker.take());
        let (tag, key) = (Arc::clone(&entry.tag), entry.ticket.key);
        self.unready(&tag, &key);
        self.offered.push(number);
    }

    /// Hands the offer to the first whom it suits and who has nothing in hand.
    fn place(&mut self, offer: Offer, now: Instant) {
        self.expire(now);
        let from = offer.after.map_or(Bound::Unbounded, Bound::Excluded);
        let suited = self.ready.iter().filter(|(tag, _)| offer.suits(tag));
        let firsts = suited.filter_map(|(_, keys)| keys.range((from, Bound::Unbounded)).next());
        if let Some(number) = firsts.min().map(|key| key.number) {
            self.give(number, Some(offer), now);
            return;
        }
        let mut in_hand = self.offered.iter().filter_map(|n| self.entries.get(n));
        if in_hand.any(|entry| offer.suits(&entry.tag)) {
            self.park(offer);
        }
    }

    fn park(&mut self, offer: Offer) {
        if self.parked.len() >= MOST_PARKED {
            self.parked.clear();
            self.parked.push(Offer::new(None));
        } else {
            self.parked.push(offer);
        }
    }

    /// Moves everything on that can be: offers nobody took up, parked ones, first tries.
    fn advance(&mut self, now: Instant) {
        let stale = |n: &&u64| {
            let standing = self.entries.get(n).map(|entry| &entry.standing);
            matches!(standing, Some(Standing::Offered { since, .. }) if *since + PATIENCE <= now)
        };
        let stale: Vec<_> = self.offered.iter().filter(stale).copied().collect();
        for number in stale {
            if let Some(offer) = self.take_back(number, true) {
                self.place(offer, now);
            }
        }
        for offer in std::mem::take(&mut self.parked) {
            self.place(offer, now);
        }
        while let Some(key) = self.fresh.first().copied() {
            let mut in_hand = self.offered.iter().filter_map(|n| self.entries.get(n));
            // Who is ahead decides first whether there is anything left.
            if in_hand.any(|entry| entry.ticket.key < key) {
                return;
            }
            self.give(key.number, None, now);
        }
    }
}
