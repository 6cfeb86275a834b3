//! What goes wrong, and when.

use crate::{
    instance::Instance,
    world::{Event, Gen, MS, Net, SECOND, Server, World, master_of},
};

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// `kill -9`.
    Crash(usize),
    /// A stop in due form.
    Stop(usize),
    Start(usize),
    /// SIGSTOP, for so long.
    Pause(usize, u64),
    /// Whatever it was paused for, it goes on.
    Wake(usize),
    /// The primary dies and its replica takes over after a while; or it is only started again.
    SqlDown(u64),
    SqlUp,
    /// A master dies for so long, and loses what came in the last so many microseconds.
    RedisDown(usize, u64, u64),
    RedisUp(usize),
    Cut(usize, Server, u64),
}

/// Draws the faults of one schedule.
pub(crate) fn plan(net: &mut Net) {
    if net.rng.chance(8) {
        return apart(net);
    }
    let many = net.rng.within(1, 14);
    for _ in 0..many {
        let latest = net.quiet - 12 * SECOND;
        let at = net.rng.within(SECOND, latest);
        let fault = draw(net);
        net.after(at, Event::Fault(fault.clone()));
        // Faults like company: the one case that cannot be mended needs two at once.
        if net.rng.chance(30) {
            let other = draw(net);
            let later = net.rng.within(0, 600 * MS);
            net.after(at + later, Event::Fault(other));
        }
    }
}

/// A network in two halves for long: one instance cannot reach SQL, the others cannot reach the logs.
fn apart(net: &mut Net) {
    net.quiet = 130 * SECOND;
    net.slowness = 12;
    let alone = net.rng.index(3);
    let long = net.rng.within(60 * SECOND, 110 * SECOND);
    let at = net.rng.within(4 * SECOND, 15 * SECOND);
    net.after(at, Event::Fault(Fault::Cut(alone, Server::Sql, long)));
    for other in (0..3).filter(|other| *other != alone) {
        for master in 0..3 {
            let cut = Fault::Cut(other, Server::Redis(master), long);
            net.after(at, Event::Fault(cut));
        }
    }
}

fn draw(net: &mut Net) -> Fault {
    let who = net.rng.index(3);
    let short = net.rng.within(20 * MS, 2 * SECOND);
    let long = net.rng.within(2 * SECOND, 11 * SECOND);
    match net.rng.index(10) {
        0 | 1 => Fault::Crash(who),
        2 => Fault::Stop(who),
        3 | 4 => Fault::Pause(who, long),
        5 => Fault::SqlDown(long),
        6 => Fault::SqlDown(short),
        7 => Fault::RedisDown(who, short, net.rng.within(0, SECOND)),
        8 => Fault::RedisDown(who, long, net.rng.within(0, SECOND)),
        _ => {
            let server = if net.rng.chance(50) {
                Server::Sql
            } else {
                Server::Redis(net.rng.index(3))
            };
            Fault::Cut(who, server, net.rng.within(SECOND, 20 * SECOND))
        }
    }
}

/// The worst moment for the log to lose its end is just after a new owner has fenced it, with the old one about to wake.
pub(crate) fn ambush(id: Gen, net: &mut Net) {
    if net.now >= net.quiet - 2 * SECOND || !net.rng.chance(25) {
        return;
    }
    let at = net.rng.within(MS, 400 * MS);
    let down = net.rng.within(MS, 100 * MS);
    let lost = net.rng.within(100 * MS, SECOND);
    net.after(
        at,
        Event::Fault(Fault::RedisDown(master_of(id), down, lost)),
    );
    for who in 0..3 {
        net.after(at + down + MS, Event::Fault(Fault::Wake(who)));
    }
}

impl World {
    pub(crate) fn fault(&mut self, fault: &Fault) {
        let now = self.net.now;
        self.net.trace(|| format!("fault: {fault:?}"));
        match *fault {
            Fault::Crash(who) => self.instances[who].crash(&mut self.net),
            Fault::Stop(who) => self.instances[who].stop(&mut self.net),
            Fault::Start(who) => {
                let life = self.instances[who].address().1 + 1;
                self.instances[who] = Instance::start(who, life, &mut self.net);
            }
            Fault::Pause(who, long) => {
                self.instances[who].pause(now + long);
                self.net.check.touched(who, now + long);
            }
            Fault::Wake(who) => self.instances[who].pause(now),
            Fault::SqlDown(long) => {
                if !self.sql.up {
                    return;
                }
                let waiting = self.sql.waiting.len();
                let committed = self.net.rng.index(waiting + 1);
                let (rules, plant) = (self.net.rules, self.net.plant);
                self.sql.crash(committed, now, &rules, plant);
                self.look_at_changes();
                self.net.after(long, Event::Fault(Fault::SqlUp));
            }
            Fault::SqlUp => {
                self.sql.up = true;
                self.sql.server += 1;
                let off = i64::try_from(self.net.rng.within(0, 20)).unwrap() - 10;
                self.sql.skew = match self.net.rng.index(4) {
                    0 => off * 1_000_000,
                    1 => off * 3_600_000_000,
                    _ => self.sql.skew,
                };
            }
            Fault::RedisDown(which, long, lost) => {
                if !self.redis[which].up {
                    return;
                }
                let until = now.saturating_sub(lost);
                for (id, to) in self.redis[which].crash(until) {
                    if self
                        .sql
                        .rows
                        .get(&id)
                        .is_none_or(|row| row.kept.text.len() < to)
                    {
                        self.net.check.lost(id, to);
                    }
                }
                self.net.after(long, Event::Fault(Fault::RedisUp(which)));
            }
            Fault::RedisUp(which) => self.redis[which].up = true,
            Fault::Cut(who, server, long) => {
                self.net.cuts.push((who, server, now + long));
                if server == Server::Sql {
                    self.net.check.touched(who, now + long);
                }
            }
        }
    }
}
