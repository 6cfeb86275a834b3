//! Who is what among the hosts, told from what each of them says. Pure: answers and time are passed in.

use std::fmt;
use tokio::time::Instant;

/// What one host said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// The identity that `initdb` gave the database cluster; all members of one share it.
    pub(super) system: i64,
    pub(super) role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Takes writes. Every promotion begins a timeline with the next number.
    Primary { timeline: u32, written: i64 },
    /// Follows another host; `timeline` is the one it streams, if it does and this user may know.
    Replica {
        timeline: Option<u32>,
        replayed: i64,
    },
}

/// The hosts at one moment. Hosts are named by their place in the configured list; positions are bytes in the write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Topology {
    /// The one host that takes writes, if there is exactly one.
    pub(crate) writer: Option<Writer>,
    /// The hosts that follow the writer on its timeline and may be read from.
    pub(crate) replicas: Vec<Replica>,
    /// Every host, in the order of the list.
    pub(crate) hosts: Vec<HostState>,
}

/// The host that takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writer {
    /// Its place in the list.
    pub(crate) host: usize,
    /// Grows with each promotion.
    pub(crate) timeline: u32,
    /// Since when this process has seen it take writes without a gap. Nobody may take over another's work before everybody had
    /// one full lease from here to renew their own.
    pub(crate) since: Instant,
}

/// A host to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Its place in the list.
    pub(crate) host: usize,
    /// Up to where it shows the writer's commits.
    pub(crate) replayed: i64,
    /// Bytes it lacks of what the writer had written when last asked.
    pub(crate) lag: i64,
}

/// What is known of one host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HostState {
    /// It has not been asked yet.
    #[default]
    Unknown,
    /// It did not answer.
    Down {
        /// Why, in the words of the client library or the server.
        reason: String,
    },
    /// It takes writes.
    Primary {
        /// Its timeline.
        timeline: u32,
    },
    /// It says that it takes writes, and so does a later primary, or one was seen before: what is written here is lost.
    Superseded {
        /// Its timeline.
        timeline: u32,
    },
    /// It says that it takes writes, and so does another host of the same timeline: nobody can tell which one is right.
    Disputed {
        /// The timeline of both.
        timeline: u32,
    },
    /// It follows the writer.
    Replica {
        /// Bytes it lacks of what the writer had written.
        lag: i64,
    },
    /// A standby that does not follow the writer, or not now.
    Detached,
    /// It belongs to another database cluster than the writer, or it is not clear to which one Jarvis's data belongs.
    Foreign {
        /// Its cluster's identity.
        system: i64,
    },
}

impl HostState {
    /// Whether it does what it is there for.
    #[must_use]
    pub fn is_well(&self) -> bool {
        match self {
            // Nothing is known against it.
            Self::Unknown | Self::Primary { .. } | Self::Replica { .. } => true,
            Self::Down { .. }
            | Self::Superseded { .. }
            | Self::Disputed { .. }
            | Self::Detached
            | Self::Foreign { .. } => false,
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not asked yet"),
            Self::Down { reason } => write!(f, "down: {reason}"),
            Self::Primary { timeline } => write!(f, "the primary on timeline {timeline}"),
            Self::Superseded { timeline } => {
                write!(f, "a superseded primary on timeline {timeline}")
            }
            Self::Disputed { timeline } => {
                write!(f, "one of several primaries on timeline {timeline}")
            }
            Self::Replica { lag } => write!(f, "a replica, {lag} bytes behind"),
            Self::Detached => f.write_str("a standby that does not follow the primary"),
            Self::Foreign { system } => write!(f, "a member of another cluster ({system})"),
        }
    }
}

/// Hears every host and says who the writer is: never two, and never one on an older timeline than was seen before.
#[derive(Debug)]
pub(super) struct Judge {
    heard: Vec<Option<Result<Answer, String>>>,
    /// The cluster that the first writer belonged to.
    system: Option<i64>,
    /// The newest timeline that any primary of it was on.
    timeline: u32,
    writer: Option<Writer>,
}

impl Judge {
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            heard: vec![None; hosts],
            system: None,
            timeline: 0,
            writer: None,
        }
    }

    /// Takes in what a host said, or why it said nothing.
    pub(super) fn hear(
        &mut self,
        host: usize,
        said: Result<Answer, String>,
        now: Instant,
    ) -> Topology {
        self.heard[host] = Some(said);
        self.elect(now);
        self.topology()
    }

    fn elect(&mut self, now: Instant) {
        let chosen = self.candidate();
        if let Some((_, timeline)) = chosen {
            self.timeline = timeline;
        }
        if self.writer.map(|writer| (writer.host, writer.timeline)) != chosen {
            self.writer = chosen.map(|(host, timeline)| Writer {
                host,
                timeline,
                since: now,
            });
        }
        if chosen.is_some() {
            self.system = self.cluster();
        }
    }

    /// The one primary on the newest timeline, once every host was asked.
    fn candidate(&self) -> Option<(usize, u32)> {
        if self.heard.contains(&None) {
            return None;
        }
        let cluster = self.cluster()?;
        let newest = self.newest(cluster)?;
        let mut on_it = self.primaries(cluster).filter(|(_, t)| *t == newest);
        let first = on_it.next()?;
        on_it.next().is_none().then_some(first)
    }

    /// The cluster that counts: that of the first writer, before there was one the only one heard of.
    fn cluster(&self) -> Option<i64> {
        let mut systems = self.answers().map(|(_, answer)| answer.system);
        let first = systems.next();
        self.system
            .or_else(|| first.filter(|first| systems.all(|other| other == *first)))
    }

    /// The newest timeline that a primary is on, unless a newer one was seen before.
    fn newest(&self, cluster: i64) -> Option<u32> {
        self.primaries(cluster)
            .map(|(_, timeline)| timeline)
            .max()
            .filter(|newest| *newest >= self.timeline)
    }

    fn answers(&self) -> impl Iterator<Item = (usize, Answer)> {
        self.heard
            .iter()
            .enumerate()
            .filter_map(|(host, said)| match said {
                Some(Ok(answer)) => Some((host, *answer)),
                _ => None,
            })
    }

    fn primaries(&self, cluster: i64) -> impl Iterator<Item = (usize, u32)> {
        self.answers()
            .filter(move |(_, answer)| answer.system == cluster)
            .filter_map(|(host, answer)| match answer.role {
                Role::Primary { timeline, .. } => Some((host, timeline)),
                Role::Replica { .. } => None,
            })
    }

    fn topology(&self) -> Topology {
        let hosts: Vec<HostState> = (0..self.heard.len()).map(|host| self.state(host)).collect();
        let replicas = self
            .answers()
            .filter_map(|(host, answer)| match (&hosts[host], answer.role) {
                (HostState::Replica { lag }, Role::Replica { replayed, .. }) => Some(Replica {
                    host,
                    replayed,
                    lag: *lag,
                }),
                _ => None,
            })
            .collect();
        Topology {
            writer: self.writer,
            replicas,
            hosts,
        }
    }

    fn state(&self, host: usize) -> HostState {
        let answer = match &self.heard[host] {
            None => return HostState::Unknown,
            Some(Err(reason)) => {
                return HostState::Down {
                    reason: reason.clone(),
                };
            }
            Some(Ok(answer)) => *answer,
        };
        if self.cluster() != Some(answer.system) {
            return HostState::Foreign {
                system: answer.system,
            };
        }
        match answer.role {
            Role::Primary { timeline, .. } => self.state_of_primary(host, timeline, answer.system),
            Role::Replica { timeline, replayed } => match self.written() {
                Some((on, written)) if timeline == Some(on) => HostState::Replica {
                    lag: written.saturating_sub(replayed).max(0),
                },
                _ => HostState::Detached,
            },
        }
    }

    fn state_of_primary(&self, host: usize, timeline: u32, cluster: i64) -> HostState {
        if self.newest(cluster) != Some(timeline) {
            HostState::Superseded { timeline }
        } else if self
            .primaries(cluster)
            .any(|other| other.0 != host && other.1 == timeline)
        {
            HostState::Disputed { timeline }
        } else {
            HostState::Primary { timeline }
        }
    }

    /// The writer's timeline, and up to where it had written.
    fn written(&self) -> Option<(u32, i64)> {
        let writer = self.writer?;
        self.answers().find_map(|(host, answer)| match answer.role {
            Role::Primary { written, .. } if host == writer.host => {
                Some((writer.timeline, written))
            }
            _ => None,
        })
    }
}
