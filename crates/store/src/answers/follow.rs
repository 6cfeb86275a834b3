//! Following an answer that another instance makes.
//!
//! However many read it here, one task follows the stream. Hints say that there is more; what there is, is read from the
//! stream, after the last entry that is known, also when no hint came for a second: hints may be lost.

use super::{
    AnswerReader, LogError, QueuePlace,
    live::Live,
    stream::{Entry, EntryId, Said, Streams},
};
use crate::shared::{Listening, RedisFault, Scope};
use jarvis_domain::{GenerationId, durable::Bases};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// After this long without a hint one looks all the same.
const TICK: Duration = Duration::from_secs(1);
/// Hints kept: more of them say no more.
const HINTS: usize = 16;
/// Ticks after which a decided end that is not shown is looked for in SQL.
const UNSHOWN: u32 = 2;

/// What those who want to read wait for.
#[derive(Debug, Clone)]
enum State {
    /// The stream is being looked for.
    Opening,
    /// Its text is here.
    Open,
    /// There is no stream.
    Absent,
    Away(RedisFault),
    /// Nobody read it; it is being let go.
    Closing,
}

impl State {
    /// Whether this follow is of no use to those who come now.
    fn is_past(&self) -> bool {
        !matches!(self, Self::Opening | Self::Open)
    }
}

#[derive(Debug)]
struct Follow {
    live: Arc<Live>,
    /// Its last value is what it found, for those who waited for that.
    state: watch::Sender<State>,
    /// It listens no more: another one may follow.
    gone: CancellationToken,
}

/// What is followed here.
#[derive(Debug, Default)]
pub(super) struct Follows(Mutex<HashMap<GenerationId, Arc<Follow>>>);

impl Follows {
    fn all(&self) -> MutexGuard<'_, HashMap<GenerationId, Arc<Follow>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams {
    /// A reader of an answer that is made elsewhere; `None` where there is no stream.
    pub(super) async fn reader(
        self: &Arc<Self>,
        id: GenerationId,
        offset: usize,
    ) -> Result<Option<AnswerReader>, LogError> {
        loop {
            let (mut reader, follow) = self.follow(id);
            let mut state = follow.state.subscribe();
            if state.borrow().is_past() {
                // What it found was true then.
                follow.gone.cancelled().await;
                continue;
            }
            let settled = state.wait_for(|state| !matches!(state, State::Opening));
            let settled = settled.await.map(|state| state.clone());
            match settled {
                Ok(State::Open) => {
                    reader.seek(offset);
                    return Ok(Some(reader));
                }
                Ok(State::Absent) => return Ok(None),
                Ok(State::Away(fault)) => return Err(fault.into()),
                Ok(State::Opening | State::Closing) | Err(_) => {}
            }
        }
    }

    /// A reader of what is followed already or from now on.
    fn follow(self: &Arc<Self>, id: GenerationId) -> (AnswerReader, Arc<Follow>) {
        let mut follows = self.follows.all();
        let follow = follows.entry(id).or_insert_with(|| {
            let follow = Arc::new(Follow {
                live: Live::new(Bases::default(), String::new()),
                state: watch::Sender::new(State::Opening),
                gone: CancellationToken::new(),
            });
            let task = run(Arc::clone(self), id, Arc::clone(&follow));
            self.redis.tasks().spawn(task);
            follow
        });
        (follow.live.reader(0), Arc::clone(follow))
    }

    /// Lets an answer go that nobody reads; false if somebody does.
    fn close(&self, follow: &Follow) -> bool {
        // Under the lock, where readers begin.
        let _follows = self.follows.all();
        let unread = !follow.live.is_read();
        if unread {
            follow.state.send_replace(State::Closing);
        }
        unread
    }
}

async fn run(streams: Arc<Streams>, id: GenerationId, follow: Arc<Follow>) {
    let key = streams.key(id);
    let mut hints = streams.redis.listen(key.clone(), Scope::Shard, HINTS);
    let end = tokio::select! {
        end = keep_up(&streams, &key, &follow, &mut hints) => end,
        () = streams.redis.closed() => Some(State::Away(RedisFault::Unserved)),
    };
    if let Some(end) = end {
        follow.state.send_replace(end);
        follow.live.away();
    }
    hints.end().await;
    streams.follows.all().remove(&id);
    follow.gone.cancel();
}

/// Follows until the stream cannot be read on, or (`None`) until nobody reads it.
async fn keep_up(
    streams: &Streams,
    key: &str,
    follow: &Follow,
    hints: &mut Listening,
) -> Option<State> {
    let mut place = Place::default();
    loop {
        // Before one reads, so that what is written meanwhile is hinted at. Without it there is still the tick.
        if !follow.live.is_over() {
            let _ = hints.renew().await;
            if let Err(end) = place.catch_up(streams, key, &follow.live).await {
                return Some(end);
            }
            follow.state.send_if_modified(|state| {
                let opening = matches!(state, State::Opening);
                if opening {
                    *state = State::Open;
                }
                opening
            });
        }
        tokio::select! {
            () = follow.live.unread() => {
                if streams.close(follow) {
                    return None;
                }
            }
            hint = hints.heard.recv() => {
                if let Ok(hint) = hint {
                    tell_place(&hint, &follow.live);
                }
                while let Ok(hint) = hints.heard.try_recv() {
                    tell_place(&hint, &follow.live);
                }
            }
            () = sleep(TICK) => place.ticked(&follow.live),
        }
    }
}

/// How far a stream has been read.
#[derive(Default)]
struct Place {
    last: EntryId,
    /// Ticks since an end was decided that nobody has shown.
    unshown: Option<u32>,
}

impl Place {
    async fn catch_up(&mut self, streams: &Streams, key: &str, live: &Live) -> Result<(), State> {
        let mut hole = false;
        loop {
            let page = streams.page(key, self.last).await.map_err(State::Away)?;
            if !page.exists {
                return Err(State::Absent);
            }
            let more = page.is_full();
            for entry in page.entries {
                hole = self.take(entry, live, hole);
            }
            if !more {
                break;
            }
        }
        if hole { Err(State::Absent) } else { Ok(()) }
    }

    /// Whether something is missing then before what comes next.
    fn take(&mut self, entry: Entry, live: &Live, hole: bool) -> bool {
        self.last = entry.id;
        match entry.said {
            Said::Mine => hole,
            Said::Shown(outcome) => {
                live.end(outcome);
                hole
            }
            Said::Part(part) => {
                if part.end.is_some() {
                    self.unshown = Some(0);
                }
                !live.add(part)
            }
        }
    }

    /// Whoever decided the end may be gone, and SQL may have it.
    fn ticked(&mut self, live: &Live) {
        if let Some(ticks) = &mut self.unshown {
            *ticks += 1;
            if *ticks >= UNSHOWN {
                live.away();
            }
        }
    }
}

/// `q <position> [<milliseconds>]`, or the number of an entry.
pub(super) fn place_hint(place: QueuePlace) -> String {
    let eta = place.eta_ms.map(|eta| format!(" {eta}"));
    format!("q {}{}", place.position, eta.unwrap_or_default())
}

fn tell_place(hint: &[u8], live: &Live) {
    let read = || {
        let mut words = std::str::from_utf8(hint)
            .ok()?
            .strip_prefix("q ")?
            .split(' ');
        let position = words.next()?.parse().ok()?;
        let eta_ms = words.next().map(str::parse).transpose().ok()?;
        Some(QueuePlace { position, eta_ms })
    };
    if let Some(place) = read() {
        live.queued(place);
    }
}
