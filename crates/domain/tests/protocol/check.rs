//! What must hold after every step.

use crate::{
    instance::Instance,
    sql::{Change, Row},
    world::Gen,
};
use jarvis_domain::{
    Epoch, InstanceId, Status,
    durable::{Rules, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Check {
    pub(crate) wrong: Option<String>,
    /// The longest text that anybody was shown.
    seen: BTreeMap<Gen, String>,
    /// The newest epoch that has committed anything, and where it began.
    epochs: BTreeMap<Gen, (Epoch, usize)>,
    /// How far text went that the log has lost and SQL never had.
    lost: BTreeMap<Gen, usize>,
    /// Answers whose end was lost for good, and the epoch that began without it.
    cut: BTreeMap<Gen, Epoch>,
    /// What browsers were told of the end: the status and the text.
    ends: BTreeMap<Gen, (Status, String)>,
    /// Questions that were asked.
    begun: BTreeSet<Gen>,
    /// Until when something that concerns an instance alone has gone wrong.
    touched: BTreeMap<usize, u64>,
    /// Answers that were begun without their log just now.
    pub(crate) begun_without_log: Vec<Gen>,
    /// How many take-overs there were, and how many resyncs.
    pub(crate) claims: u64,
    pub(crate) resyncs: u64,
}

impl Check {
    fn fail(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub(crate) fn touched(&mut self, instance: usize, until: u64) {
        let latest = self.touched.entry(instance).or_default();
        *latest = until.max(*latest);
    }

    pub(crate) fn lost(&mut self, id: Gen, to: usize) {
        let most = self.lost.entry(id).or_default();
        *most = to.max(*most);
    }

    /// The log has taken text up to `to` from this epoch. Of an earlier owner it may be what the later one began with: a
    /// message can be late.
    pub(crate) fn written(&mut self, id: Gen, epoch: Epoch, to: usize) {
        let Some((newest, base)) = self.epochs.get(&id).copied() else {
            return;
        };
        if epoch < newest && to > base {
            self.fail(format!(
                "two owners: the log of {id} took epoch {epoch} up to {to} after {newest} had begun at {base}"
            ));
        }
    }

    /// SQL has changed.
    pub(crate) fn changed(
        &mut self,
        now: u64,
        change: &Change,
        rows: &BTreeMap<Gen, Row>,
        instances: &[Instance],
        rules: &Rules,
    ) {
        match change {
            Change::Begun { id } => {
                self.begun.insert(*id);
            }
            Change::Claimed { .. } => self.claims += 1,
            Change::Removed(instance) => self.judged(now, *instance, instances, rules),
            Change::Kept { id, epoch } => self.committed(*id, *epoch, &rows[id]),
            Change::Ended { id, epoch } => {
                self.committed(*id, *epoch, &rows[id]);
                let row = &rows[id];
                let tired = rules.verdict(row.attempts) == Verdict::TooManyOwners;
                if row.status() == Some(Status::Interrupted) && !tired {
                    self.fail(format!(
                        "{id} was interrupted after {} owners",
                        row.attempts
                    ));
                }
            }
        }
    }

    /// Nobody counts as gone who is there, whom nothing has happened to, however long the database was away.
    fn judged(&mut self, now: u64, who: InstanceId, instances: &[Instance], rules: &Rules) {
        let Some(instance) = instances.iter().find(|instance| instance.is(who)) else {
            return;
        };
        let touched = self.touched.get(&instance.address().0).copied();
        let grace = 2 * u64::try_from(rules.lease.as_micros()).unwrap();
        if now > touched.unwrap_or(0) + grace {
            self.fail(format!(
                "a healthy instance was judged to be gone: {who} at {now}"
            ));
        }
    }

    fn committed(&mut self, id: Gen, epoch: Epoch, row: &Row) {
        let began = (epoch, row.kept.bases.base());
        let newest = self
            .epochs
            .insert(id, began)
            .map_or(0, |(newest, _)| newest);
        if epoch < newest {
            return self.fail(format!(
                "two owners: SQL took epoch {epoch} of {id} after {newest}"
            ));
        }
        let first = epoch > newest;
        let text = row.kept.text.as_str();
        // What an epoch begins with must be all that was shown; later it may only be behind or ahead.
        let base = &text[..row.kept.bases.base()];
        let seen = self.seen.entry(id).or_default().as_str();
        if first && !base.starts_with(seen) {
            self.cut_off(id, epoch, base.to_owned());
        } else if !first && !seen.starts_with(text) && !text.starts_with(seen) {
            self.cut_off(id, epoch, text.to_owned());
        }
        let lost = self.lost.get(&id).copied().unwrap_or(0);
        if first && base.len() < lost {
            // The earlier owner may wake and show what had been logged.
            self.cut.insert(id, epoch);
        } else if text.len() >= lost {
            self.lost.remove(&id);
        }
    }

    /// An owner goes on without all that was shown: the one case is that the log has lost what SQL never had.
    fn cut_off(&mut self, id: Gen, epoch: Epoch, text: String) {
        let seen = self.seen.get(&id).map_or(0, String::len);
        let lost = self.lost.get(&id).copied().unwrap_or(0);
        if seen > lost {
            return self.fail(format!(
                "SQL has another text of {id} than was shown: {text:?}, shown {:?}, lost up to {lost}",
                self.seen.get(&id)
            ));
        }
        self.cut.insert(id, epoch);
        self.seen.insert(id, text);
    }

    /// A browser shows this text now, got from this epoch's owner.
    pub(crate) fn shown(&mut self, id: Gen, epoch: Epoch, view: &str) {
        let seen = self.seen.entry(id).or_default();
        if view.starts_with(seen.as_str()) {
            view.clone_into(seen);
        } else if !seen.starts_with(view) {
            let lost = self.lost.get(&id).copied().unwrap_or(0);
            if self.cut.get(&id).is_some_and(|cut| epoch < *cut) {
                return;
            }
            if seen.len() <= lost {
                view.clone_into(seen);
                self.cut.insert(id, epoch);
                return;
            }
            let seen = seen.clone();
            self.fail(format!("{id}: shown {seen:?}, then {view:?}"));
        }
    }

    /// A browser was told to replace what it holds.
    pub(crate) fn resynced(&mut self, id: Gen, held: usize) {
        self.resyncs += 1;
        let lost = self.lost.get(&id).copied().unwrap_or(0);
        if !self.cut.contains_key(&id) && held > lost {
            self.fail(format!("{id}: a resync where nothing was lost"));
        }
    }

    /// A browser was told of the end.
    pub(crate) fn ended(&mut self, id: Gen, status: Status, text: &str) {
        let end = (status, text.to_owned());
        let before = self.ends.entry(id).or_insert_with(|| end.clone());
        if *before != end {
            let before = before.clone();
            self.fail(format!("{id} ended twice: {before:?}, {end:?}"));
        }
    }

    pub(crate) fn at_the_end(&self, rows: &BTreeMap<Gen, Row>) -> Result<(), String> {
        for id in &self.begun {
            let row = &rows[id];
            let Some(status) = row.status() else {
                return Err(format!("{id} has not ended: {row:?}"));
            };
            if let Some(told) = self.ends.get(id)
                && *told != (status, row.kept.text.clone())
            {
                return Err(format!("{id}: told {told:?}, kept {row:?}"));
            }
        }
        Ok(())
    }
}
