//! One run of a backend: it carries out what the protocol's types decide, one event after the other.

use crate::{
    browser::Frame,
    redis, sql,
    sql::{Checkpoint, Row},
    world::{Gen, Input, MS, Net, Plant, Reply, Request, SECOND, Server, Wish, master_of},
};
use jarvis_domain::{
    Epoch, InstanceId, Outcome, Status,
    durable::{Bases, Entry, Keep, Kept, Logged, News, Owner, Path, Reader, Verdict, take_over},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

/// A call that has not been answered.
enum Pending {
    Beat {
        sent: Duration,
        known: Vec<Gen>,
    },
    Begin {
        id: Gen,
        sent: Duration,
        browser: usize,
        connection: u64,
    },
    Claim {
        id: Gen,
        sent: Duration,
    },
    TakeUp {
        id: Gen,
        epoch: Epoch,
    },
    Append {
        id: Gen,
        epoch: Epoch,
        to: usize,
        end: bool,
    },
    Keep(Vec<(Gen, Epoch, Keep)>),
    Finish {
        id: Gen,
        epoch: Epoch,
    },
    Confirm {
        id: Gen,
        epoch: Epoch,
    },
    GiveUp,
    Stop {
        browser: usize,
        connection: u64,
    },
    Read {
        connection: u64,
    },
    Look {
        connection: u64,
    },
}

/// An answer in the hands of this instance.
enum Task {
    /// Claimed; its log is to be read.
    Claimed {
        row: Box<Row>,
        since: Duration,
        asked: Duration,
    },
    Making(Box<Making>),
}

struct Making {
    epoch: Epoch,
    bases: Bases,
    text: String,
    owner: Owner,
    /// Up to where this instance's followers are shown.
    shown: usize,
    /// The run of the server in which the log was taken up.
    run: u64,
    /// The number of the last entry.
    entries: u64,
    log_busy: bool,
    end: Option<Outcome>,
    /// The end lies in the log.
    decided: bool,
    finishing: bool,
}

struct Follower {
    browser: usize,
    id: Gen,
    reader: Reader,
    cursor: redis::Id,
    looked: u64,
    spoke: u64,
    busy: bool,
    /// The log alone cannot say: look into SQL.
    unclear: bool,
}

pub(crate) struct Instance {
    index: usize,
    life: u64,
    id: InstanceId,
    up: bool,
    asleep: u64,
    calls: BTreeMap<u64, Pending>,
    tasks: BTreeMap<Gen, Task>,
    /// Answers whose begin or claim is on its way.
    asked: BTreeSet<Gen>,
    /// Answers that are this instance's by SQL, and of which it does not know.
    orphans: BTreeSet<Gen>,
    /// It has a lease: before, it begins nothing.
    ready: bool,
    keeping: bool,
    followers: BTreeMap<u64, Follower>,
}

fn outcome(status: Status) -> Outcome {
    Outcome {
        status,
        usage: None,
        error: None,
    }
}

impl Instance {
    pub(crate) fn start(index: usize, life: u64, net: &mut Net) -> Self {
        let id = format!("00000000-0000-7000-8000-{:06}{life:06}", index + 1);
        let instance = Self {
            index,
            life,
            id: id.parse().unwrap(),
            up: true,
            asleep: 0,
            calls: BTreeMap::new(),
            tasks: BTreeMap::new(),
            asked: BTreeSet::new(),
            orphans: BTreeSet::new(),
            ready: false,
            keeping: false,
            followers: BTreeMap::new(),
        };
        net.check.touched(index, net.now);
        let first = net.rng.within(0, SECOND);
        net.wake(first, (index, life), Input::Beat);
        net.wake(first, (index, life), Input::Checkpoint);
        instance
    }

    pub(crate) fn address(&self) -> (usize, u64, bool) {
        (self.index, self.life, self.up)
    }

    pub(crate) fn is(&self, id: InstanceId) -> bool {
        self.up && self.id == id
    }

    pub(crate) fn lives(&self, life: u64) -> bool {
        self.up && self.life == life
    }

    pub(crate) fn asleep_until(&self, now: u64) -> Option<u64> {
        // Looked at again all the while: it may be woken.
        let next = (now / (20 * MS) + 1) * (20 * MS);
        (self.up && self.asleep > now).then_some(next)
    }

    pub(crate) fn pause(&mut self, until: u64) {
        self.asleep = until;
    }

    pub(crate) fn crash(&mut self, net: &mut Net) {
        if self.up {
            self.up = false;
            let down = net.rng.within(300 * MS, 8 * SECOND);
            let start = crate::faults::Fault::Start(self.index);
            net.after(down, crate::world::Event::Fault(start));
        }
    }

    /// Gives everything up and goes, as far as it gets.
    pub(crate) fn stop(&mut self, net: &mut Net) {
        if !self.up || self.asleep > net.now {
            return;
        }
        for (id, task) in std::mem::take(&mut self.tasks) {
            if let Task::Making(mut making) = task {
                let keep = making.owner.last_keep();
                let epoch = making.epoch;
                let checkpoint = making.checkpoint(id, keep);
                let ask = sql::Ask::GiveUp { epoch, checkpoint };
                self.ask_sql(ask, Pending::GiveUp, net);
            }
        }
        self.crash(net);
    }

    fn me(&self) -> (usize, u64) {
        (self.index, self.life)
    }

    fn ask_sql(&mut self, ask: sql::Ask, pending: Pending, net: &mut Net) {
        let call = net.call(self.me(), Server::Sql, Request::Sql(ask));
        self.calls.insert(call, pending);
    }

    fn ask_redis(&mut self, id: Gen, ask: redis::Ask, pending: Pending, net: &mut Net) {
        let server = Server::Redis(master_of(id));
        let call = net.call(self.me(), server, Request::Redis(ask));
        self.calls.insert(call, pending);
    }

    pub(crate) fn input(&mut self, input: Input, net: &mut Net) {
        match input {
            Input::Reply(call, reply) => {
                if let Some(pending) = self.calls.remove(&call) {
                    match reply {
                        Reply::Sql(told) => self.sql_said(pending, told, net),
                        Reply::Redis(told) => self.redis_said(pending, told, net),
                    }
                }
            }
            Input::Deadline(call) => {
                if let Some(pending) = self.calls.remove(&call) {
                    self.unanswered(&pending, net);
                }
            }
            Input::Beat => {
                let known = self.tasks.keys().copied().collect();
                let sent = net.time();
                let beat = sql::Ask::Beat(self.id);
                self.ask_sql(beat, Pending::Beat { sent, known }, net);
                net.wake(SECOND, self.me(), Input::Beat);
            }
            Input::Checkpoint => {
                self.checkpoint(net);
                for id in self.tasks.keys().copied().collect::<Vec<_>>() {
                    self.advance(id, net);
                }
                net.wake(100 * MS, self.me(), Input::Checkpoint);
            }
            Input::Chunk(id, epoch) => self.chunk(id, epoch, net),
            Input::Serve(connection) => self.serve(connection, net),
            Input::Wish {
                browser,
                connection,
                wish,
            } => self.wish(browser, connection, &wish, net),
        }
    }

    // What an owner does.

    fn making(&mut self, id: Gen, epoch: Epoch) -> Option<&mut Making> {
        match self.tasks.get_mut(&id) {
            Some(Task::Making(making)) if making.epoch == epoch => Some(making),
            _ => None,
        }
    }

    /// The node says more.
    fn chunk(&mut self, id: Gen, epoch: Epoch, net: &mut Net) {
        let number = net.number();
        let pause = net.slowness * net.rng.within(30 * MS, 250 * MS);
        let length = 60 + usize::try_from(id % 5).unwrap() * 60;
        let Some(making) = self.making(id, epoch) else {
            return;
        };
        if making.end.is_some() {
            return;
        }
        // A node that is not read waits.
        if making.text.len() < making.owner.showable() + 40 {
            write!(making.text, "{number:x},").unwrap();
            making.owner.made(making.text.len());
        }
        if making.text.len() >= length {
            making.end = Some(outcome(Status::Done));
        }
        net.wake(pause, self.me(), Input::Chunk(id, epoch));
        self.advance(id, net);
    }

    /// Does what is to be done next for an answer.
    fn advance(&mut self, id: Gen, net: &mut Net) {
        let now = net.time();
        match self.tasks.get_mut(&id) {
            Some(Task::Making(_)) => {}
            Some(Task::Claimed { row, since, asked }) => {
                let waited = now.saturating_sub(*since);
                // Of the first owner nobody was shown anything before.
                let may = row.epoch == 1
                    || net.rules.may_begin_without_log(row.kept.path, waited)
                    || net.plant == Plant::Impatient;
                if may && waited > Duration::from_millis(500) {
                    let row = Row::clone(row);
                    if row.epoch > 1 && row.kept.path == Path::Log && net.plant != Plant::Impatient
                    {
                        net.check.begun_without_log.push(id);
                    }
                    let asked = *asked;
                    self.begin_claimed(id, row, asked, None, net);
                }
                return;
            }
            None => return,
        }
        let Some(Task::Making(making)) = self.tasks.get_mut(&id) else {
            return;
        };
        making.shown = making.owner.showable();
        if net.plant == Plant::ShowFirst {
            making.shown = making.text.len();
        }
        if net.plant == Plant::BlindForEver {
            making.owner.seen(now);
        }
        let epoch = making.epoch;
        if !making.log_busy {
            if making.owner.to_take_up(now) {
                making.log_busy = true;
                making.entries += 1;
                let at = (epoch, making.entries);
                let ask = redis::Ask::TakeUp { id, at };
                self.ask_redis(id, ask, Pending::TakeUp { id, epoch }, net);
            } else if let Some(range) = making.owner.to_log(now, &net.rules) {
                let to = range.end;
                let ask = making.append(id, range.start, to, None);
                let end = false;
                self.ask_redis(id, ask, Pending::Append { id, epoch, to, end }, net);
            } else if making.end.is_some()
                && making.owner.has_log()
                && making.owner.is_safe()
                && !making.decided
            {
                let to = making.text.len();
                let ask = making.append(id, to, to, making.end.clone());
                let end = true;
                self.ask_redis(id, ask, Pending::Append { id, epoch, to, end }, net);
            }
        }
        let Some(making) = self.making(id, epoch) else {
            return;
        };
        if let Some(outcome) = &making.end
            && making.owner.is_safe()
            && (making.decided || !making.owner.has_log())
            && !making.finishing
        {
            let outcome = outcome.clone();
            making.finishing = true;
            let kept = making.kept(making.text.len(), Path::Sql);
            let ask = sql::Ask::Finish {
                id,
                epoch,
                kept,
                outcome,
            };
            self.ask_sql(ask, Pending::Finish { id, epoch }, net);
        }
    }

    /// Commits what is due, all of it at once.
    fn checkpoint(&mut self, net: &mut Net) {
        if self.keeping {
            return;
        }
        let now = net.time();
        let mut keeps = Vec::new();
        let mut checkpoints = Vec::new();
        for (id, task) in &mut self.tasks {
            if let Task::Making(making) = task
                && let Some(keep) = making.owner.to_keep(now, &net.rules)
            {
                keeps.push((*id, making.epoch, keep));
                checkpoints.push(making.checkpoint(*id, keep));
            }
        }
        if !keeps.is_empty() {
            self.keeping = true;
            self.ask_sql(sql::Ask::Keep(checkpoints), Pending::Keep(keeps), net);
        }
    }

    /// The log of a claimed answer was read, or cannot be.
    fn begin_claimed(
        &mut self,
        id: Gen,
        row: Row,
        asked: Duration,
        log: Option<(u64, Logged)>,
        net: &mut Net,
    ) {
        let (run, logged) = log.unzip();
        let logged = if net.plant == Plant::SqlAlone {
            logged.map(|_| Logged::default())
        } else {
            logged
        };
        let path = row.kept.path;
        let taken = take_over(row.epoch, row.kept, logged);
        let mut making = Making {
            epoch: row.epoch,
            bases: taken.bases,
            owner: Owner::new(taken.text.len(), taken.logged, path, asked),
            text: taken.text,
            shown: 0,
            run: run.unwrap_or(0),
            entries: 0,
            log_busy: false,
            decided: taken.end.is_some(),
            end: taken.end,
            finishing: false,
        };
        if net.plant == Plant::ProofFirst {
            making.trust_at_once();
        }
        if making.end.is_none() && net.rules.verdict(row.attempts) == Verdict::TooManyOwners {
            making.end = Some(outcome(Status::Interrupted));
        } else if making.end.is_none() && row.stop {
            making.end = Some(outcome(Status::Stopped));
        }
        let epoch = making.epoch;
        self.tasks.insert(id, Task::Making(Box::new(making)));
        net.wake(MS, self.me(), Input::Chunk(id, epoch));
        self.advance(id, net);
    }

    fn claim(&mut self, id: Gen, row: &Row, net: &mut Net) {
        self.asked.insert(id);
        let ask = sql::Ask::Claim {
            id,
            epoch: row.epoch,
            me: self.id,
        };
        let sent = net.time();
        self.ask_sql(ask, Pending::Claim { id, sent }, net);
    }

    /// Asks for the log of a claimed answer.
    fn read_log(&mut self, id: Gen, epoch: Epoch, net: &mut Net) {
        let ask = redis::Ask::TakeUp { id, at: (epoch, 0) };
        self.ask_redis(id, ask, Pending::TakeUp { id, epoch }, net);
    }

    fn looked_around(
        &mut self,
        sent: Duration,
        mine: &[(Gen, Row)],
        unowned: &[(Gen, Row)],
        known: &[Gen],
        net: &mut Net,
    ) {
        let orphans = std::mem::take(&mut self.orphans);
        for (id, row) in mine {
            if !self.asked.contains(id) {
                self.found_mine(*id, row, sent, &orphans, net);
            }
        }
        for (id, row) in unowned {
            if !self.asked.contains(id) {
                self.claim(*id, row, net);
            }
        }
        for id in known.iter().copied() {
            let still = mine.iter().any(|(other, _)| *other == id);
            if !still && let Some(epoch) = self.epoch_of(id) {
                self.ask_sql(sql::Ask::Look(id), Pending::Confirm { id, epoch }, net);
            }
        }
    }

    fn epoch_of(&self, id: Gen) -> Option<Epoch> {
        match self.tasks.get(&id)? {
            Task::Claimed { row, .. } => Some(row.epoch),
            Task::Making(making) => Some(making.epoch),
        }
    }

    fn found_mine(
        &mut self,
        id: Gen,
        row: &Row,
        sent: Duration,
        orphans: &BTreeSet<Gen>,
        net: &mut Net,
    ) {
        match self.tasks.get_mut(&id) {
            Some(Task::Making(making)) => {
                if row.epoch == making.epoch {
                    making.owner.seen(sent);
                }
                if row.stop && making.end.is_none() {
                    making.end = Some(outcome(Status::Stopped));
                    self.advance(id, net);
                }
            }
            Some(Task::Claimed { .. }) => {}
            // It was seen so before: no begin or claim of its own is on its way any more.
            None if orphans.contains(&id) => {
                if net.plant != Plant::ForgetClaims {
                    self.claim(id, row, net);
                }
            }
            None => {
                self.orphans.insert(id);
            }
        }
    }

    // What servers say.

    fn sql_said(&mut self, pending: Pending, told: sql::Told, net: &mut Net) {
        match (pending, told) {
            (Pending::Beat { sent, known }, sql::Told::Look { mine, unowned }) => {
                self.ready = true;
                self.looked_around(sent, &mine, &unowned, &known, net);
            }
            (
                Pending::Begin {
                    id,
                    sent,
                    browser,
                    connection,
                },
                sql::Told::Begun(begun),
            ) => {
                self.asked.remove(&id);
                net.frame(browser, connection, Frame::Accepted(begun));
                if begun == id {
                    self.begin_new(id, sent, net);
                }
            }
            (Pending::Claim { id, sent }, sql::Told::Claimed(row)) => {
                self.asked.remove(&id);
                if let Some(row) = row {
                    self.wait_for_log(id, row, sent, net);
                }
            }
            (Pending::Keep(keeps), sql::Told::Kept(taken)) => {
                self.keeping = false;
                for ((id, epoch, keep), taken) in keeps.into_iter().zip(taken) {
                    self.kept(id, epoch, keep, taken, net);
                }
            }
            (Pending::Finish { id, epoch }, sql::Told::Finished(taken)) => {
                if taken {
                    self.tasks.remove(&id);
                } else {
                    self.ask_sql(sql::Ask::Look(id), Pending::Confirm { id, epoch }, net);
                }
            }
            (Pending::Confirm { id, epoch }, sql::Told::Row(row)) => {
                let mine = row.is_some_and(|row| {
                    row.epoch == epoch && row.owner == Some(self.id) && row.end.is_none()
                });
                if !mine && self.epoch_of(id) == Some(epoch) {
                    self.tasks.remove(&id);
                }
            }
            (
                Pending::Stop {
                    browser,
                    connection,
                },
                sql::Told::Stopped,
            ) => net.frame(browser, connection, Frame::Stopped),
            (Pending::Look { connection }, sql::Told::Row(Some(row))) => {
                self.looked(connection, &row, net);
            }
            (Pending::GiveUp, _) => {}
            _ => unreachable!("an answer to another question"),
        }
    }

    fn begin_new(&mut self, id: Gen, asked: Duration, net: &mut Net) {
        self.wait_for_log(id, Row::new(Some(self.id)), asked, net);
    }

    /// It is the owner, and asks the log. It waits from now on, not from before it was claimed; it knows that it is the owner
    /// from when SQL was asked, not from after.
    fn wait_for_log(&mut self, id: Gen, row: Row, asked: Duration, net: &mut Net) {
        let epoch = row.epoch;
        let claimed = Task::Claimed {
            row: Box::new(row),
            since: net.time(),
            asked,
        };
        self.tasks.insert(id, claimed);
        self.read_log(id, epoch, net);
    }

    fn kept(&mut self, id: Gen, epoch: Epoch, keep: Keep, taken: bool, net: &mut Net) {
        let now = net.time();
        let Some(making) = self.making(id, epoch) else {
            return;
        };
        if taken {
            making.owner.kept(keep, now);
            self.advance(id, net);
        } else {
            self.ask_sql(sql::Ask::Look(id), Pending::Confirm { id, epoch }, net);
        }
    }

    fn redis_said(&mut self, pending: Pending, told: redis::Told, net: &mut Net) {
        let now = net.time();
        match (pending, told) {
            (Pending::TakeUp { id, epoch }, redis::Told::TakenUp { run, entries }) => {
                self.taken_up(id, epoch, run, entries, net);
            }
            (Pending::Append { id, epoch, to, end }, told) => {
                let again = net.rules.log_again;
                let Some(making) = self.making(id, epoch) else {
                    return;
                };
                making.log_busy = false;
                match told {
                    redis::Told::Appended => {
                        making.owner.logged(to);
                        making.decided |= end;
                    }
                    redis::Told::Restarted => making.log_failed(now, net.plant),
                    redis::Told::Fenced => {
                        self.tasks.remove(&id);
                        return;
                    }
                    _ => making.log_failed(now + again, net.plant),
                }
                self.advance(id, net);
            }
            (Pending::TakeUp { id, epoch }, _) => {
                if self.epoch_of(id) == Some(epoch) {
                    self.tasks.remove(&id);
                }
            }
            (Pending::Read { connection }, redis::Told::Read(entries)) => {
                self.read(connection, entries, net);
            }
            _ => unreachable!("an answer to another question"),
        }
    }

    fn taken_up(
        &mut self,
        id: Gen,
        epoch: Epoch,
        run: u64,
        entries: Vec<(redis::Id, Entry)>,
        net: &mut Net,
    ) {
        let mut logged = Logged::default();
        for (_, entry) in entries {
            logged.add(entry);
        }
        match self.tasks.get_mut(&id) {
            Some(Task::Claimed { row, asked, .. }) if row.epoch == epoch => {
                let (row, asked) = (Row::clone(row), *asked);
                self.begin_claimed(id, row, asked, Some((run, logged)), net);
            }
            Some(Task::Making(making)) if making.epoch == epoch => {
                making.log_busy = false;
                making.run = run;
                let reaches = making.bases.agreed(logged.epoch, logged.text.len());
                making.owner.taken_up(reaches.min(making.text.len()));
                if net.plant == Plant::ProofFirst {
                    making.trust_at_once();
                }
                self.checkpoint(net);
                self.advance(id, net);
            }
            _ => {}
        }
    }

    fn unanswered(&mut self, pending: &Pending, net: &mut Net) {
        let now = net.time();
        match *pending {
            Pending::TakeUp { id, epoch } | Pending::Append { id, epoch, .. } => {
                let again = now + net.rules.log_again;
                let plant = net.plant;
                if let Some(making) = self.making(id, epoch) {
                    making.log_busy = false;
                    making.log_failed(again, plant);
                    self.advance(id, net);
                } else if self.epoch_of(id) == Some(epoch) {
                    self.advance(id, net);
                    if matches!(self.tasks.get(&id), Some(Task::Claimed { .. })) {
                        self.read_log(id, epoch, net);
                    }
                }
            }
            Pending::Begin { id, .. } | Pending::Claim { id, .. } => {
                self.asked.remove(&id);
            }
            Pending::Keep(_) => self.keeping = false,
            Pending::Finish { id, epoch } => {
                if let Some(making) = self.making(id, epoch) {
                    making.finishing = false;
                }
            }
            Pending::Confirm { id, epoch } => {
                if self.epoch_of(id) == Some(epoch) {
                    self.ask_sql(sql::Ask::Look(id), Pending::Confirm { id, epoch }, net);
                }
            }
            Pending::Read { connection } | Pending::Look { connection } => {
                if let Some(follower) = self.followers.get_mut(&connection) {
                    follower.busy = false;
                    follower.unclear = !follower.unclear;
                }
            }
            Pending::Beat { .. } | Pending::GiveUp | Pending::Stop { .. } => {}
        }
    }

    // What followers are told.

    fn wish(&mut self, browser: usize, connection: u64, wish: &Wish, net: &mut Net) {
        match *wish {
            Wish::Start { .. } if !self.ready => {}
            Wish::Start { key } => {
                let id = net.number();
                let owner = self.id;
                self.asked.insert(id);
                let ask = sql::Ask::Begin { id, key, owner };
                let pending = Pending::Begin {
                    id,
                    sent: net.time(),
                    browser,
                    connection,
                };
                self.ask_sql(ask, pending, net);
            }
            Wish::Stop { id } => {
                let pending = Pending::Stop {
                    browser,
                    connection,
                };
                self.ask_sql(sql::Ask::Stop(id), pending, net);
            }
            Wish::Follow { id, held } => {
                let follower = Follower {
                    browser,
                    id,
                    reader: held,
                    cursor: (0, 0),
                    looked: 0,
                    spoke: net.now,
                    busy: false,
                    unclear: true,
                };
                self.followers.insert(connection, follower);
                self.serve(connection, net);
            }
        }
    }

    /// Gives a follower what there is for it.
    fn serve(&mut self, connection: u64, net: &mut Net) {
        let Some(follower) = self.followers.get_mut(&connection) else {
            return;
        };
        if net.now > follower.spoke + 500 * MS {
            follower.tell(connection, Frame::Alive, net);
        }
        let pause = if net.now > net.quiet {
            100 * MS
        } else {
            net.rng.within(10 * MS, 60 * MS)
        };
        net.wake(pause, (self.index, self.life), Input::Serve(connection));
        let id = follower.id;
        if let Some(Task::Making(making)) = self.tasks.get(&id) {
            if making.shown >= making.bases.base() && making.shown > 0 {
                let text = making.text[..making.shown].to_owned();
                follower.show(connection, &making.bases, &text, net);
            }
            return;
        }
        if follower.busy {
            return;
        }
        follower.busy = true;
        if follower.unclear || net.now > follower.looked + SECOND {
            self.ask_sql(sql::Ask::Look(id), Pending::Look { connection }, net);
        } else {
            let after = follower.cursor;
            let ask = redis::Ask::Read { id, after };
            self.ask_redis(id, ask, Pending::Read { connection }, net);
        }
    }

    fn read(&mut self, connection: u64, entries: Vec<(redis::Id, Entry)>, net: &mut Net) {
        let Some(follower) = self.followers.get_mut(&connection) else {
            return;
        };
        follower.busy = false;
        for (at, entry) in entries {
            if net.plant == Plant::OffsetAlone {
                follower.reader.epoch = follower.reader.epoch.max(entry.epoch);
            }
            let (offset, len) = (entry.offset, entry.text.len());
            match follower.reader.entry(entry.epoch, entry.base, offset, len) {
                News::From(from) => {
                    let delta = Frame::Delta {
                        epoch: entry.epoch,
                        offset: offset + from,
                        text: entry.text[from..].to_owned(),
                    };
                    follower.tell(connection, delta, net);
                }
                News::Nothing => {}
                News::Resync | News::Unclear => {
                    follower.unclear = true;
                    return;
                }
            }
            follower.unclear |= entry.end.is_some();
            follower.cursor = at;
        }
    }

    fn looked(&mut self, connection: u64, row: &Row, net: &mut Net) {
        let Some(follower) = self.followers.get_mut(&connection) else {
            return;
        };
        follower.busy = false;
        follower.unclear = false;
        follower.looked = net.now;
        follower.show(connection, &row.kept.bases, &row.kept.text, net);
        if let Some(status) = row.status() {
            if follower.reader.offset != row.kept.text.len() {
                net.check.wrong = Some(format!("more was shown than kept: {row:?}"));
            }
            follower.tell(connection, Frame::End(status), net);
            self.followers.remove(&connection);
        }
    }
}

impl Follower {
    fn tell(&mut self, connection: u64, frame: Frame, net: &mut Net) {
        self.spoke = net.now;
        net.frame(self.browser, connection, frame);
    }

    fn show(&mut self, connection: u64, bases: &Bases, text: &str, net: &mut Net) {
        if net.plant == Plant::OffsetAlone {
            self.reader.epoch = bases.epoch();
        }
        let epoch = bases.epoch();
        let frame = match self.reader.text(bases, text.len()) {
            News::From(offset) => Frame::Delta {
                epoch,
                offset,
                text: text[offset..].to_owned(),
            },
            News::Resync => Frame::Resync {
                epoch,
                text: text.to_owned(),
            },
            News::Nothing | News::Unclear => return,
        };
        self.tell(connection, frame, net);
    }
}

impl Making {
    fn kept(&self, to: usize, path: Path) -> Kept {
        Kept {
            bases: self.bases.clone(),
            text: self.text[..to].to_owned(),
            tokens: 0,
            path,
        }
    }

    fn checkpoint(&self, id: Gen, keep: Keep) -> Checkpoint {
        Checkpoint {
            id,
            epoch: self.epoch,
            number: keep.number,
            kept: self.kept(keep.to, keep.path),
        }
    }

    fn append(&mut self, id: Gen, from: usize, to: usize, end: Option<Outcome>) -> redis::Ask {
        self.log_busy = true;
        self.entries += 1;
        redis::Ask::Append {
            id,
            at: (self.epoch, self.entries),
            run: self.run,
            entry: Entry {
                epoch: self.epoch,
                base: self.bases.base(),
                offset: from,
                text: self.text[from..to].to_owned(),
                tokens: 0,
                end,
            },
        }
    }

    fn log_failed(&mut self, again: Duration, plant: Plant) {
        if plant != Plant::NoFallBack {
            self.owner.log_failed(again);
        }
    }

    /// What an owner does that was proven before it took the log up: it asks for no other proof.
    fn trust_at_once(&mut self) {
        let now = Duration::ZERO;
        let proof = Keep {
            number: u64::MAX,
            to: 0,
            path: Path::Log,
        };
        self.owner.kept(proof, now);
    }
}
