//! Who is next: by priority with aging, then fair between users, then first come first served.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// How urgent a request is.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// As most are.
    #[default]
    Normal,
    /// After all others, though not for ever.
    Low,
}

impl std::str::FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(name: &str) -> Result<Self, UnknownPriority> {
        match name {
            "high" => Ok(Self::High),
            "normal" => Ok(Self::Normal),
            "low" => Ok(Self::Low),
            _ => Err(UnknownPriority),
        }
    }
}

/// Not a priority's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a priority is high, normal or low")]
pub struct UnknownPriority;

impl Priority {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    fn raised(self) -> Self {
        match self {
            Self::Low => Self::Normal,
            Self::High | Self::Normal => Self::High,
        }
    }
}

/// After this many turns of higher priorities a waiter counts as one priority higher. So nobody waits for more than
/// `2 * AGING_TURNS` turns because of higher priorities, raised waiters included: from then on there are none.
pub(crate) const AGING_TURNS: u64 = 32;

/// Where a waiter stands; the least is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) priority: Priority,
    /// Virtual time at which its turn begins: how many turns a user has had who is always served.
    start: u64,
    /// Unique, and ascending as they come.
    pub(super) number: u64,
}

/// A waiter's standing in the order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) key: Key,
    user: u64,
    /// Turns that higher priorities had taken when it came to its present one.
    since: u64,
}

#[derive(Debug, Default)]
struct User {
    waiting: u32,
    /// Start of its latest waiter.
    last: u64,
    /// Virtual time up to which it has been served.
    served: u64,
}

#[cfg(test)]
pub(super) const USER_BYTES: usize = size_of::<(u64, User)>();

/// Start-time fair queueing with turns of equal cost. Each waiter of a user begins one turn after the one before it, and
/// never before the virtual time at which it came; virtual time is the start of the latest turn taken. So a user who comes
/// late is not behind the whole backlog of another, and one who was away saves nothing up: while `n` other users wait in the
/// same priority, its `k`-th waiter has at most `k * n` turns of theirs before it.
#[derive(Debug, Default)]
pub(super) struct Order {
    keys: BTreeSet<Key>,
    /// Of each priority, those that can still be raised, by `since`.
    aging: [BTreeSet<(u64, u64)>; 3],
    /// Turns that were taken by a higher priority than each.
    above: [u64; 3],
    users: HashMap<u64, User>,
    virtual_time: u64,
    next_number: u64,
}

impl Order {
    pub(super) fn enter(&mut self, priority: Priority, user: u64) -> Ticket {
        let number = self.next_number;
        self.next_number += 1;
        let state = self.users.entry(user).or_default();
        let after = if state.waiting > 0 {
            state.last + 1
        } else {
            state.served
        };
        let start = after.max(self.virtual_time);
        state.waiting += 1;
        state.last = start;
        let key = Key {
            priority,
            start,
            number,
        };
        let ticket = Ticket {
            key,
            user,
            since: self.above[priority as usize],
        };
        self.insert(&ticket);
        ticket
    }

    /// The waiter has had its turn.
    pub(super) fn serve(&mut self, ticket: &Ticket) {
        self.remove(ticket);
        for above in &mut self.above[ticket.key.priority as usize + 1..] {
            *above += 1;
        }
        self.virtual_time = self.virtual_time.max(ticket.key.start);
        if let Some(user) = self.users.get_mut(&ticket.user) {
            user.served = user.served.max(ticket.key.start + 1);
        }
        self.forget_if_even(ticket.user);
    }

    /// The waiter has left without a turn. That costs its user nothing, once nobody of it waits any more.
    pub(super) fn leave(&mut self, ticket: &Ticket) {
        self.remove(ticket);
        self.forget_if_even(ticket.user);
    }

    /// The number of a waiter that is due to be raised, with [`Self::raise`].
    pub(super) fn due(&self) -> Option<u64> {
        let oldest = self.aging.iter().zip(&self.above);
        let mut due = oldest.filter_map(|(aging, above)| {
            let (since, number) = aging.first()?;
            (since + AGING_TURNS <= *above).then_some(*number)
        });
        due.next()
    }

    /// Moves a waiter up by one priority.
    pub(super) fn raise(&mut self, ticket: &mut Ticket) {
        self.take_out(ticket);
        ticket.key.priority = ticket.key.priority.raised();
        ticket.since = self.above[ticket.key.priority as usize];
        self.insert(ticket);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// All, first who is next.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    fn insert(&mut self, ticket: &Ticket) {
        self.keys.insert(ticket.key);
        if ticket.key.priority != Priority::High {
            let aging = &mut self.aging[ticket.key.priority as usize];
            aging.insert((ticket.since, ticket.key.number));
        }
    }

    fn take_out(&mut self, ticket: &Ticket) {
        self.keys.remove(&ticket.key);
        let aging = &mut self.aging[ticket.key.priority as usize];
        aging.remove(&(ticket.since, ticket.key.number));
    }

    fn remove(&mut self, ticket: &Ticket) {
        self.take_out(ticket);
        if let Some(user) = self.users.get_mut(&ticket.user) {
            user.waiting = user.waiting.saturating_sub(1);
        }
    }

    /// A user is remembered while it waits, or while it is ahead of the others.
    fn forget_if_even(&mut self, user: u64) {
        let now = self.virtual_time;
        let ahead = |user: &User| user.waiting > 0 || user.served > now;
        if self.users.get(&user).is_some_and(|user| !ahead(user)) {
            self.users.remove(&user);
        }
        // Who does not wait is ahead by one turn at most: that is what forgetting it may give away.
        if self.users.len() > 2 * self.keys.len() + 64 {
            self.users.retain(|_, user| user.waiting > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Serves whoever is next, as the queue does it.
    #[derive(Default)]
    struct Line {
        order: Order,
        tickets: HashMap<u64, Ticket>,
    }

    impl Line {
        fn enter(&mut self, priority: Priority, user: u64) -> u64 {
            let ticket = self.order.enter(priority, user);
            self.tickets.insert(ticket.key.number, ticket);
            ticket.key.number
        }

        fn leave(&mut self, number: u64) {
            let ticket = self.tickets.remove(&number).unwrap();
            self.order.leave(&ticket);
        }

        /// Number and user of who was served.
        fn serve(&mut self) -> (u64, u64) {
            let number = self.order.iter().next().unwrap().number;
            let ticket = self.tickets.remove(&number).unwrap();
            self.order.serve(&ticket);
            while let Some(due) = self.order.due() {
                self.order.raise(self.tickets.get_mut(&due).unwrap());
            }
            (number, ticket.user)
        }

        fn served_before(&mut self, number: u64) -> u64 {
            (0..10_000).find(|_| self.serve().0 == number).unwrap()
        }
    }

    #[test]
    fn higher_priorities_come_first_and_one_user_is_served_in_order() {
        let mut line = Line::default();
        let low = line.enter(Priority::Low, 1);
        let normal = [
            line.enter(Priority::Normal, 1),
            line.enter(Priority::Normal, 1),
        ];
        let high = line.enter(Priority::High, 1);
        let served: Vec<_> = (0..4).map(|_| line.serve().0).collect();
        assert_eq!(served, [high, normal[0], normal[1], low]);
    }

    #[test]
    fn a_user_with_five_waiters_is_not_behind_the_hundred_of_another() {
        let mut line = Line::default();
        for _ in 0..100 {
            line.enter(Priority::Normal, 1);
        }
        for _ in 0..20 {
            line.serve();
        }
        let small: Vec<_> = (0..5).map(|_| line.enter(Priority::Normal, 2)).collect();
        let served: Vec<_> = (0..11).map(|_| line.serve()).collect();
        let of_small: Vec<_> = served.iter().filter(|(_, user)| *user == 2).collect();
        assert_eq!(of_small.len(), 5, "{served:?}");
        assert!(of_small.iter().map(|(number, _)| *number).eq(small));
    }

    #[test]
    fn one_who_was_away_saves_nothing_up_and_one_who_left_is_not_charged() {
        let mut line = Line::default();
        for _ in 0..50 {
            let gone = line.enter(Priority::Normal, 1);
            line.leave(gone);
        }
        for _ in 0..10 {
            line.enter(Priority::Normal, 2);
        }
        let first = line.enter(Priority::Normal, 1);
        assert!(line.served_before(first) <= 1);
        for _ in 0..5 {
            line.serve();
        }
        let late: Vec<_> = (0..4).map(|_| line.enter(Priority::Normal, 3)).collect();
        let last = *late.last().unwrap();
        assert!(
            line.served_before(last) >= 6,
            "turns alternate with user 2's"
        );
    }

    #[test]
    fn users_are_forgotten() {
        let mut line = Line::default();
        for user in 0..10_000 {
            let number = line.enter(Priority::Normal, user);
            if user % 3 == 0 {
                line.leave(number);
            } else {
                line.serve();
            }
        }
        assert!(line.order.users.len() <= 65, "{}", line.order.users.len());
        assert!(line.order.aging.iter().all(BTreeSet::is_empty));
    }

    #[test]
    fn a_flood_of_high_priority_does_not_starve_a_low_one() {
        let mut line = Line::default();
        for user in 0..10 {
            line.enter(Priority::High, user);
        }
        let low = line.enter(Priority::Low, 77);
        let mut turns = 0;
        loop {
            line.enter(Priority::High, 1000 + turns);
            line.enter(Priority::High, 5000 + turns);
            if line.serve().0 == low {
                break;
            }
            turns += 1;
        }
        assert!(turns <= 2 * AGING_TURNS + 10, "{turns}");
        assert!(turns >= 2 * AGING_TURNS, "and yet it was low: {turns}");
    }

    fn priority() -> impl Strategy<Value = Priority> {
        prop::sample::select(Priority::ALL.to_vec())
    }

    proptest! {
        /// Whoever comes with no waiter of the same user before it waits at most for those who are there already,
        /// and for `2 * AGING_TURNS` turns of higher priorities, whatever comes later.
        #[test]
        fn the_wait_of_a_users_first_is_bounded(
            before in prop::collection::vec((priority(), 0u64..6), 0..60),
            mine in priority(),
            later in prop::collection::vec(prop::collection::vec((priority(), 0u64..300), 0..4), 300),
        ) {
            let mut line = Line::default();
            for (priority, user) in &before {
                line.enter(*priority, *user);
            }
            let number = line.enter(mine, 999);
            let bound = before.len() as u64 + 2 * AGING_TURNS;
            let mut turns = 0;
            for new in later {
                for (priority, user) in new {
                    line.enter(priority, user);
                }
                if line.serve().0 == number {
                    break;
                }
                turns += 1;
                prop_assert!(turns <= bound, "{turns} of {bound}");
            }
        }

        /// The bound that the order states.
        #[test]
        fn the_wait_of_a_late_user_is_bounded_by_the_number_of_others(
            backlogs in prop::collection::vec(1u64..60, 1..6),
            served in 0usize..40,
            mine in 1u64..8,
        ) {
            let mut line = Line::default();
            for (user, backlog) in (0..).zip(&backlogs) {
                for _ in 0..*backlog { line.enter(Priority::Normal, user); }
            }
            let all: u64 = backlogs.iter().sum();
            for _ in 0..served.min(usize::try_from(all).unwrap()) { line.serve(); }
            for _ in 0..mine { line.enter(Priority::Normal, 99); }
            let (mut others, mut own) = (0, 0);
            while own < mine {
                if line.serve().1 == 99 {
                    own += 1;
                    let bound = own * backlogs.len() as u64;
                    prop_assert!(others <= bound, "{others} before number {own}, of {bound}");
                } else {
                    others += 1;
                }
            }
        }

        /// Between two users who both wait all the time, in one priority, the turns differ by one at most.
        #[test]
        fn turns_are_even_between_those_who_wait(first in 5usize..100, second in 5usize..100, served in 0usize..4) {
            let mut line = Line::default();
            for _ in 0..first { line.enter(Priority::Normal, 1); }
            for _ in 0..served { line.serve(); }
            for _ in 0..second { line.enter(Priority::Normal, 2); }
            let mut lead = 0i64;
            for _ in 0..2 * (first - served).min(second) {
                lead += if line.serve().1 == 1 { 1 } else { -1 };
                prop_assert!(lead.abs() <= 1, "{lead}");
            }
        }

        #[test]
        fn everybody_is_served_once(entries in prop::collection::vec((priority(), 0u64..5, any::<bool>()), 0..200)) {
            let mut line = Line::default();
            let mut expected = BTreeSet::new();
            for (priority, user, leaves) in entries {
                let number = line.enter(priority, user);
                if leaves { line.leave(number); } else { expected.insert(number); }
            }
            let served: BTreeSet<_> = (0..expected.len()).map(|_| line.serve().0).collect();
            prop_assert_eq!(served, expected);
            prop_assert_eq!(line.order.len(), 0);
            prop_assert!(line.order.users.values().all(|user| user.waiting == 0));
        }
    }
}
