//! Answers on several instances: made by one, followed at any, gone on with by another.

use crate::{
    client::apply,
    cluster::{Cluster, read_to},
};
use jarvis_testkit::{Gate, Step, services::RedisCluster};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_killed_owner_is_followed_by_another_and_readers_see_each_byte_once() {
    let mut cluster = Cluster::start(3).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    cluster
        .node
        .script([Step::text("Il était "), Step::text("une fo"), Step::Stall]);
    let sent = ana.send(&conversation, "raconte").await;
    let generation = sent["generation_id"].as_str().unwrap();
    // On a third instance, which neither makes it nor will; and at the owner itself.
    let mut elsewhere = cluster.at(&ana, 2).events(generation, None).await;
    let mut here = ana.events(generation, None).await;
    let (mut one, mut two) = (String::new(), String::new());
    read_to(&mut elsewhere, &mut one, "Il était une fo").await;
    read_to(&mut here, &mut two, "Il était une fo").await;
    cluster.node.script([Step::text("is…")]);
    cluster.kill(0);
    let (text, end) = elsewhere.rest(&one).await;
    assert_eq!(text, "Il était une fois…");
    let end = end.unwrap();
    assert_eq!(
        (end.name.as_str(), end.id.as_str()),
        ("done", &*format!("2-{}", text.len()))
    );
    let held = cluster.node.received(2).await.jarvis.unwrap();
    assert_eq!(held.resume.unwrap().text, "Il était une fo");
    // Whose instance died comes back at another.
    let ana = cluster.at(&ana, 1);
    let mut events = ana.events(generation, Some("1-16")).await;
    assert_eq!(events.rest("Il était une fo").await.0, text);
    let messages = ana.messages(&conversation).await;
    assert_eq!(messages[1]["content"], "Il était une fois…");
}

#[tokio::test]
async fn an_instance_that_stops_hands_its_answers_over_and_none_counts_as_lost() {
    let mut cluster = Cluster::start(1).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    cluster.node.script([Step::text("a"), Step::Stall]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut text = String::new();
    let mut events = ana.events(generation, None).await;
    read_to(&mut events, &mut text, "a").await;
    // More often than owners may be lost.
    for (round, letter) in ["b", "c", "d", "e"].into_iter().enumerate() {
        let steps = [Step::text(letter), Step::Stall];
        cluster.node.script(steps);
        let next = cluster.add().await;
        let api = cluster.instance(round).api.clone();
        assert!(api.shutdown(Duration::from_secs(10)).await);
        assert_eq!(api.running_answers(), 0);
        let whole = format!("{text}{letter}");
        let last = format!("{}-{}", round + 1, text.len());
        let mut events = cluster.at(&ana, next).events(generation, Some(&last)).await;
        read_to(&mut events, &mut text, &whole).await;
    }
    assert_eq!(text, "abcde");
}

#[tokio::test]
async fn a_stop_is_heard_wherever_the_answer_is_made() {
    let cluster = Cluster::start(2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    cluster.node.script([Step::text("so far"), Step::Stall]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let elsewhere = cluster.at(&ana, 1);
    let mut events = elsewhere.events(generation, None).await;
    let mut text = String::new();
    read_to(&mut events, &mut text, "so far").await;
    let path = format!("/api/v1/generations/{generation}");
    let asked = elsewhere.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!(asked.status, 202);
    let (text, end) = events.rest(&text).await;
    assert_eq!(
        (text.as_str(), end.unwrap().data["status"].as_str()),
        ("so far", Some("stopped"))
    );
    let kept = ana.get(&path).await.ok();
    assert_eq!(
        (&kept["status"], &kept["text"]),
        (&json!("stopped"), &json!("so far"))
    );
}

#[tokio::test]
async fn an_owner_that_slept_shows_nothing_more() {
    let cluster = Cluster::start(2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    let gate = Gate::default();
    cluster.node.script([
        Step::text("one "),
        Step::Gate(gate.clone()),
        Step::text("LATE"),
        Step::Stall,
    ]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let awake = cluster.at(&ana, 1);
    let mut events = awake.events(generation, None).await;
    let mut text = String::new();
    read_to(&mut events, &mut text, "one ").await;
    // One who follows at the sleeper.
    let mut asleep = ana.events(generation, None).await;
    let mut there = String::new();
    read_to(&mut asleep, &mut there, "one ").await;
    let frozen = cluster.freeze(0);
    let more = Gate::default();
    cluster.node.script([
        Step::text("two "),
        Step::Gate(more.clone()),
        Step::text("three"),
    ]);
    read_to(&mut events, &mut text, "one two ").await;
    // It wakes, and its node says more.
    gate.open();
    frozen.thaw();
    read_to(&mut asleep, &mut there, "one two ").await;
    more.open();
    assert_eq!(events.rest(&text).await.0, "one two three");
    assert_eq!(asleep.rest(&there).await.0, "one two three");
    assert_eq!(
        awake.messages(&conversation).await[1]["content"],
        "one two three"
    );
}

#[tokio::test]
async fn who_was_shown_more_than_an_instance_knows_waits_for_it() {
    let cluster = Cluster::start(2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    let gate = Gate::default();
    let steps = [
        Step::text("one "),
        Step::Gate(gate.clone()),
        Step::text("two three"),
    ];
    cluster.node.script(steps);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut followers = Vec::new();
    for instance in 0..2 {
        let at = cluster.at(&ana, instance);
        let mut first = at.events(generation, None).await;
        let mut text = String::new();
        read_to(&mut first, &mut text, "one ").await;
        let ahead = at.events(generation, Some("1-8")).await;
        let too_far = at.events(generation, Some("1-99")).await;
        followers.push((first, ahead, too_far));
    }
    gate.open();
    for (mut first, mut ahead, mut too_far) in followers {
        assert_eq!(first.rest("one ").await.0, "one two three");
        let event = ahead.next().await.unwrap();
        assert_eq!(
            (event.name.as_str(), &event.data["offset"]),
            ("delta", &json!(8))
        );
        let mut text = "one two ".to_owned();
        apply(&mut text, &event.data);
        assert_eq!(ahead.rest(&text).await.0, "one two three");
        assert_eq!(too_far.rest("wrong").await.0, "one two three");
    }
}

#[tokio::test]
async fn an_answer_that_loses_three_owners_ends_with_what_there_is() {
    let mut cluster = Cluster::start(1).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    cluster.node.script([Step::text("1"), Step::Stall]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut text = String::new();
    for (owner, whole) in ["1", "12", "123"].into_iter().enumerate() {
        let last = format!("{owner}-{}", text.len());
        let reader = cluster.at(&ana, owner);
        let mut events = reader.events(generation, Some(&last)).await;
        read_to(&mut events, &mut text, whole).await;
        let next = (whole.len() + 1).to_string();
        cluster.node.script([Step::text(&next), Step::Stall]);
        // The only one left is the next owner.
        cluster.add().await;
        cluster.kill(owner);
    }
    let ended = cluster.at(&ana, 3).ended(generation).await;
    assert_eq!(
        (&ended["text"], &ended["status"], &ended["error"]["code"]),
        (
            &json!("123"),
            &json!("interrupted"),
            &json!("too_many_owners")
        )
    );
}

#[tokio::test]
async fn one_question_sent_to_two_instances_is_answered_once() {
    let cluster = Cluster::start(2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let path = format!("{}/messages", ana.conversation().await);
    let body = json!({"content": "hello"}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ];
    let ask = async |index| {
        let client = cluster.at(&ana, index);
        let asked = client.request(hyper::Method::POST, &path, &headers, body.clone());
        asked.await.ok()
    };
    let (one, two) = tokio::join!(ask(0), ask(1));
    assert_eq!(one, two);
    let generation = one["generation_id"].as_str().unwrap();
    let ended = ana.ended(generation).await;
    assert_eq!(ended["text"], "You said: hello");
    assert_eq!(cluster.node.requests().len(), 1);
}

#[tokio::test]
async fn what_happens_at_one_instance_is_told_at_the_other() {
    let cluster = Cluster::start(2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let mut page = cluster.socket(&ana, 1).await;
    let conversation = ana.conversation().await;
    let told = page.hear("conversation").await;
    assert!(conversation.ends_with(told["conversation"]["id"].as_str().unwrap()));
    assert_eq!(ana.delete(&conversation).await.status, 204);
    page.hear("conversation_deleted").await;
    assert!(
        ana.cookie_post("/api/v1/auth/logout")
            .await
            .status
            .is_success()
    );
    assert_eq!(page.closed().await, Some(4401), "its sign-in has ended");
}

/// Each keeps the page that it has read, and none shows one from before what another has acknowledged.
#[tokio::test]
async fn no_write_at_one_instance_leaves_an_old_page_at_another() {
    const LIST: &str = "/api/v1/conversations?limit=50";
    let mut cluster = Cluster::start(2).await;
    // Told by nobody: it does not depend on hints.
    let deaf = cluster.add_deaf().await;
    let ana = cluster.user(0, "ana@example.org").await;
    let readers = [1, deaf].map(|index| cluster.at(&ana, index));
    for round in 1..=5 {
        let conversation = ana.conversation().await;
        for reader in &readers {
            let page = reader.get(LIST).await.ok();
            assert_eq!(page["items"].as_array().unwrap().len(), round);
        }
        let title = json!({"title": format!("round {round}")});
        ana.patch(&conversation, &title).await.ok();
        for reader in &readers {
            let page = reader.get(LIST).await;
            assert_eq!(page.ok()["items"][0]["title"], title["title"]);
            let tag = [("if-none-match", page.headers["etag"].to_str().unwrap())];
            let same = reader.request(hyper::Method::GET, LIST, &tag, "").await;
            assert_eq!(same.status, 304);
        }
    }
}

#[tokio::test]
async fn a_sign_in_that_has_ended_ends_its_sockets_where_nobody_was_told() {
    let mut cluster = Cluster::start(1).await;
    let deaf = cluster.add_deaf().await;
    let ana = cluster.user(0, "ana@example.org").await;
    let mut page = cluster.socket(&ana, deaf).await;
    let left = ana.cookie_post("/api/v1/auth/logout").await;
    assert!(left.status.is_success());
    assert_eq!(page.closed().await, Some(4401));
}

/// While the master of an answer's log is away, text goes by the database; then by the log again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_while_its_log_is_away() {
    let mut redis = tokio::task::block_in_place(RedisCluster::start);
    let cluster = Cluster::on(&redis, 2).await;
    let ana = cluster.user(0, "ana@example.org").await;
    let conversation = ana.conversation().await;
    let gates: Vec<_> = (0..3).map(|_| Gate::default()).collect();
    cluster.node.script([
        Step::text("log "),
        Step::Gate(gates[0].clone()),
        Step::text("sql "),
        Step::Gate(gates[1].clone()),
        Step::text("more "),
        Step::Gate(gates[2].clone()),
        Step::text("log again"),
    ]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut here = ana.events(generation, None).await;
    let mut elsewhere = cluster.at(&ana, 1).events(generation, None).await;
    let (mut one, mut two) = (String::new(), String::new());
    read_to(&mut here, &mut one, "log ").await;
    read_to(&mut elsewhere, &mut two, "log ").await;
    let master = redis.master_of(&cluster.log_key(generation));
    tokio::task::block_in_place(|| redis.kill9(master));
    gates[0].open();
    read_to(&mut here, &mut one, "log sql ").await;
    read_to(&mut elsewhere, &mut two, "log sql ").await;
    gates[1].open();
    read_to(&mut here, &mut one, "log sql more ").await;
    read_to(&mut elsewhere, &mut two, "log sql more ").await;
    tokio::task::block_in_place(|| redis.restart(master));
    gates[2].open();
    let whole = "log sql more log again";
    assert_eq!(here.rest(&one).await.0, whole);
    assert_eq!(elsewhere.rest(&two).await.0, whole);
    let mut late = String::new();
    let mut events = cluster.at(&ana, 1).events(generation, None).await;
    while let Some(event) = events.next().await {
        apply(&mut late, &event.data);
    }
    assert_eq!(late, whole);
}
