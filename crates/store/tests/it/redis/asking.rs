//! A slot that is on its way from one master to another, and stays so.

use super::{connect, prefix};
use crate::answers::{
    done, drain,
    streams::{begin, key},
};
use jarvis_domain::{Clock, GenerationId};
use jarvis_store::{AnswerLog, Limiter, LogError, Rate};
use jarvis_testkit::services::RedisCluster;
use std::time::Duration;

fn slot(cluster: &RedisCluster, key: &str) -> String {
    cluster.command(0, &["CLUSTER", "KEYSLOT", key])
}

/// Begins to move the slot of `key` to another master.
fn begin_move(cluster: &RedisCluster, key: &str) -> (usize, usize) {
    let from = cluster.master_of(key);
    let to = (from + 1) % RedisCluster::MASTERS;
    let slot = slot(cluster, key);
    let [source, target] = [from, to].map(|node| cluster.command(node, &["CLUSTER", "MYID"]));
    cluster.command(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
    cluster.command(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    (from, to)
}

fn move_key(cluster: &RedisCluster, key: &str, (from, to): (usize, usize)) {
    let port = cluster.port(to).to_string();
    let words = [
        "MIGRATE",
        "127.0.0.1",
        &port,
        key,
        "0",
        "5000",
        "AUTH",
        RedisCluster::PASSWORD,
    ];
    assert_eq!(cluster.command(from, &words), "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_read_and_written_where_its_log_has_gone() {
    let cluster = tokio::task::block_in_place(RedisCluster::start);
    let prefix = prefix();
    let one = AnswerLog::shared(&connect(&cluster, &prefix).await);
    let other = AnswerLog::shared(&connect(&cluster, &prefix).await);
    let id = GenerationId::new();
    let mut late = begin(&one, id).await;
    late.append("before ", 1).await.unwrap();
    let key = key(&prefix, id);
    let (from, to) = begin_move(&cluster, &key);
    // What has not gone yet is where it was.
    late.append("the move ", 2).await.unwrap();
    move_key(&cluster, &key, (from, to));
    assert!(matches!(
        late.append("lost", 3).await,
        Err(LogError::Away(_))
    ));
    assert_eq!(
        other.snapshot(id).await.unwrap().unwrap().text,
        "before the move "
    );

    let mut writer = other.take_up(id, 2).await.unwrap().go_on().unwrap();
    writer.append("and after", 4).await.unwrap();
    assert!(matches!(late.take_up().await, Err(LogError::Fenced)));
    late.hand_over(done());
    let reader = one.reader(id, 0).await.unwrap().unwrap();
    writer.finish(done()).await.unwrap();
    assert_eq!(
        drain(reader).await,
        ("before the move and after".to_owned(), done())
    );
    let slot = slot(&cluster, &key);
    let there = |node| cluster.command(node, &["CLUSTER", "COUNTKEYSINSLOT", &slot]);
    assert_eq!([there(from), there(to)], ["0", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_counted_together_where_its_bucket_has_gone() {
    const RATE: Rate = Rate {
        burst: 20,
        refill: Duration::from_hours(1),
    };
    let cluster = tokio::task::block_in_place(RedisCluster::start);
    let prefix = prefix();
    let mut limiters = Vec::new();
    for _ in 0..2 {
        let redis = connect(&cluster, &prefix).await;
        limiters.push(Limiter::shared(RATE, Clock::System, &redis, "email"));
    }
    limiters[0].take("ana@example.org").await.unwrap();
    let keys: Vec<String> = (0..RedisCluster::MASTERS)
        .map(|node| cluster.command(node, &["KEYS", &format!("{prefix}:*")]))
        .filter(|keys| !keys.is_empty())
        .collect();
    let [key] = &keys[..] else { panic!("{keys:?}") };
    let ends = begin_move(&cluster, key);
    let mut taken = 1;
    for n in 0..40 {
        if n == 9 {
            move_key(&cluster, key, ends);
        }
        taken += u32::from(limiters[n % 2].take("ana@example.org").await.is_ok());
    }
    assert_eq!(taken, RATE.burst);
}
