use crate::{
    OUTAGE,
    load::{AFTERWARDS, Load, faults},
    open,
};
use jarvis_testkit::services::{PATIENCE, Patroni, Shape, wait_until};
use sqlx::{ConnectOptions as _, Executor as _, postgres::PgConnectOptions};
use tokio::{task::JoinSet, time::timeout};

/// A primary that slept through its succession wakes up and still believes in itself. What it is asked to write before it finds out
/// must be confirmed to nobody, and be nowhere afterwards.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes: scripts/chaos/postgres"]
async fn a_primary_that_wakes_up_confirms_nothing() {
    let mut cluster = Patroni::start(Shape::default());
    let (db, user) = open(&cluster).await;
    let old = cluster.wait_for_writer(PATIENCE);
    cluster
        .psql(
            old,
            "CREATE TABLE ghost (n INT); GRANT ALL ON ghost TO jarvis",
        )
        .unwrap();
    let port = cluster.hosts()[old].1;
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username(Patroni::USER)
        .password(cluster.password())
        .database(Patroni::DATABASE);
    let load = Load::start(&db, user.id);
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());

    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(options.connect().await.unwrap());
    }
    cluster.pause(old);
    // These lie in its sockets and are the first it reads when it wakes up.
    let mut writes = JoinSet::new();
    for (n, mut connection) in connections.into_iter().enumerate() {
        let text = sqlx::AssertSqlSafe(format!("INSERT INTO ghost VALUES ({n})"));
        writes.spawn(async move { connection.execute(sqlx::raw_sql(text)).await.map(drop) });
    }
    assert!(
        load.wait_for(AFTERWARDS, OUTAGE).await,
        "no writes within {OUTAGE:?}\n{}",
        cluster.logs()
    );
    let new = cluster.wait_for_writer(PATIENCE);
    assert_ne!(new, old);

    cluster.resume(old);
    let answers = timeout(PATIENCE, writes.join_all()).await;
    for answer in answers.expect("a woken primary lets its clients go") {
        let refused = answer.expect_err("a woken primary confirmed a write");
        println!("the woken primary said: {refused}");
    }
    let cancelled = "canceling the wait for synchronous replication";
    for line in cluster
        .logs()
        .lines()
        .filter(|line| line.contains(cancelled))
    {
        println!("its log: {line}");
    }
    wait_until("the old primary follows the new one", || {
        cluster.replicas() == [old]
    });
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());
    let acknowledged = load.stop().await;
    assert_eq!(faults(&db, user.id, &acknowledged).await, [""; 0]);
    assert_eq!(
        cluster.psql(new, "SELECT COUNT(*) FROM ghost").unwrap(),
        "0"
    );
}
