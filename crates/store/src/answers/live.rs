//! What readers in this process share of one answer: its text as far as it may be shown, and how it stands.

use super::{AnswerEvent, QueuePlace};
use jarvis_domain::{
    Epoch, GenerationId, Outcome,
    durable::{Bases, Entry, Logged},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::{Notify, watch};

/// Why nothing more will come.
#[derive(Debug, Clone)]
enum Over {
    Ended(Outcome),
    /// The log cannot be read on.
    Away,
}

#[derive(Debug, Default)]
struct Shown {
    logged: Logged,
    bases: Bases,
    /// In the queue for a node, while there is no text.
    place: Option<QueuePlace>,
    over: Option<Over>,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Live {
    shown: RwLock<Shown>,
    /// `shown` has changed.
    changed: Notify,
    /// Counts those who read it.
    readers: watch::Sender<()>,
}

impl Live {
    pub(super) fn new(bases: Bases, text: String) -> Arc<Self> {
        let shown = Shown {
            logged: Logged {
                text,
                ..Logged::default()
            },
            bases,
            ..Shown::default()
        };
        Arc::new(Self {
            shown: RwLock::new(shown),
            changed: Notify::new(),
            readers: watch::Sender::default(),
        })
    }

    /// Bytes that may be shown.
    pub(super) fn len(&self) -> usize {
        self.shown().logged.text.len()
    }

    /// The text that may be shown.
    pub(super) fn text(&self) -> String {
        self.shown().logged.text.clone()
    }

    /// Looks at the text without taking it away.
    pub(super) fn with_text<T>(&self, look: impl FnOnce(&str) -> T) -> T {
        look(&self.shown().logged.text)
    }

    /// Shows more.
    pub(super) fn push(&self, text: &str) {
        let mut shown = self.shown_mut();
        shown.logged.text.push_str(text);
        self.moved(shown);
    }

    /// Takes in an entry of the log; false if something is missing before it.
    pub(super) fn add(&self, entry: Entry) -> bool {
        let mut guard = self.shown_mut();
        let shown = &mut *guard;
        let (before, offset) = (shown.logged.text.len(), entry.offset);
        let mut moved = false;
        if entry.epoch > shown.logged.epoch {
            // What it writes first may lie before its base: there the log missed an owner.
            let right = entry.base.min(offset);
            moved = right < before;
            shown.bases = std::mem::take(&mut shown.bases).with(entry.epoch, right);
        }
        shown.logged.add(entry);
        let after = shown.logged.text.len();
        let whole = offset <= after;
        if moved || after != before {
            self.moved(guard);
        }
        whole
    }

    pub(super) fn queued(&self, place: QueuePlace) {
        self.shown_mut().place = Some(place);
        self.changed.notify_waiters();
    }

    /// It has ended; the first end that is told stands.
    pub(super) fn end(&self, outcome: Outcome) {
        self.over(Over::Ended(outcome));
    }

    /// The log cannot be read on.
    pub(super) fn away(&self) {
        self.over(Over::Away);
    }

    fn over(&self, over: Over) {
        self.shown_mut().over.get_or_insert(over);
        self.changed.notify_waiters();
    }

    /// How it ended, as readers are told.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match &self.shown().over {
            Some(Over::Ended(outcome)) => Some(outcome.clone()),
            Some(Over::Away) | None => None,
        }
    }

    /// Whether nothing more will come from here.
    pub(super) fn is_over(&self) -> bool {
        self.shown().over.is_some()
    }

    /// Returns when nobody reads it any more.
    pub(super) async fn unread(&self) {
        self.readers.closed().await;
    }

    /// Whether somebody reads it.
    pub(super) fn is_read(&self) -> bool {
        self.readers.receiver_count() > 0
    }

    /// A reader from byte `offset` on, or from the nearest character's beginning before it.
    pub(super) fn reader(self: &Arc<Self>, offset: usize) -> AnswerReader {
        let mut reader = AnswerReader {
            live: Arc::clone(self),
            _counted: self.readers.subscribe(),
            mark: Mark::default(),
        };
        reader.seek(offset);
        reader
    }

    /// There is more text, or another one.
    fn moved(&self, mut shown: RwLockWriteGuard<'_, Shown>) {
        shown.place = None;
        drop(shown);
        self.changed.notify_waiters();
    }

    fn shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown_mut(&self) -> RwLockWriteGuard<'_, Shown> {
        self.shown.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers that this process makes.
#[derive(Debug, Default)]
pub(super) struct Lives(Mutex<HashMap<GenerationId, Arc<Live>>>);

impl Lives {
    pub(super) fn get(&self, id: GenerationId) -> Option<Arc<Live>> {
        self.all().get(&id).cloned()
    }

    pub(super) fn put(&self, id: GenerationId, live: &Arc<Live>) {
        self.all().insert(id, Arc::clone(live));
    }

    /// Forgets it, unless another writer has taken its place.
    pub(super) fn remove(&self, id: GenerationId, live: &Arc<Live>) {
        let mut all = self.all();
        if all.get(&id).is_some_and(|entry| Arc::ptr_eq(entry, live)) {
            all.remove(&id);
        }
    }

    pub(super) fn count(&self) -> usize {
        self.all().len()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<GenerationId, Arc<Live>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader of an answer, at its own offset.
#[derive(Debug)]
pub struct AnswerReader {
    live: Arc<Live>,
    _counted: watch::Receiver<()>,
    mark: Mark,
}

/// How far a reader has come.
#[derive(Debug, Default)]
struct Mark {
    offset: usize,
    /// Of the owner who had the answer when `offset` was reached.
    epoch: Epoch,
    place: Option<QueuePlace>,
    ended: bool,
}

impl AnswerReader {
    /// The epoch of the owner up to whose text this reader has come.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.mark.epoch
    }

    /// Where the owners began, as far as it is known here.
    #[must_use]
    pub fn bases(&self) -> Bases {
        self.live.shown().bases.clone()
    }

    /// The byte offset of what comes next.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.mark.offset
    }

    /// The bytes of the text so far.
    #[must_use]
    pub fn reaches(&self) -> usize {
        self.live.len()
    }

    /// The whole text so far; what comes next is what follows it.
    pub fn whole(&mut self) -> String {
        let shown = self.live.shown();
        self.mark.come(&shown, shown.logged.text.len());
        shown.logged.text.clone()
    }

    /// What comes next: everything that has arrived since, at once; `None` after the end. Cancel safe.
    pub async fn next(&mut self) -> Option<AnswerEvent> {
        let Self { live, mark, .. } = self;
        while !mark.ended {
            // It hears of every change from here on.
            let changed = live.changed.notified();
            if let Some(event) = mark.look(&live.shown()) {
                return Some(event);
            }
            changed.await;
        }
        None
    }

    pub(super) fn seek(&mut self, offset: usize) {
        let shown = self.live.shown();
        let offset = shown.logged.text.floor_char_boundary(offset);
        self.mark.come(&shown, offset);
    }
}

impl Mark {
    fn come(&mut self, shown: &Shown, offset: usize) {
        self.epoch = shown.bases.epoch();
        self.offset = offset;
    }

    /// What is new. Text comes before the end.
    fn look(&mut self, shown: &Shown) -> Option<AnswerEvent> {
        if let Some(text) = self.unsaid(shown) {
            return Some(text);
        }
        if let Some(over) = &shown.over {
            self.ended = true;
            return Some(match over {
                Over::Ended(outcome) => AnswerEvent::End(outcome.clone()),
                Over::Away => AnswerEvent::Away,
            });
        }
        let place = shown.place.filter(|place| self.place != Some(*place))?;
        self.place = Some(place);
        Some(AnswerEvent::Queued(place))
    }

    fn unsaid(&mut self, shown: &Shown) -> Option<AnswerEvent> {
        let (epoch, offset) = (self.epoch, self.offset);
        self.come(shown, shown.logged.text.len());
        if shown.bases.agreed(epoch, offset) < offset {
            let text = shown.logged.text.clone();
            return Some(AnswerEvent::Resync { text });
        }
        let text = shown.logged.text[offset..].to_owned();
        (!text.is_empty()).then_some(AnswerEvent::Text { offset, text })
    }
}
