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

#[tokio::test(flavor = "multi_thread")]
async fn tries_taken_by_the_handful_are_never_more_than_the_burst() {
    const BY_HANDFULS: Rate = Rate {
        burst: 40,
        refill: Duration::from_hours(1),
    };
    let (cluster, prefix) = (RedisCluster::shared(), prefix());
    let mut limiters = Vec::new();
    for _ in 0..2 {
        let redis = connect(cluster, &prefix).await;
        let limiter = Limiter::shared_by_handfuls(BY_HANDFULS, Clock::System, &redis, "user");
        limiters.push(Arc::new(limiter));
    }
    let asked = || {
        let node = |node| cluster.command(node, &["INFO", "commandstats"]);
        let all: Vec<_> = (0..RedisCluster::MASTERS).map(node).collect();
        let calls = all.iter().flat_map(|info| info.lines());
        calls
            .filter_map(|line| line.strip_prefix("cmdstat_eval:calls=")?.split(',').next())
            .map(|calls| calls.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    let before = asked();
    let mut tries = JoinSet::new();
    for n in 0..400 {
        let limiter = Arc::clone(&limiters[n % 2]);
        tries.spawn(async move { limiter.take("ana").await });
    }
    let answers = tries.join_all().await;
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    // All of the burst is used, however many come at once, and nothing beyond it.
    assert_eq!(taken, 40);
    let waits = answers.iter().filter_map(|answer| answer.err());
    let longest = BY_HANDFULS.refill;
    assert!(
        waits
            .into_iter()
            .all(|wait| !wait.is_zero() && wait <= longest)
    );
    // Other tests ask on the same cluster, about other keys; of this one's 400 tries, eight handfuls of five and two refusals.
    let asked = asked() - before;
    assert!(asked < 200, "{asked} calls of the cluster for 400 tries");
}

#[tokio::test(flavor = "multi_thread")]
async fn handfuls_are_counted_by_each_instance_while_the_master_is_away_and_together_again() {
    let mut cluster = tokio::task::block_in_place(RedisCluster::start);
    let prefix = prefix();
    let redis = connect(&cluster, &prefix).await;
    let limiter = Limiter::shared_by_handfuls(RATE, Clock::System, &redis, "user");
    let all = async |key: &str| {
        let mut taken = 0;
        while limiter.take(key).await.is_ok() {
            taken += 1;
        }
        taken
    };
    assert_eq!(all("ana").await, RATE.burst);
    for node in 0..RedisCluster::MASTERS {
        cluster.kill9(node);
    }
    until("nobody is there", async || {
        redis.trouble().len() == RedisCluster::MASTERS
    })
    .await;
    assert_eq!(all("bob").await, RATE.burst);
    tokio::task::block_in_place(|| {
        for node in 0..RedisCluster::MASTERS {
            cluster.restart_alone(node);
        }
        cluster.wait_whole();
    });
    until("all are there", async || redis.trouble().is_empty()).await;
    // The cluster has not heard of bob yet, and it is asked again.
    assert_eq!(all("bob").await, RATE.burst);
    let elsewhere = connect(&cluster, &prefix).await;
    let other = Limiter::shared_by_handfuls(RATE, Clock::System, &elsewhere, "user");
    assert!(other.take("bob").await.is_err());
}
