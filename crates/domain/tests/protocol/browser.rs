//! A page: it asks, follows, and comes back elsewhere when its server falls silent.

use crate::world::{Event, Gen, Input, MS, Net, SECOND, Wish};
use jarvis_domain::{Epoch, Status, durable::Reader};

#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Accepted(Gen),
    Alive,
    Delta {
        epoch: Epoch,
        offset: usize,
        text: String,
    },
    Resync {
        epoch: Epoch,
        text: String,
    },
    End(Status),
    Stopped,
}

#[derive(Debug)]
pub(crate) struct Browser {
    index: usize,
    key: u64,
    id: Option<Gen>,
    connection: u64,
    heard: u64,
    held: String,
    epoch: Epoch,
    ended: bool,
    /// When it will press *stop*.
    stop_at: Option<u64>,
    stopped: bool,
}

impl Browser {
    pub(crate) fn new(index: usize, key: u64, watcher: bool, net: &mut Net) -> Self {
        let stops = !watcher && net.rng.chance(15);
        Self {
            index,
            key,
            id: None,
            connection: 0,
            heard: 0,
            held: String::new(),
            epoch: 1,
            ended: false,
            stop_at: stops.then(|| net.rng.within(2 * SECOND, 20 * SECOND)),
            stopped: false,
        }
    }

    /// Whether it has seen the end of its answer.
    pub(crate) fn is_content(&self) -> bool {
        self.ended
    }

    pub(crate) fn wake(&mut self, instances: &[(usize, u64, bool)], net: &mut Net) {
        if self.ended {
            return;
        }
        let silent = net.now.saturating_sub(self.heard) > 1500 * MS;
        let restless = net.now < net.quiet && net.rng.chance(4);
        if self.connection == 0 || silent || restless {
            self.connect(instances, net);
        } else if self.stop_at.is_some_and(|at| net.now > at)
            && !self.stopped
            && let Some(id) = self.id
        {
            self.wish(instances, Wish::Stop { id }, net);
        }
        net.after(400 * MS, Event::Browser(self.index));
    }

    fn connect(&mut self, instances: &[(usize, u64, bool)], net: &mut Net) {
        self.connection = net.number();
        self.heard = net.now;
        let wish = match self.id {
            None => Wish::Start { key: self.key },
            Some(id) => Wish::Follow {
                id,
                held: Reader {
                    epoch: self.epoch,
                    offset: self.held.len(),
                },
            },
        };
        self.wish(instances, wish, net);
    }

    fn wish(&self, instances: &[(usize, u64, bool)], wish: Wish, net: &mut Net) {
        let up: Vec<_> = instances.iter().filter(|(_, _, up)| *up).collect();
        if up.is_empty() {
            return;
        }
        let (to, life, _) = *up[net.rng.index(up.len())];
        let what = Input::Wish {
            browser: self.index,
            connection: self.connection,
            wish,
        };
        net.wake(MS, (to, life), what);
    }

    pub(crate) fn frame(&mut self, connection: u64, frame: Frame, net: &mut Net) {
        if connection != self.connection || self.ended {
            return;
        }
        self.heard = net.now;
        let Some(id) = self.id else {
            if let Frame::Accepted(id) = frame {
                self.id = Some(id);
                self.connection = 0;
            }
            return;
        };
        match frame {
            Frame::Accepted(other) => {
                if other != id {
                    net.check.wrong = Some(format!("key {} began {id} and {other}", self.key));
                }
            }
            Frame::Alive => {}
            Frame::Stopped => self.stopped = true,
            Frame::Delta {
                epoch,
                offset,
                text,
            } => {
                if offset != self.held.len() {
                    let held = self.held.len();
                    net.check.wrong =
                        Some(format!("{id}: a hole or an overlap: {offset}, held {held}"));
                }
                self.held.push_str(&text);
                self.epoch = epoch;
                net.check.shown(id, epoch, &self.held);
            }
            Frame::Resync { epoch, text } => {
                net.check.resynced(id, self.held.len());
                self.held = text;
                self.epoch = epoch;
                net.check.shown(id, epoch, &self.held);
            }
            Frame::End(status) => {
                self.ended = true;
                net.check.ended(id, status, &self.held);
            }
        }
    }
}
