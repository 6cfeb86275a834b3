//! What lies in the Redis Cluster, and what holds while nothing of it is there.

use crate::{client::apply, cluster::Cluster, server::PASSWORD};
use jarvis_api::{Options, RateOptions};
use jarvis_testkit::{Step, services::RedisCluster};
use serde_json::json;
use std::time::Duration;
use tokio::{task::block_in_place, time::timeout};

/// Longer than a token is believed without asking the database.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_redis_is_the_installations_names_nobody_and_goes_by_itself() {
    let redis = block_in_place(RedisCluster::start);
    let slow = RateOptions {
        burst: 1000,
        refill: Duration::from_mins(1),
    };
    let counting = |options: &mut Options| {
        options.rate_per_address = slow;
        options.rate_per_email = slow;
        options.requests_per_user = Some(slow);
        options.requests_per_address = Some(slow);
    };
    let cluster = Cluster::on_with(&redis, 2, counting).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let mut page = cluster.socket(&ana, 1).await;
    let conversation = ana.conversation().await;
    page.hear("conversation").await;
    let wrong = json!({"email": "ana@example.org", "password": "not the password"});
    assert_eq!(ana.post("/api/v1/auth/login", &wrong).await.status, 401);
    let sent = ana.send(&conversation, "hello").await;
    let ended = sent["generation_id"].as_str().unwrap();
    assert_eq!(ana.ended(ended).await["status"], "done");
    cluster.node.script([Step::text("so far"), Step::Stall]);
    let sent = ana.send(&conversation, "again").await;
    let running = sent["generation_id"].as_str().unwrap();
    let mut events = cluster.at(&ana, 1).events(running, None).await;
    let mut text = String::new();
    while text != "so far" {
        apply(&mut text, &events.next().await.unwrap().data);
    }
    let log = cluster.log_key(running);
    let (prefix, _) = log.split_once(":{").unwrap();
    let mut keys = Vec::new();
    for node in 0..RedisCluster::MASTERS {
        let found = redis.command(node, &["KEYS", "*"]);
        for key in found.lines().filter(|key| !key.is_empty()) {
            assert!(key.starts_with(&format!("{prefix}:")), "{key}");
            assert!(!key.contains("ana"), "{key}");
            let left: i64 = redis.command(node, &["PTTL", key]).parse().unwrap();
            assert!((1..=86_400_000).contains(&left), "{key}: {left} ms");
            keys.push(key.to_owned());
        }
    }
    // The log of each answer, and the counters: of tries by address and by account, of requests by address and by user.
    for log in [log, cluster.log_key(ended)] {
        assert!(keys.contains(&log), "{log}: {keys:?}");
    }
    assert_eq!(keys.len(), 2 + 4, "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_has_ended_is_not_revived_by_redis_going_and_coming() {
    let mut redis = block_in_place(RedisCluster::start);
    let cluster = Cluster::on(&redis, 2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let mut elsewhere = cluster.at(&ana, 1);
    let mut page = cluster.socket(&ana, 1).await;
    assert_eq!(elsewhere.get("/api/v1/me").await.status, 200);
    for node in 0..RedisCluster::MASTERS {
        block_in_place(|| redis.kill9(node));
    }
    // Nobody can be told of it.
    let left = ana.cookie_post("/api/v1/auth/logout").await;
    assert!(left.status.is_success(), "{left:?}");
    let renewed = elsewhere.renew().await;
    renewed.is_problem(401, "unauthorized");
    let ends = async {
        while elsewhere.get("/api/v1/me").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ends).await.unwrap();
    // And whoever comes is signed in all the same.
    let mut again = cluster.at(&ana, 1);
    again.login("ana@example.org").await;
    assert_eq!(again.get("/api/v1/me").await.status, 200);
    block_in_place(|| {
        for node in 0..RedisCluster::MASTERS {
            redis.restart_alone(node);
        }
        redis.wait_whole();
    });
    for instance in 0..2 {
        let late = cluster.at(&ana, instance);
        late.get("/api/v1/me").await.is_problem(401, "unauthorized");
        late.clone().renew().await.is_problem(401, "unauthorized");
    }
    page.say(&json!({"type": "cancel", "generation_id": "no id"}))
        .await;
    assert_eq!(page.closed().await, Some(4401));
    let body = json!({"email": "ana@example.org", "password": PASSWORD});
    assert_eq!(again.post("/api/v1/auth/login", &body).await.status, 200);
}
