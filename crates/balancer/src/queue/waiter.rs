//! The queue as its users see it, and waiting in it.

use super::{
    board::{Board, Found, Place, Tag, Verdict},
    offer::Offer,
    order::Priority,
};
use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{self, Instant};

/// A waiter is told of its place at most this often, but at once when it begins to wait.
const TOLD_EVERY: Duration = Duration::from_millis(500);

/// What somebody waits for.
pub(crate) struct Entry {
    pub(crate) priority: Priority,
    /// Turns are shared fairly between users.
    pub(crate) user: u64,
    pub(crate) tag: Tag,
    /// When waiting is given up.
    pub(crate) deadline: Instant,
    /// Estimates how long it waits; `None` where nobody wants to be told of the place.
    pub(crate) estimate: Option<Estimate>,
}

/// From the queue to a wait; `None`: nobody can tell.
pub(crate) type Estimate = Box<dyn Fn(&Line<'_>) -> Option<Duration> + Send + Sync>;

/// The queue as somebody who waits in it sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'q> {
    /// Who is ahead, whatever they wait for.
    pub(crate) ahead: usize,
    /// How many wait for each tag.
    pub(crate) waiting: &'q HashMap<Tag, usize>,
    /// How long slots are held, wherever, in the mean: seconds.
    pub(crate) mean_hold: Option<f64>,
}

/// No more may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} requests are waiting already")]
pub(crate) struct QueueFull {
    pub(crate) limit: usize,
}

/// Where requests wait, whatever node they end up at. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    board: Mutex<Board>,
    /// As on the board; read without its lock. Sequentially consistent, like the counters of the slots.
    len: AtomicUsize,
}

impl Shared {
    /// Changes the board, and wakes those for whom that matters once its lock is free again.
    fn with<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let out = change(&mut board);
        self.len.store(board.len(), SeqCst);
        let wakers = board.wakers();
        drop(board);
        for waker in wakers {
            waker.wake();
        }
        out
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Queue");
        out.field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Queue {
    /// At most `limit` wait.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                board: Mutex::new(Board::new(limit)),
                len: AtomicUsize::new(0),
            }),
        }
    }

    /// Begins to wait. The first [`Waiter::turn`] is a try, unless somebody ahead is trying.
    pub(crate) fn enter(&self, entry: Entry) -> Result<Waiter, QueueFull> {
        let Entry {
            priority,
            user,
            tag,
            deadline,
            estimate,
        } = entry;
        let number = self.shared.with(|board| {
            let (limit, tag) = (board.limit(), Arc::clone(&tag));
            board
                .enter(priority, user, tag, deadline, Instant::now())
                .ok_or(QueueFull { limit })
        })?;
        Ok(Waiter {
            shared: Arc::clone(&self.shared),
            number,
            deadline,
            tag,
            estimate,
            trying: false,
            told: None,
            look_at: Instant::now(),
            seen: None,
        })
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.shared.len.load(SeqCst)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait for each tag.
    pub(crate) fn by_tag(&self) -> HashMap<Tag, usize> {
        self.shared.with(|board| board.tags().clone())
    }

    #[cfg(test)]
    /// How many wait for `tag`.
    pub(crate) fn waiting_for(&self, tag: &str) -> usize {
        if self.is_empty() {
            return 0;
        }
        self.shared
            .with(|board| board.tags().get(tag).copied().unwrap_or(0))
    }

    /// Something was freed or has changed that may be of use to those whose tag passes `suits`. The first of them gets its
    /// turn; when it has taken what it needs, the next, as long as `suits` still says so. It is asked anew each time, and is
    /// to look at what is free by then: so nobody is woken for what another has taken, wherever that one took it from.
    /// `suits` is called with the queue locked: it must not use the queue, nor drop a claim.
    pub(crate) fn wake_for(&self, suits: impl Fn(&str) -> bool + Send + Sync + 'static) {
        if !self.is_empty() {
            let offer = Offer::new(Some(Arc::new(suits)));
            self.shared.with(|board| board.offer(offer, Instant::now()));
        }
    }

    /// Something has changed that may be of use to anybody. All take turns until there is nothing left for their tag.
    pub(crate) fn wake(&self) {
        if !self.is_empty() {
            let offer = Offer::new(None);
            self.shared.with(|board| board.offer(offer, Instant::now()));
        }
    }

    /// A slot was held for so long: for the estimates.
    pub(crate) fn held(&self, held: Duration) {
        self.shared.with(|board| board.held(held));
    }

    /// A moving mean of how long slots are held.
    pub(crate) fn mean_hold(&self) -> Option<Duration> {
        let mean = self.shared.with(|board| board.mean_hold());
        mean.and_then(|mean| Duration::try_from_secs_f64(mean).ok())
    }

    #[cfg(test)]
    /// From now on at most `limit` wait; those who are more already stay.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.shared.with(|board| board.set_limit(limit));
    }
}

/// What waiting has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There may be something to claim. To be answered at once, without awaiting anything else, by
    /// [`Waiter::took`], [`Waiter::lost`] or [`Waiter::pass`]; asking for the next turn means that it was lost.
    Try,
    /// The place has changed; the first such tells it. At most twice a second, and only where waits are estimated.
    Moved(Place),
    /// The deadline has passed; it is off the queue.
    Late,
}

/// A place in the queue. Dropping it leaves the queue and passes the turn on.
pub(crate) struct Waiter {
    shared: Arc<Shared>,
    number: u64,
    deadline: Instant,
    #[cfg_attr(not(test), expect(dead_code, reason = "seen by tests"))]
    tag: Tag,
    estimate: Option<Estimate>,
    trying: bool,
    told: Option<Place>,
    look_at: Instant,
    /// The board's version when this one last looked.
    seen: Option<u64>,
}

impl Waiter {
    /// Waits for the next thing to know. Cancel safe.
    pub(crate) async fn turn(&mut self) -> Turn {
        if self.trying {
            self.lost();
        }
        loop {
            let look_at = self.estimate.as_ref().map(|_| self.look_at);
            let alarm = look_at.map_or(self.deadline, |at| at.min(self.deadline));
            let mut alarm = pin!(time::sleep_until(alarm));
            let found = poll_fn(|context| {
                let found = self.find(context);
                if found != Found::Waiting {
                    return Poll::Ready(found);
                }
                alarm.as_mut().poll(context).map(|()| Found::Waiting)
            });
            match found.await {
                Found::Turn => {
                    self.trying = true;
                    return Turn::Try;
                }
                Found::Gone => return Turn::Late,
                Found::Waiting => {}
            }
            if self.estimate.is_some()
                && let Some(place) = self.look()
            {
                return Turn::Moved(place);
            }
        }
    }

    /// It has claimed what it needs, and leaves. The next is asked if there is more.
    pub(crate) fn took(self) {
        self.resolve(Verdict::Took);
    }

    /// There was nothing to claim for its tag: those with another tag are asked. It keeps its place.
    pub(crate) fn lost(&mut self) {
        self.trying = false;
        self.resolve(Verdict::Lost);
    }

    /// It waits for something better than what is free: the next is asked. It keeps its place.
    pub(crate) fn pass(&mut self) {
        self.trying = false;
        self.resolve(Verdict::Passed);
    }

    #[cfg(test)]
    /// What it waits for.
    pub(crate) fn tag(&self) -> Tag {
        Arc::clone(&self.tag)
    }

    /// Where it stands now.
    pub(crate) fn place(&self) -> Place {
        let (ahead, mean_hold, waiting) = self.shared.with(|board| {
            let ahead = board.ahead(self.number, Instant::now());
            (ahead, board.mean_hold(), board.tags().clone())
        });
        let line = Line {
            ahead,
            waiting: &waiting,
            mean_hold,
        };
        let eta = self.estimate.as_ref().and_then(|estimate| estimate(&line));
        Place { ahead, eta }
    }

    fn find(&self, context: &mut Context<'_>) -> Found {
        let now = Instant::now();
        self.shared
            .with(|board| board.find(self.number, now, context.waker()))
    }

    /// Its place, if that is news.
    fn look(&mut self) -> Option<Place> {
        self.look_at = Instant::now() + TOLD_EVERY;
        let version = self.shared.with(|board| board.version());
        if self.seen.replace(version) == Some(version) {
            return None;
        }
        let place = self.place();
        let seconds = |place: Place| place.eta.map(|eta| eta.as_secs());
        let same = |told: Place| told.ahead == place.ahead && seconds(told) == seconds(place);
        if self.told.is_some_and(same) {
            return None;
        }
        self.told = Some(place);
        Some(place)
    }

    fn resolve(&self, verdict: Verdict) {
        let now = Instant::now();
        self.shared
            .with(|board| board.resolve(self.number, verdict, now));
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("number", &self.number)
            .field("deadline", &self.deadline)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let now = Instant::now();
        self.shared.with(|board| board.leave(self.number, now));
    }
}
