//! Which of the configured PostgreSQL hosts takes writes, looked at four times a second.
//!
//! Every host is asked over a connection of its own, in a task of its own, so that one that hangs delays no other. What they say
//! goes to a [`Judge`], whose verdict is published as a [`Topology`].

#[cfg(test)]
mod tests;
mod topology;

pub use topology::HostState;
pub(super) use topology::Topology;

use super::connect;
use crate::{Host, PostgresOptions};
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use std::{
    mem::discriminant,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use topology::{Answer, Judge, Role};

/// How often a host is asked.
const EVERY: Duration = Duration::from_millis(250);

/// What a host is asked. The timeline is the one that the next record is written on, which the name of the current segment begins
/// with; the control file's would lag behind a promotion until the checkpoint after it has ended.
const QUESTION: &str = "
    SELECT (SELECT system_identifier FROM pg_control_system()) AS system,
           CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END AS segment,
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
               - '0/0'::pg_lsn)::BIGINT AS position,
           (SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming') AS streamed";

/// How long a host may take to answer before it counts as down. Shorter than a lease, so that none runs out in a gap that nobody saw.
const PATIENCE: Duration = Duration::from_secs(1);

/// The hosts, watched for as long as this value lives.
#[derive(Debug)]
pub(super) struct Hosts {
    topology: watch::Receiver<Arc<Topology>>,
    /// Ends with this value.
    asking: Mutex<JoinSet<()>>,
}

impl Hosts {
    /// Begins to ask.
    pub(super) fn watch(database: &PostgresOptions) -> Self {
        let court = Arc::new(Court::new(database.hosts.clone()));
        let topology = court.verdict.subscribe();
        let mut asking = JoinSet::new();
        for (place, host) in database.hosts.iter().enumerate() {
            let options = connect::options(host, database)
                .application_name("jarvis (looking for the primary)");
            asking.spawn(ask_on(place, options, Arc::clone(&court)));
        }
        Self {
            topology,
            asking: Mutex::new(asking),
        }
    }

    /// As they were when last asked.
    pub(super) fn now(&self) -> Arc<Topology> {
        Arc::clone(&self.topology.borrow())
    }

    /// The place of the one that takes writes, waited for.
    pub(super) async fn writer(&self, within: Duration) -> Option<usize> {
        let place = |topology: &Topology| topology.writer.map(|writer| writer.host);
        let now = place(&self.topology.borrow());
        if now.is_some() {
            return now;
        }
        let mut verdicts = self.topology.clone();
        let coming = verdicts.wait_for(|topology| topology.writer.is_some());
        let topology = timeout(within, coming).await.ok()?.ok()?;
        place(&topology)
    }

    /// Asks no more.
    pub(super) fn stop(&self) {
        lock(&self.asking).abort_all();
    }
}

/// Where the answers of all hosts come together.
struct Court {
    hosts: Vec<Host>,
    judge: Mutex<Judge>,
    verdict: watch::Sender<Arc<Topology>>,
}

impl Court {
    fn new(hosts: Vec<Host>) -> Self {
        let unknown = Topology {
            hosts: vec![HostState::Unknown; hosts.len()],
            ..Topology::default()
        };
        Self {
            judge: Mutex::new(Judge::new(hosts.len())),
            verdict: watch::Sender::new(Arc::new(unknown)),
            hosts,
        }
    }

    fn hear(&self, host: usize, said: Result<Answer, String>) {
        // Held until the verdict is out, so that a later one is not overtaken.
        let mut judge = lock(&self.judge);
        let after = Arc::new(judge.hear(host, said, Instant::now()));
        let before = self.verdict.send_replace(Arc::clone(&after));
        drop(judge);
        self.tell(&before, &after);
    }

    /// Logs what has changed but for a replica's lag.
    fn tell(&self, before: &Topology, after: &Topology) {
        for (host, (was, is)) in before.hosts.iter().zip(&after.hosts).enumerate() {
            if discriminant(was) != discriminant(is) {
                tell_of(&self.hosts[host], is);
            }
        }
        let place =
            |topology: &Topology| topology.writer.map(|writer| (writer.host, writer.timeline));
        if place(before) == place(after) {
            return;
        }
        if let Some((host, timeline)) = place(after) {
            let host = &self.hosts[host];
            tracing::info!(%host, timeline, "writes go to this database host");
        } else {
            tracing::warn!("no database host takes writes");
        }
    }
}

fn tell_of(host: &Host, is: &HostState) {
    match is {
        HostState::Superseded { .. } | HostState::Disputed { .. } | HostState::Foreign { .. } => {
            tracing::error!(%host, "database host is {is}: nothing is written there");
        }
        HostState::Down { .. } | HostState::Detached => {
            tracing::warn!(%host, "database host is {is}");
        }
        HostState::Unknown | HostState::Primary { .. } | HostState::Replica { .. } => {
            tracing::info!(%host, "database host is {is}");
        }
    }
}

/// Asks one host for ever.
async fn ask_on(place: usize, options: PgConnectOptions, court: Arc<Court>) {
    let mut connection = None;
    let mut rounds = interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let said = match timeout(PATIENCE, ask(&mut connection, &options)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} ms", PATIENCE.as_millis())),
        };
        if said.is_err() {
            // Whatever it would still say belongs to an old question.
            connection = None;
        }
        court.hear(place, said);
    }
}

async fn ask(
    connection: &mut Option<PgConnection>,
    options: &PgConnectOptions,
) -> Result<Answer, sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(PgConnection::connect_with(options).await?),
    };
    let row = sqlx::query(QUESTION).fetch_one(connection).await?;
    let position = row.try_get::<Option<i64>, _>("position")?.unwrap_or(0);
    let role = match row.try_get::<Option<String>, _>("segment")? {
        Some(segment) => Role::Primary {
            timeline: timeline_of(&segment)?,
            written: position,
        },
        None => Role::Replica {
            timeline: row
                .try_get::<Option<i32>, _>("streamed")?
                .and_then(|timeline| u32::try_from(timeline).ok()),
            replayed: position,
        },
    };
    Ok(Answer {
        system: row.try_get("system")?,
        role,
    })
}

/// The first eight of a segment's hexadecimal digits.
fn timeline_of(segment: &str) -> Result<u32, sqlx::Error> {
    segment
        .get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| sqlx::Error::Protocol(format!("`{segment}` names no segment of the log")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
