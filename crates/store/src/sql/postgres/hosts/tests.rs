use super::{
    HostState,
    topology::{Answer, Judge, Role, Topology},
};
use std::time::Duration;
use tokio::time::Instant;

const CLUSTER: i64 = 7;

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a host says, beside what it fails with"
)]
fn primary(timeline: u32) -> Result<Answer, String> {
    Ok(Answer {
        system: CLUSTER,
        role: Role::Primary {
            timeline,
            written: 1_000,
        },
    })
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "what a host says, beside what it fails with"
)]
fn replica(timeline: u32, replayed: i64) -> Result<Answer, String> {
    Ok(Answer {
        system: CLUSTER,
        role: Role::Replica {
            timeline: Some(timeline),
            replayed,
        },
    })
}

fn down() -> Result<Answer, String> {
    Err("connection refused".into())
}

/// Two hosts and a clock that moves by a quarter of a second with each answer.
struct Bench {
    judge: Judge,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            judge: Judge::new(2),
            now: Instant::now(),
        }
    }

    fn hear(&mut self, host: usize, said: Result<Answer, String>) -> Topology {
        self.now += Duration::from_millis(250);
        self.judge.hear(host, said, self.now)
    }
}

fn writer(topology: &Topology) -> Option<usize> {
    topology.writer.map(|writer| writer.host)
}

#[test]
fn nobody_is_the_writer_before_every_host_was_asked() {
    let mut bench = Bench::new();
    assert_eq!(writer(&bench.hear(0, primary(1))), None);
    assert_eq!(writer(&bench.hear(1, replica(1, 900))), Some(0));
}

#[test]
fn a_promoted_replica_is_the_writer_although_the_old_one_still_claims_to_be() {
    let mut bench = Bench::new();
    bench.hear(0, primary(1));
    bench.hear(1, replica(1, 900));
    let after = bench.hear(1, primary(2));
    assert_eq!(writer(&after), Some(1));
    assert_eq!(after.hosts[0], HostState::Superseded { timeline: 1 });
}

#[test]
fn an_old_primary_is_not_the_writer_even_when_the_new_one_is_away() {
    let mut bench = Bench::new();
    bench.hear(0, down());
    bench.hear(1, primary(2));
    bench.hear(1, down());
    let after = bench.hear(0, primary(1));
    assert_eq!(writer(&after), None);
    assert_eq!(after.hosts[0], HostState::Superseded { timeline: 1 });
}

#[test]
fn of_two_primaries_on_one_timeline_neither_is_the_writer() {
    let mut bench = Bench::new();
    bench.hear(0, primary(3));
    bench.hear(1, replica(3, 900));
    let after = bench.hear(1, primary(3));
    assert_eq!(writer(&after), None);
    assert_eq!(after.hosts, vec![HostState::Disputed { timeline: 3 }; 2]);
}

#[test]
fn the_writer_counts_as_new_after_every_gap() {
    let mut bench = Bench::new();
    bench.hear(0, primary(1));
    let first = bench.hear(1, replica(1, 900)).writer.unwrap();
    assert_eq!(first.since, bench.now);
    let same = bench.hear(0, primary(1)).writer.unwrap();
    assert_eq!(same, first);
    assert_eq!(writer(&bench.hear(0, down())), None);
    let again = bench.hear(0, primary(1)).writer.unwrap();
    assert_eq!(again.since, bench.now);
}

#[test]
fn only_a_standby_on_the_writers_timeline_is_read_from() {
    let mut bench = Bench::new();
    bench.hear(0, primary(2));
    let behind = bench.hear(1, replica(1, 900));
    assert_eq!(behind.replicas, vec![]);
    assert_eq!(behind.hosts[1], HostState::Detached);
    let with = bench.hear(1, replica(2, 900));
    assert_eq!((with.replicas[0].host, with.replicas[0].lag), (1, 100));
    // Asked later than the writer, it may be ahead of what the writer said.
    let ahead = bench.hear(1, replica(2, 1_100));
    assert_eq!(
        (ahead.replicas[0].replayed, ahead.replicas[0].lag),
        (1_100, 0)
    );
}

#[test]
fn a_host_of_another_cluster_does_not_unseat_the_writer() {
    let foreign = || {
        Ok(Answer {
            system: CLUSTER + 1,
            role: Role::Primary {
                timeline: 9,
                written: 0,
            },
        })
    };
    let mut bench = Bench::new();
    bench.hear(0, primary(1));
    bench.hear(1, down());
    let after = bench.hear(1, foreign());
    assert_eq!(writer(&after), Some(0));
    assert_eq!(
        after.hosts[1],
        HostState::Foreign {
            system: CLUSTER + 1
        }
    );

    let mut undecided = Bench::new();
    undecided.hear(0, primary(1));
    assert_eq!(writer(&undecided.hear(1, foreign())), None);
}

#[test]
fn a_segment_names_its_timeline() {
    assert_eq!(super::timeline_of("0000001A0000000000000001").unwrap(), 26);
    assert!(super::timeline_of("archive").is_err());
}
