//! A database that several may use, and nothing to share answers through.

use crate::cluster::{Cluster, read_to};
use jarvis_api::ApiError;
use jarvis_testkit::{Step, services::RedisCluster};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test]
async fn a_second_instance_is_refused_and_the_first_goes_on() {
    let mut cluster = Cluster::without_redis().await;
    let first = cluster.add().await;
    let ana = cluster.user(first, "ana@example.org").await;
    let conversation = ana.conversation().await;
    cluster.node.script([Step::text("so far"), Step::Stall]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut events = ana.events(generation, None).await;
    let mut text = String::new();
    read_to(&mut events, &mut text, "so far").await;

    let refused = cluster.try_add().await.unwrap_err();
    assert!(matches!(refused, ApiError::NotAlone), "{refused}");
    assert_eq!(cluster.instance(first).api.running_answers(), 1);

    // Its place is free as soon as it has gone in order.
    let api = cluster.instance(first).api.clone();
    assert!(api.shutdown(Duration::from_secs(10)).await);
    cluster.node.script([Step::text("!")]);
    let second = cluster.add().await;
    let ana = cluster.at(&ana, second);
    let mut events = ana.events(generation, None).await;
    assert_eq!(events.rest("").await.0, "so far!");
}

#[tokio::test]
async fn one_that_was_killed_is_followed_when_its_lease_has_run_out() {
    let mut cluster = Cluster::without_redis().await;
    let first = cluster.add().await;
    let ana = cluster.user(first, "ana@example.org").await;
    cluster.kill(first);
    let second = cluster.add().await;
    let conversation = cluster.at(&ana, second).conversation().await;
    assert!(!conversation.is_empty());
}

#[tokio::test]
async fn one_that_is_left_out_says_so_until_the_others_are_gone() {
    let mut cluster = Cluster::without_redis().await;
    let first = cluster.add().await;
    let ana = cluster.user(first, "ana@example.org").await;
    let others = async || {
        let status = ana.get("/api/v1/status").await.ok();
        let components = status["components"].as_array().unwrap().clone();
        let of = components
            .into_iter()
            .find(|part| part["name"] == "instances");
        of.map(|part| part["detail"].as_str().unwrap().to_owned())
    };
    assert_eq!(others().await, None);
    // It has what it shares answers through, and cannot know that the first has not.
    cluster.share(RedisCluster::shared());
    let second = cluster.add().await;
    let told = loop {
        match others().await {
            Some(told) => break told,
            None => sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(
        told.contains("another instance works on this database"),
        "{told}"
    );
    let api = cluster.instance(second).api.clone();
    assert!(api.shutdown(Duration::from_secs(10)).await);
    while others().await.is_some() {
        sleep(Duration::from_millis(20)).await;
    }
}
