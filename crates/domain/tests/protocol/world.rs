//! The whole installation on one virtual clock: every message takes its time, and may be late or lost.

use crate::{
    browser::{Browser, Frame},
    check::Check,
    faults::{self, Fault},
    instance::Instance,
    redis::{self, Redis},
    rng::Rng,
    sql::{self, Sql},
};
use jarvis_domain::{durable::Reader, durable::Rules};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

/// An answer.
pub(crate) type Gen = u64;

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000 * MS;
/// How long after the last fault every answer must have ended, at the latest.
const AFTERWARDS: u64 = 200 * SECOND;

/// A mistake that is built in on purpose, to see that the checks find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    None,
    /// Text is shown before it is logged.
    ShowFirst,
    /// Stores take what a late owner writes.
    NoFencing,
    /// A lease is judged at the first look, also after a fail-over.
    JudgeAtOnce,
    /// A new owner begins with SQL's text alone.
    SqlAlone,
    /// A new owner that cannot reach the log begins without it at once.
    Impatient,
    /// An owner that hears nothing from SQL goes on for ever.
    BlindForEver,
    /// The log is appended to without asking whether it is the one that was taken up.
    PlainAppend,
    /// An owner whose log fails does not go on by SQL.
    NoFallBack,
    /// SQL takes a checkpoint that comes after its successor.
    LateCheckpoint,
    /// A claim whose answer was lost is forgotten.
    ForgetClaims,
    /// A reader is served by its offset alone.
    OffsetAlone,
    /// An owner proves itself in SQL first, and takes the log up again then.
    ProofFirst,
}

/// A server that instances call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Sql,
    Redis(usize),
}

pub(crate) enum Request {
    Sql(sql::Ask),
    Redis(redis::Ask),
}

pub(crate) enum Reply {
    Sql(sql::Told),
    Redis(redis::Told),
}

/// What a browser asks an instance.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Start { key: u64 },
    Follow { id: Gen, held: Reader },
    Stop { id: Gen },
}

pub(crate) enum Event {
    Arrive {
        server: Server,
        call: u64,
        from: (usize, u64),
        request: Request,
    },
    Commit,
    ToInstance {
        to: usize,
        life: u64,
        what: Input,
    },
    Browser(usize),
    Frame {
        browser: usize,
        connection: u64,
        frame: Frame,
    },
    Fault(Fault),
}

pub(crate) enum Input {
    Reply(u64, Reply),
    Deadline(u64),
    Beat,
    Checkpoint,
    Chunk(Gen, u32),
    Serve(u64),
    Wish {
        browser: usize,
        connection: u64,
        wish: Wish,
    },
}

/// What everybody has at hand: time, chance, and a way to send.
pub(crate) struct Net {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) rules: Rules,
    pub(crate) plant: Plant,
    pub(crate) check: Check,
    traced: bool,
    /// When faults stop.
    pub(crate) quiet: u64,
    /// How much slower than usual nodes answer.
    pub(crate) slowness: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    last: u64,
    /// Who cannot reach whom until when.
    pub(crate) cuts: Vec<(usize, Server, u64)>,
}

impl Net {
    /// Tells what happens, where a schedule is looked at.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{:>11} {}", self.now, what());
        }
    }

    /// A number that was never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        let number = self.number();
        self.queue.push(Reverse((self.now + delay, number)));
        self.events.insert(number, event);
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// How long a message takes; none if it is lost.
    fn trip(&mut self, instance: usize, server: Option<Server>) -> Option<u64> {
        let usual = self.rng.within(200, 2 * MS);
        if self.now >= self.quiet {
            return Some(usual);
        }
        let now = self.now;
        let cut = self
            .cuts
            .iter()
            .any(|(who, what, until)| *who == instance && Some(*what) == server && *until > now);
        let chance = self.rng.within(0, 1000);
        let trip = match chance {
            _ if cut => None,
            0..4 => None,
            4..20 => Some(self.rng.within(50 * MS, 1500 * MS)),
            20..24 => Some(self.rng.within(2 * SECOND, 5 * SECOND)),
            _ => Some(usual),
        };
        if server == Some(Server::Sql) && trip.is_none_or(|trip| trip > 300 * MS) {
            self.check.touched(instance, now + trip.unwrap_or(0));
        }
        trip
    }

    pub(crate) fn call(&mut self, from: (usize, u64), server: Server, request: Request) -> u64 {
        let call = self.number();
        if let Some(trip) = self.trip(from.0, Some(server)) {
            let arrive = Event::Arrive {
                server,
                call,
                from,
                request,
            };
            self.after(trip, arrive);
        }
        let patience = match server {
            Server::Sql => 2 * SECOND,
            Server::Redis(_) => SECOND,
        };
        self.wake(patience, from, Input::Deadline(call));
        call
    }

    pub(crate) fn wake(&mut self, delay: u64, (to, life): (usize, u64), what: Input) {
        self.after(delay, Event::ToInstance { to, life, what });
    }

    fn reply(&mut self, call: u64, to: (usize, u64), server: Server, reply: Reply) {
        if let Some(trip) = self.trip(to.0, Some(server)) {
            self.wake(trip, to, Input::Reply(call, reply));
        }
    }

    pub(crate) fn frame(&mut self, browser: usize, connection: u64, frame: Frame) {
        // In order, as a connection delivers.
        let event = Event::Frame {
            browser,
            connection,
            frame,
        };
        self.after(5 * MS, event);
    }
}

pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) sql: Sql,
    pub(crate) redis: Vec<Redis>,
    pub(crate) instances: Vec<Instance>,
    browsers: Vec<Browser>,
    call_owner: BTreeMap<u64, (usize, u64)>,
}

/// Which master holds an answer's log.
pub(crate) fn master_of(id: Gen) -> usize {
    usize::try_from(id % 3).unwrap()
}

impl World {
    /// Runs one schedule to its end; what went wrong, if something did.
    pub(crate) fn run(seed: u64, plant: Plant) -> Result<Check, String> {
        let mut world = Self::new(seed, plant);
        while let Some(Reverse((at, number))) = world.net.queue.pop() {
            let event = world.net.events.remove(&number).unwrap();
            if at > world.net.quiet + AFTERWARDS {
                break;
            }
            world.net.now = at;
            world.step(number, event);
            if let Some(wrong) = world.net.check.wrong.take() {
                return Err(wrong);
            }
            if at > world.net.quiet && world.browsers.iter().all(Browser::is_content) {
                break;
            }
        }
        for browser in &world.browsers {
            if !browser.is_content() {
                return Err(format!("stuck: {browser:?} {:?}", world.sql.rows));
            }
        }
        world.net.check.at_the_end(&world.sql.rows)?;
        Ok(world.net.check)
    }

    fn new(seed: u64, plant: Plant) -> Self {
        let net = Net {
            now: 0,
            rng: Rng::new(seed),
            rules: Rules::default(),
            plant,
            check: Check::default(),
            traced: std::env::var_os("JARVIS_TRACE").is_some(),
            quiet: 30 * SECOND,
            slowness: 1,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            last: 0,
            cuts: Vec::new(),
        };
        let mut world = Self {
            net,
            sql: Sql::start(),
            redis: (0..3).map(|_| Redis::default()).collect(),
            instances: Vec::new(),
            browsers: Vec::new(),
            call_owner: BTreeMap::new(),
        };
        world.redis.iter_mut().for_each(|redis| redis.up = true);
        for index in 0..3 {
            world
                .instances
                .push(Instance::start(index, 0, &mut world.net));
        }
        let questions = world.net.rng.within(1, 4);
        for key in 0..questions {
            let start = world.net.rng.within(0, 12 * SECOND);
            for watcher in [false, true] {
                let index = world.browsers.len();
                world
                    .browsers
                    .push(Browser::new(index, key, watcher, &mut world.net));
                world.net.after(start, Event::Browser(index));
            }
        }
        faults::plan(&mut world.net);
        world
    }

    fn step(&mut self, number: u64, event: Event) {
        let net = &mut self.net;
        match event {
            Event::Arrive {
                server: Server::Sql,
                call,
                from,
                request: Request::Sql(ask),
            } => {
                if self.sql.up {
                    self.call_owner.insert(call, from);
                    self.sql.waiting.push_back((call, ask));
                    let slow = net.now < net.quiet && net.rng.chance(3);
                    let most = if slow { 300 * MS } else { 3 * MS };
                    let takes = net.rng.within(300, most);
                    net.after(takes, Event::Commit);
                }
            }
            Event::Arrive {
                server: Server::Redis(index),
                call,
                from,
                request: Request::Redis(ask),
            } => {
                let redis = &mut self.redis[index];
                if redis.up {
                    let wrote = match &ask {
                        redis::Ask::Append { id, entry, .. } => {
                            Some((*id, entry.epoch, entry.offset + entry.text.len()))
                        }
                        _ => None,
                    };
                    net.trace(|| format!("redis {index}: {ask:?} from {from:?}"));
                    let told = redis.answer(net.now, ask, net.plant);
                    if let (Some((id, epoch, to)), redis::Told::Appended) = (wrote, &told) {
                        net.check.written(id, epoch, to);
                    }
                    net.reply(call, from, Server::Redis(index), Reply::Redis(told));
                }
            }
            Event::Arrive { .. } => unreachable!("a request to the wrong server"),
            Event::Commit => self.commit(),
            Event::ToInstance { to, life, what } => {
                let instance = &mut self.instances[to];
                if let Some(until) = instance.asleep_until(net.now) {
                    // What comes meanwhile is found on waking up, in its order.
                    let again = Event::ToInstance { to, life, what };
                    net.queue.push(Reverse((until, number)));
                    net.events.insert(number, again);
                } else if instance.lives(life) {
                    instance.input(what, net);
                    for id in std::mem::take(&mut net.check.begun_without_log) {
                        let reaches = self.redis[master_of(id)].reaches(id);
                        net.check.lost(id, reaches);
                    }
                }
            }
            Event::Browser(index) => {
                let lives: Vec<_> = self.instances.iter().map(Instance::address).collect();
                self.browsers[index].wake(&lives, net);
            }
            Event::Frame {
                browser,
                connection,
                frame,
            } => self.browsers[browser].frame(connection, frame, net),
            Event::Fault(fault) => self.fault(&fault),
        }
    }

    fn commit(&mut self) {
        let net = &mut self.net;
        let Some((call, ask)) = self.sql.waiting.pop_front() else {
            return;
        };
        net.trace(|| format!("sql: {ask:?}"));
        let told = self.sql.commit(net.now, ask, &net.rules, net.plant);
        if let Some(from) = self.call_owner.remove(&call) {
            net.reply(call, from, Server::Sql, Reply::Sql(told));
        }
        self.look_at_changes();
    }

    pub(crate) fn look_at_changes(&mut self) {
        for change in std::mem::take(&mut self.sql.changes) {
            if let sql::Change::Claimed { id } = change {
                faults::ambush(id, &mut self.net);
            }
            self.net.check.changed(
                self.net.now,
                &change,
                &self.sql.rows,
                &self.instances,
                &self.net.rules,
            );
        }
    }
}
