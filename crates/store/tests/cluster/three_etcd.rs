use crate::{
    OUTAGE,
    load::{AFTERWARDS, Load, faults, outage},
    open,
};
use jarvis_testkit::services::{PATIENCE, Patroni, Shape};
use std::time::{Duration, Instant};

const SHAPE: Shape = Shape {
    nodes: 2,
    etcd: 3,
    strict: false,
};

/// Which timeline the primary writes on: a promotion begins another.
fn timeline(cluster: &Patroni, primary: usize) -> String {
    let segment = cluster.psql(primary, "SELECT pg_walfile_name(pg_current_wal_lsn())");
    segment.unwrap()[..8].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_etcd_is_not_missed() {
    let mut cluster = Patroni::start(SHAPE);
    let (db, user) = open(&cluster).await;
    let primary = cluster.wait_for_writer(PATIENCE);
    let before = timeline(&cluster, primary);
    let load = Load::start(&db, user.id);
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());

    let leader = cluster.etcd().wait_for_leader();
    cluster.etcd().kill9(leader);
    assert_ne!(cluster.etcd().wait_for_leader(), leader);
    // The lock is kept at the new leader, by the same primary.
    cluster.wait_for_etcd();
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());
    cluster.etcd().restart(leader);
    assert_eq!(cluster.wait_for_writer(PATIENCE), primary);
    assert_eq!(timeline(&cluster, primary), before);

    let acknowledged = load.stop().await;
    println!(
        "leader of etcd lost: longest wait for a write {:.2} s",
        outage(&acknowledged).as_secs_f64()
    );
    assert_eq!(faults(&db, user.id, &acknowledged).await, [""; 0]);
}

/// One member after the other, until too few are left to agree on anything; then the primary, with two of three.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes: scripts/chaos/postgres"]
async fn etcd_may_lose_one_member_and_a_primary_goes_on_without_two() {
    let mut cluster = Patroni::start(SHAPE);
    let (db, user) = open(&cluster).await;
    let primary = cluster.wait_for_writer(PATIENCE);
    let mut acknowledged = Vec::new();

    let leader = cluster.etcd().wait_for_leader();
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let lost = [
        (Some(follower), "a follower of etcd"),
        (Some(leader), "two of three members of etcd"),
        (None, "one of the two members back"),
    ];
    for (member, what) in lost {
        let load = Load::start(&db, user.id);
        assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());
        match member {
            Some(member) => cluster.etcd().kill9(member),
            None => cluster.etcd().restart(leader),
        }
        // Twice as long as the primary's lock lives.
        let until = Instant::now() + Duration::from_secs(40);
        while Instant::now() < until {
            assert!(
                load.wait_for(AFTERWARDS, OUTAGE).await,
                "{what}\n{}",
                cluster.logs()
            );
            assert_eq!(cluster.primary(), Some(primary), "{what}");
        }
        let told = load.stop().await;
        println!(
            "{what}: longest wait for a write {:.2} s in 40 s",
            outage(&told).as_secs_f64()
        );
        acknowledged.extend(told);
    }
    let agreed = cluster.etcd().wait_for_leader();
    assert!([leader, other].contains(&agreed));
    cluster.wait_for_etcd();
    assert_eq!(cluster.wait_for_standby(), 1 - primary);

    let load = Load::start(&db, user.id);
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());
    cluster.kill9(primary);
    assert!(
        load.wait_for(AFTERWARDS, OUTAGE).await,
        "no writes within {OUTAGE:?}\n{}",
        cluster.logs()
    );
    assert_eq!(cluster.wait_for_writer(PATIENCE), 1 - primary);
    let told = load.stop().await;
    println!(
        "primary lost with two of three members of etcd: written again after {:.1} s",
        outage(&told).as_secs_f64()
    );
    acknowledged.extend(told);
    assert_eq!(faults(&db, user.id, &acknowledged).await, [""; 0]);
}
