//! A database that several may use, and nothing to share answers through.

use crate::cluster::{Cluster, read_to};
use jarvis_api::ApiError;
use jarvis_testkit::Step;
use std::time::Duration;

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
