use crate::{
    OUTAGE,
    load::{AFTERWARDS, Load, faults},
    open,
};
use jarvis_testkit::services::{PATIENCE, Patroni, Shape, wait_until};
use std::time::{Duration, Instant};

/// With its standby gone the primary goes on alone, and what it confirms then is nowhere else: nobody may be promoted until it is
/// back, for all that a standby that was away is ready to.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes: scripts/chaos/postgres"]
async fn a_standby_that_was_away_is_not_promoted() {
    let mut cluster = Patroni::start(Shape::default());
    let (db, user) = open(&cluster).await;
    let primary = cluster.wait_for_writer(PATIENCE);
    let standby = 1 - primary;
    let load = Load::start(&db, user.id);
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());

    cluster.kill9(standby);
    let away = Instant::now();
    assert!(
        load.wait_for(AFTERWARDS, OUTAGE).await,
        "{}",
        cluster.logs()
    );
    println!(
        "standby lost, written again after {:.1} s",
        away.elapsed().as_secs_f64()
    );
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());

    cluster.kill9(primary);
    cluster.restart(standby);
    // Longer than the leader lock lives and two looks at it.
    let patience = Instant::now() + Duration::from_secs(30);
    while Instant::now() < patience {
        assert_eq!(cluster.primary(), None, "{}", cluster.logs());
    }
    println!("primary lost too, standby back: nobody takes writes");

    cluster.restart(primary);
    let back = Instant::now();
    assert_eq!(cluster.wait_for_writer(PATIENCE), primary);
    assert!(
        load.wait_for(AFTERWARDS, PATIENCE).await,
        "{}",
        cluster.logs()
    );
    println!(
        "primary back, written again after {:.1} s",
        back.elapsed().as_secs_f64()
    );
    wait_until("the standby is synchronous again", || {
        cluster.standby() == Some(standby)
    });
    let acknowledged = load.stop().await;
    assert_eq!(faults(&db, user.id, &acknowledged).await, [""; 0]);
}
