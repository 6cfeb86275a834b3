use crate::{
    OUTAGE,
    load::{AFTERWARDS, Load, faults, outage},
    open,
};
use jarvis_domain::ConversationId;
use jarvis_testkit::services::{PATIENCE, Patroni, Shape};
use std::env;

/// How many primaries are lost, one after the other: one, unless `JARVIS_CHAOS_ROUNDS` asks for more.
fn rounds() -> usize {
    env::var("JARVIS_CHAOS_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_primary() {
    let mut cluster = Patroni::start(Shape::default());
    let (db, user) = open(&cluster).await;
    let load = Load::start(&db, user.id);
    for round in 1..=rounds() {
        assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());
        let old = cluster.wait_for_writer(PATIENCE);
        // In turn the whole machine, which is noticed by its silence, and its PostgreSQL alone, which Patroni sees.
        let whole = round % 2 == 1;
        if whole {
            cluster.kill9(old);
        } else {
            cluster.kill9_postgres(old);
        }
        let killed = tokio::time::Instant::now();
        assert!(
            load.wait_for(AFTERWARDS, OUTAGE).await,
            "no writes within {OUTAGE:?} after round {round}\n{}",
            cluster.logs()
        );
        println!(
            "round {round}: {} lost, written again after {:.1} s",
            if whole {
                "primary"
            } else {
                "PostgreSQL of the primary"
            },
            killed.elapsed().as_secs_f64()
        );
        assert_ne!(cluster.wait_for_writer(PATIENCE), old);
        if whole {
            cluster.restart(old);
        }
        assert_eq!(cluster.wait_for_standby(), old);
    }
    let acknowledged = load.stop().await;
    println!(
        "{} writes acknowledged, longest wait {:.1} s",
        acknowledged.len(),
        outage(&acknowledged).as_secs_f64()
    );
    assert_eq!(faults(&db, user.id, &acknowledged).await, [""; 0]);

    // The check sees a row that is there twice, and one that is lost.
    let primary = cluster.wait_for_writer(PATIENCE);
    let (one, copy) = (acknowledged[0].conversation, ConversationId::new());
    let double = format!(
        "INSERT INTO conversations (id, user_id, title, created_at, updated_at)
         SELECT '{copy}', user_id, title, created_at, updated_at FROM conversations WHERE id = '{one}'"
    );
    let single = format!("DELETE FROM conversations WHERE id = '{copy}'");
    let none = format!("DELETE FROM conversations WHERE id = '{one}'");
    for (change, fault) in [
        (double, Some("doubled")),
        (single, None),
        (none, Some("lost")),
    ] {
        // Read from the standby, it must be seen there.
        let change = format!("SET synchronous_commit = remote_apply; {change}");
        cluster.psql(primary, &change).unwrap();
        let found = faults(&db, user.id, &acknowledged).await;
        let kinds: Vec<_> = found.iter().map(|f| f.split(':').next()).collect();
        assert_eq!(kinds, Vec::from_iter(fault.map(Some)), "{found:?}");
    }
}
