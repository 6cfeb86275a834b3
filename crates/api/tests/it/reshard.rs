//! Slots of the Redis Cluster move to another master while answers are made.

use crate::cluster::{Cluster, read_to};
use jarvis_testkit::{Gate, Step, services::RedisCluster};
use serde_json::json;
use std::sync::Arc;

/// More than come while the slots move.
const WORDS: usize = 50_000;

#[tokio::test]
async fn an_answer_goes_on_while_its_slot_moves_to_another_master() {
    let redis = Arc::new(RedisCluster::start());
    let cluster = Cluster::on(&redis, 2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    let gate = Gate::default();
    let words = (0..WORDS).map(|n| format!("{n} "));
    let words: Vec<_> = words.collect();
    let said = |word: &String| [Step::text(word), Step::Gate(gate.clone())];
    let steps: Vec<_> = words.iter().flat_map(said).collect();
    cluster.node.script(steps);
    let sent = ana.send(&conversation, "count").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let key = cluster.log_key(generation);
    let from = redis.master_of(&key);
    let to = (from + 1) % RedisCluster::MASTERS;
    let mut elsewhere = cluster.at(&ana, 1).events(generation, None).await;
    let mover = Arc::clone(&redis);
    let moving = tokio::task::spawn_blocking(move || mover.reshard(from, to));
    let (mut text, mut whole) = (String::new(), String::new());
    let (mut during, mut after) = (0, 0);
    for word in &words {
        whole.push_str(word);
        // Each word is shown at the other instance, once, before the next one is said.
        read_to(&mut elsewhere, &mut text, &whole).await;
        if moving.is_finished() {
            after += 1;
        } else {
            during += 1;
        }
        if after == 100 {
            break;
        }
        gate.open();
    }
    moving.await.unwrap();
    assert!(
        during > 0 && after == 100,
        "{during} words while slots moved, {after} afterwards"
    );
    assert_eq!(
        redis.command(to, &["EXISTS", &key]),
        "1",
        "the log has moved"
    );
    let path = format!("/api/v1/generations/{generation}");
    let asked = ana.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(asked.status, 202);
    assert_eq!(elsewhere.rest(&text).await.0, whole);
    assert_eq!(ana.ended(generation).await["text"], json!(whole));
}
