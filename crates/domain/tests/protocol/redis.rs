//! One Redis master: streams whose newest second may vanish with it, and scripts that vanish for certain.

use crate::world::{Gen, Plant};
use jarvis_domain::{Epoch, durable::Entry};
use std::collections::BTreeMap;

/// `<epoch>-<n>`.
pub(crate) type Id = (Epoch, u64);

#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Load the script, put a marker, read all.
    TakeUp {
        id: Gen,
        at: Id,
    },
    Append {
        id: Gen,
        at: Id,
        /// Of the run of the server in which the script was loaded.
        run: u64,
        entry: Entry,
    },
    Read {
        id: Gen,
        after: Id,
    },
}

#[derive(Debug, Clone)]
pub(crate) enum Told {
    TakenUp {
        run: u64,
        entries: Vec<(Id, Entry)>,
    },
    Appended,
    /// Another run of the server.
    Restarted,
    /// A newer entry is there.
    Fenced,
    Read(Vec<(Id, Entry)>),
}

struct Stored {
    id: Id,
    /// None of a marker.
    entry: Option<Entry>,
    at: u64,
}

#[derive(Default)]
pub(crate) struct Redis {
    pub(crate) up: bool,
    pub(crate) run: u64,
    logs: BTreeMap<Gen, Vec<Stored>>,
}

impl Redis {
    pub(crate) fn answer(&mut self, now: u64, ask: Ask, plant: Plant) -> Told {
        match ask {
            Ask::TakeUp { id, at } => {
                let log = self.logs.entry(id).or_default();
                if is_late(log, at, plant) {
                    return Told::Fenced;
                }
                log.push(Stored {
                    id: at,
                    entry: None,
                    at: now,
                });
                let (run, entries) = (self.run, entries(log, (0, 0)));
                Told::TakenUp { run, entries }
            }
            Ask::Append { id, at, run, entry } => {
                if run != self.run && plant != Plant::PlainAppend {
                    return Told::Restarted;
                }
                let log = self.logs.entry(id).or_default();
                if is_late(log, at, plant) {
                    return Told::Fenced;
                }
                log.push(Stored {
                    id: at,
                    entry: Some(entry),
                    at: now,
                });
                Told::Appended
            }
            Ask::Read { id, after } => {
                let log = self.logs.get(&id).map_or(&[][..], Vec::as_slice);
                Told::Read(entries(log, after))
            }
        }
    }

    /// Dies, and loses what came after `kept_until`: per answer, how far the lost text went.
    pub(crate) fn crash(&mut self, kept_until: u64) -> Vec<(Gen, usize)> {
        self.up = false;
        self.run += 1;
        let mut lost = Vec::new();
        for (id, log) in &mut self.logs {
            let gone = log.extract_if(.., |stored| stored.at > kept_until);
            let to = gone.filter_map(|stored| Some(end_of(&stored.entry?))).max();
            lost.extend(to.map(|to| (*id, to)));
        }
        lost
    }

    /// How far the text of a log goes.
    pub(crate) fn reaches(&self, id: Gen) -> usize {
        let log = self.logs.get(&id);
        let ends = log.into_iter().flatten();
        ends.filter_map(|stored| stored.entry.as_ref().map(end_of))
            .max()
            .unwrap_or(0)
    }
}

fn end_of(entry: &Entry) -> usize {
    entry.offset + entry.text.len()
}

fn is_late(log: &[Stored], at: Id, plant: Plant) -> bool {
    let newest = log.last().map(|stored| stored.id);
    plant != Plant::NoFencing && newest.is_some_and(|newest| newest >= at)
}

fn entries(log: &[Stored], after: Id) -> Vec<(Id, Entry)> {
    let later = log.iter().filter(|stored| stored.id > after);
    later
        .filter_map(|stored| Some((stored.id, stored.entry.clone()?)))
        .collect()
}
