use super::{connect, prefix, until};
use jarvis_domain::Clock;
use jarvis_store::{Limiter, Rate};
use jarvis_testkit::services::RedisCluster;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

const RATE: Rate = Rate {
    burst: 20,
    refill: Duration::from_hours(1),
};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_on_two_instances_get_one_burst() {
    let (cluster, prefix) = (RedisCluster::shared(), prefix());
    let mut limiters = Vec::new();
    for _ in 0..2 {
        let redis = connect(cluster, &prefix).await;
        limiters.push(Arc::new(Limiter::shared(
            RATE,
            Clock::System,
            &redis,
            "email",
        )));
    }
    let mut tries = JoinSet::new();
    for n in 0..50 {
        let limiter = Arc::clone(&limiters[n % 2]);
        tries.spawn(async move { limiter.take("ana@example.org").await });
    }
    let answers = tries.join_all().await;
    let waits: Vec<_> = answers.iter().filter_map(|answer| answer.err()).collect();
    assert_eq!(waits.len(), 30);
    assert!(
        waits
            .iter()
            .all(|wait| *wait <= RATE.refill && !wait.is_zero()),
        "{waits:?}"
    );
    // Others are not concerned, and what was rightful comes back.
    assert_eq!(limiters[0].take("bob@example.org").await, Ok(()));
    limiters[0].give_back("ana@example.org").await;
    assert_eq!(limiters[1].take("ana@example.org").await, Ok(()));
    assert!(limiters[0].take("ana@example.org").await.is_err());
    // Two limits of different names are two.
    let redis = connect(cluster, &prefix).await;
    let address = Limiter::shared(RATE, Clock::System, &redis, "address");
    assert_eq!(address.take("ana@example.org").await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_forgotten_when_it_is_full() {
    let (cluster, prefix) = (RedisCluster::shared(), prefix());
    let redis = connect(cluster, &prefix).await;
    let limiter = Limiter::shared(RATE, Clock::System, &redis, "email");
    let keys = || {
        let of = |node| cluster.command(node, &["KEYS", &format!("{prefix}:*")]);
        let all: String = (0..RedisCluster::MASTERS)
            .map(|node| of(node) + "\n")
            .collect();
        all.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    limiter.take("ana@example.org").await.unwrap();
    let [key] = &keys()[..] else {
        panic!("{:?}", keys())
    };
    assert!(
        !key.contains("ana"),
        "people's addresses are not written down: {key}"
    );
    let left: u64 = cluster
        .command(cluster.master_of(key), &["PTTL", key])
        .parse()
        .unwrap();
    assert!((3_500_000..=3_600_000).contains(&left), "{left} ms");
    limiter.give_back("ana@example.org").await;
    assert!(keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_master_each_instance_counts_by_itself() {
    let mut cluster = tokio::task::block_in_place(RedisCluster::start);
    let prefix = prefix();
    let redis = connect(&cluster, &prefix).await;
    let limiter = Limiter::shared(RATE, Clock::System, &redis, "email");
    limiter.take("ana@example.org").await.unwrap();
    for node in 0..RedisCluster::MASTERS {
        cluster.kill9(node);
    }
    let mut taken = 0;
    while limiter.take("ana@example.org").await.is_ok() {
        taken += 1;
    }
    assert_eq!(taken, RATE.burst);
    until("it is said so", async || {
        redis.trouble().len() == RedisCluster::MASTERS
    })
    .await;
}
