//! The database: a primary with a synchronous replica. A statement is committed when the replica has it; a fail-over keeps
//! all that was committed, and may have committed statements of which nobody was told.

use crate::world::{Gen, Plant};
use jarvis_domain::{
    Epoch, InstanceId, Outcome, Status, Timestamp,
    durable::{Bases, Beat, Kept, Lease, Path, Rules},
};
use std::collections::{BTreeMap, VecDeque};

/// An answer's row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) owner: Option<InstanceId>,
    pub(crate) epoch: Epoch,
    pub(crate) attempts: u32,
    pub(crate) kept: Kept,
    /// The number of the last checkpoint of this epoch.
    pub(crate) checkpoint: u64,
    pub(crate) stop: bool,
    pub(crate) end: Option<Outcome>,
}

/// A checkpoint of one answer.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoint {
    pub(crate) id: Gen,
    pub(crate) epoch: Epoch,
    pub(crate) number: u64,
    pub(crate) kept: Kept,
}

#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Renew the lease, and look around.
    Beat(InstanceId),
    Begin {
        id: Gen,
        key: u64,
        owner: InstanceId,
    },
    Claim {
        id: Gen,
        epoch: Epoch,
        me: InstanceId,
    },
    Keep(Vec<Checkpoint>),
    Finish {
        id: Gen,
        epoch: Epoch,
        kept: Kept,
        outcome: Outcome,
    },
    GiveUp {
        epoch: Epoch,
        checkpoint: Checkpoint,
    },
    Stop(Gen),
    Look(Gen),
}

#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// The asker's answers, and those of nobody.
    Look {
        mine: Vec<(Gen, Row)>,
        unowned: Vec<(Gen, Row)>,
    },
    Begun(Gen),
    Claimed(Option<Row>),
    /// The ones that were taken.
    Kept(Vec<bool>),
    Finished(bool),
    GivenUp,
    Stopped,
    Row(Option<Row>),
}

#[derive(Default)]
pub(crate) struct Sql {
    pub(crate) up: bool,
    /// This run of the server.
    pub(crate) server: i64,
    /// How far its clock is off.
    pub(crate) skew: i64,
    leases: BTreeMap<InstanceId, Lease>,
    pub(crate) rows: BTreeMap<Gen, Row>,
    keys: BTreeMap<u64, Gen>,
    /// Arrived, not committed: who asked, and what.
    pub(crate) waiting: VecDeque<(u64, Ask)>,
    /// What the last statement changed, for the checks.
    pub(crate) changes: Vec<Change>,
}

/// What the checks want to know of.
#[derive(Debug)]
pub(crate) enum Change {
    Begun {
        id: Gen,
    },
    Claimed {
        id: Gen,
    },
    /// The lease of an instance that was judged to be gone.
    Removed(InstanceId),
    Kept {
        id: Gen,
        epoch: Epoch,
    },
    Ended {
        id: Gen,
        epoch: Epoch,
    },
}

impl Sql {
    pub(crate) fn start() -> Self {
        Self {
            up: true,
            ..Self::default()
        }
    }

    pub(crate) fn now(&self, now: u64) -> Timestamp {
        Timestamp::from_micros(i64::try_from(now).unwrap() + self.skew)
    }

    /// Commits one statement.
    pub(crate) fn commit(&mut self, now: u64, ask: Ask, rules: &Rules, plant: Plant) -> Told {
        match ask {
            Ask::Beat(me) => self.look_around(now, me, rules, plant),
            Ask::Begin { id, key, owner } => {
                if let Some(before) = self.keys.get(&key) {
                    return Told::Begun(*before);
                }
                self.keys.insert(key, id);
                // Who has no lease any more owns nothing: it is as if it had given it up.
                let has_lease = self.leases.contains_key(&owner);
                self.rows.insert(id, Row::new(has_lease.then_some(owner)));
                self.changes.push(Change::Begun { id });
                Told::Begun(id)
            }
            Ask::Claim { id, epoch, me } => Told::Claimed(self.claim(id, epoch, me)),
            Ask::Keep(checkpoints) => {
                let each = checkpoints.into_iter().map(|one| self.keep(one, plant));
                Told::Kept(each.collect())
            }
            Ask::Finish {
                id,
                epoch,
                kept,
                outcome,
            } => Told::Finished(self.finish(id, epoch, kept, outcome, plant)),
            Ask::GiveUp { epoch, checkpoint } => {
                let id = checkpoint.id;
                if self.keep(checkpoint, plant)
                    && let Some(row) = self.rows.get_mut(&id)
                    && row.epoch == epoch
                {
                    row.owner = None;
                }
                Told::GivenUp
            }
            Ask::Stop(id) => {
                if let Some(row) = self.rows.get_mut(&id) {
                    row.stop = true;
                }
                Told::Stopped
            }
            Ask::Look(id) => Told::Row(self.rows.get(&id).cloned()),
        }
    }

    fn look_around(&mut self, now: u64, me: InstanceId, rules: &Rules, plant: Plant) -> Told {
        let beat = Beat {
            now: self.now(now),
            server: self.server,
            leases: self.leases.values().copied().collect(),
        };
        let mut mine = rules.renewed(&beat, me);
        self.leases.insert(me, mine);
        if plant == Plant::JudgeAtOnce {
            mine.since = Timestamp::from_micros(i64::MIN / 2);
        }
        for gone in rules.gone(&beat, &mine) {
            self.leases.remove(&gone);
            self.changes.push(Change::Removed(gone));
        }
        let live = self.rows.iter().filter(|(_, row)| row.end.is_none());
        let live = live.map(|(id, row)| (*id, row.clone()));
        let (mine, others): (Vec<_>, Vec<_>) = live.partition(|(_, row)| row.owner == Some(me));
        let unowned = others.into_iter().filter(|(_, row)| self.is_unowned(row));
        Told::Look {
            unowned: unowned.collect(),
            mine,
        }
    }

    fn is_unowned(&self, row: &Row) -> bool {
        row.owner
            .is_none_or(|owner| !self.leases.contains_key(&owner))
    }

    fn claim(&mut self, id: Gen, epoch: Epoch, me: InstanceId) -> Option<Row> {
        let unowned = self.is_unowned(self.rows.get(&id)?);
        let row = self.rows.get_mut(&id)?;
        let mine = row.owner == Some(me);
        if row.end.is_some() || row.epoch != epoch || !(unowned || mine) {
            return None;
        }
        self.changes.push(Change::Claimed { id });
        row.epoch += 1;
        // One that was given up, or taken back by the owner who did not know of it, was not lost.
        row.attempts += u32::from(row.owner.is_some() && !mine);
        row.owner = Some(me);
        row.checkpoint = 0;
        Some(row.clone())
    }

    fn keep(&mut self, new: Checkpoint, plant: Plant) -> bool {
        let Some(row) = self.rows.get_mut(&new.id) else {
            return false;
        };
        let mine = row.epoch == new.epoch || plant == Plant::NoFencing;
        let late = row.checkpoint >= new.number && plant != Plant::LateCheckpoint;
        if row.end.is_some() || !mine || late {
            return false;
        }
        row.checkpoint = new.number;
        row.kept = new.kept;
        let (id, epoch) = (new.id, new.epoch);
        self.changes.push(Change::Kept { id, epoch });
        true
    }

    fn finish(
        &mut self,
        id: Gen,
        epoch: Epoch,
        kept: Kept,
        outcome: Outcome,
        plant: Plant,
    ) -> bool {
        let Some(row) = self.rows.get_mut(&id) else {
            return false;
        };
        let mine = row.epoch == epoch || plant == Plant::NoFencing;
        if !mine || (row.end.is_some() && plant != Plant::NoFencing) {
            return false;
        }
        row.kept = kept;
        row.end = Some(outcome);
        self.changes.push(Change::Ended { id, epoch });
        true
    }

    /// The primary dies: the replica has what was committed and a part of what was being committed.
    pub(crate) fn crash(&mut self, committed: usize, now: u64, rules: &Rules, plant: Plant) {
        for _ in 0..committed {
            if let Some((_, ask)) = self.waiting.pop_front() {
                self.commit(now, ask, rules, plant);
            }
        }
        self.waiting.clear();
        self.up = false;
    }
}

impl Row {
    pub(crate) fn new(owner: Option<InstanceId>) -> Self {
        Self {
            owner,
            epoch: 1,
            attempts: 1,
            kept: Kept {
                bases: Bases::default(),
                text: String::new(),
                tokens: 0,
                path: Path::Log,
            },
            checkpoint: 0,
            stop: false,
            end: None,
        }
    }

    pub(crate) fn status(&self) -> Option<Status> {
        self.end.as_ref().map(|end| end.status)
    }
}
