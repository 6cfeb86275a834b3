//! A server that dies in mid-answer loses nothing and says nothing twice.

use crate::{client::apply, server::World};
use jarvis_testkit::{Gate, Step};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn an_answer_goes_on_after_a_kill_from_the_last_character_shown() {
    let mut world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world
        .node
        .script([Step::text("Il était "), Step::text("une fo"), Step::Stall]);
    let sent = ana.send(&conversation, "raconte").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut events = ana.events(generation, None).await;
    let mut text = String::new();
    let mut last = String::new();
    while text != "Il était une fo" {
        let event = events.next().await.unwrap();
        apply(&mut text, &event.data);
        last = event.id;
    }
    world.node.script([Step::text("is…")]);
    world.restart().await;
    let ana = ana.at(world.address());
    let (text, end) = ana.events(generation, Some(&last)).await.rest(&text).await;
    assert_eq!(text, "Il était une fois…");
    let end = end.unwrap();
    assert_eq!(
        (end.name.as_str(), end.id.as_str()),
        ("done", &*format!("2-{}", text.len()))
    );
    let resumed = world.node.received(2).await;
    let held = resumed.jarvis.unwrap().resume.unwrap().text;
    assert_eq!(
        held, "Il était une fo",
        "the node continues, it does not begin again"
    );
    let kept = ana
        .get(&format!("/api/v1/generations/{generation}"))
        .await
        .ok();
    assert_eq!(
        (&kept["text"], &kept["epoch"]),
        (&json!("Il était une fois…"), &json!(2))
    );
    assert_eq!(
        ana.messages(&conversation).await[1]["content"],
        "Il était une fois…"
    );
}

#[tokio::test]
async fn a_question_that_was_accepted_is_answered_after_a_kill() {
    let mut world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::Stall]);
    let sent = ana.send(&conversation, "hello").await;
    world.node.received(1).await;
    world.restart().await;
    let ana = ana.at(world.address());
    let ended = ana.ended(sent["generation_id"].as_str().unwrap()).await;
    assert_eq!(
        (&ended["text"], &ended["status"]),
        (&json!("You said: hello"), &json!("done"))
    );
}

#[tokio::test]
async fn a_half_written_character_is_cut_and_written_again() {
    let mut world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::text("caf"), Step::Stall]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    assert_eq!(
        ana.events(generation, None)
            .await
            .next()
            .await
            .unwrap()
            .data["text"],
        "caf"
    );
    world.kill();
    // What a kill in the middle of a write leaves: the first of the two bytes of é.
    let log = world
        .dir
        .path()
        .join("answers")
        .join(format!("{generation}.txt"));
    std::fs::write(&log, b"caf\xc3").unwrap();
    world.node.script([Step::text("é")]);
    world.restart().await;
    let ana = ana.at(world.address());
    let (text, _) = ana.events(generation, Some("1-3")).await.rest("caf").await;
    assert_eq!(text, "café");
}

#[tokio::test]
async fn an_answer_that_kills_its_servers_ends_with_what_there_is() {
    let mut world = World::start().await;
    let mut ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::text("x"), Step::Stall]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut text = String::new();
    apply(
        &mut text,
        &ana.events(generation, None)
            .await
            .next()
            .await
            .unwrap()
            .data,
    );
    for round in 0..2 {
        world.node.script([Step::text("y"), Step::Stall]);
        world.restart().await;
        ana = ana.at(world.address());
        let mut events = ana
            .events(generation, Some(&format!("{}-{}", round + 1, text.len())))
            .await;
        apply(&mut text, &events.next().await.unwrap().data);
    }
    world.restart().await;
    let ana = ana.at(world.address());
    let ended = ana.ended(generation).await;
    assert_eq!(
        (&ended["text"], &ended["status"]),
        (&json!("xyy"), &json!("interrupted"))
    );
    assert_eq!(ended["error"]["code"], "too_many_owners");
    let (replayed, end) = ana.events(generation, None).await.rest("").await;
    assert_eq!(
        (replayed.as_str(), end.unwrap().data["reason"].as_str()),
        ("xyy", Some("too_many_owners"))
    );
}

/// Decided is decided: what the database could not be told before the kill, the next server tells it, and asks no node.
#[tokio::test]
async fn an_answer_that_ended_before_a_kill_does_not_go_on() {
    for (stop, status) in [(false, "done"), (true, "stopped")] {
        let mut world = World::start().await;
        let ana = world.user("ana@example.org").await;
        let conversation = ana.conversation().await;
        let gate = Gate::default();
        world
            .node
            .script([Step::text("the text"), Step::Gate(gate.clone())]);
        let sent = ana.send(&conversation, "q").await;
        let generation = sent["generation_id"].as_str().unwrap();
        let path = format!("/api/v1/generations/{generation}");
        let mut events = ana.events(generation, None).await;
        let mut text = String::new();
        apply(&mut text, &events.next().await.unwrap().data);
        world.refuse_writes(true).await;
        if stop {
            let asked = ana.post(&format!("{path}/cancel"), &json!({})).await;
            assert_eq!(asked.status, 202);
        } else {
            gate.open();
        }
        let (text, end) = events.rest(&text).await;
        assert_eq!(
            (text.as_str(), end.unwrap().name.as_str()),
            ("the text", "interrupted")
        );
        // Whoever comes now finds the text and what was told.
        let now = ana.get(&path).await.ok();
        assert_eq!(
            (&now["text"], &now["status"], &now["error"]["code"]),
            (
                &json!("the text"),
                // Not the end: that is for the database to take.
                &json!("running"),
                &json!("storage_failed")
            )
        );
        let (again, end) = ana.events(generation, None).await.rest("").await;
        let end = end.unwrap();
        assert_eq!(
            (again.as_str(), end.name.as_str(), &end.data["status"]),
            ("the text", "interrupted", &json!("running"))
        );
        // The next server cannot tell the database either, and starts all the same.
        world.restart().await;
        let ana = ana.at(world.address());
        world.refuse_writes(false).await;
        let files = || {
            let answers = world.dir.path().join("answers");
            std::fs::read_dir(answers).unwrap().count()
        };
        while files() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ended = ana.get(&path).await.ok();
        assert_eq!(
            (&ended["text"], &ended["status"], &ended["error"]),
            (&json!("the text"), &json!(status), &json!(null))
        );
        assert_eq!(ended["usage"].is_object(), !stop, "{ended}");
        assert_eq!(world.node.requests().len(), 1, "no node is asked again");
    }
}

#[tokio::test]
async fn a_stop_hands_answers_over_and_closes_sockets() {
    let mut world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let gate = Gate::default();
    world
        .node
        .script([Step::text("so far"), Step::Gate(gate), Step::text("never")]);
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "q"}))
        .await;
    let accepted = page.hear("accepted").await;
    let generation = accepted["generation_id"].as_str().unwrap();
    assert_eq!(page.hear("delta").await["text"], "so far");
    let mut events = ana.events(generation, None).await;
    assert_eq!(events.next().await.unwrap().data["text"], "so far");
    let api = world.api();
    assert!(
        api.shutdown(Duration::from_secs(10)).await,
        "everything ends in time"
    );
    assert_eq!((api.open_sockets(), api.running_answers()), (0, 0));
    let mut frames = Vec::new();
    let code = loop {
        match page.next().await {
            Ok(frame) => frames.push(frame),
            Err(code) => break code,
        }
    };
    assert_eq!(code, Some(1001));
    assert!(
        frames.iter().all(|frame| frame["type"] == "conversation"),
        "nobody is told of an end: {frames:?}"
    );
    assert_eq!(events.next().await, None);
    let conversation = format!(
        "/api/v1/conversations/{}",
        accepted["conversation_id"].as_str().unwrap()
    );
    let refused = ana
        .post(
            &format!("{conversation}/messages"),
            &json!({"content": "x"}),
        )
        .await;
    refused.is_problem(503, "stopping");
    world.node.script([Step::text(", so good")]);
    world.restart().await;
    let ana = ana.at(world.address());
    assert_eq!(ana.ended(generation).await["text"], "so far, so good");
}

#[tokio::test]
async fn logs_of_ended_answers_are_swept_at_the_start() {
    let mut world = World::start().await;
    let stray = world
        .dir
        .path()
        .join("answers/0197a000-0000-7000-8000-000000000000.txt");
    std::fs::write(&stray, "old").unwrap();
    world.restart().await;
    assert!(!stray.exists());
}

#[tokio::test]
async fn a_repeated_question_is_accepted_even_where_no_model_is_left() {
    let mut world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let mut page = world.socket(&ana).await;
    let question = json!({"type": "send", "id": "k", "conversation_id": null, "content": "q"});
    page.say(&question).await;
    let accepted = page.hear("accepted").await;
    ana.ended(accepted["generation_id"].as_str().unwrap()).await;
    world.node = jarvis_testkit::FakeOllama::with_models(Vec::new()).await;
    world.restart().await;
    let mut page = world.socket(&ana.at(world.address())).await;
    page.say(&question).await;
    assert_eq!(page.hear("accepted").await, accepted);
    let generation = accepted["generation_id"].as_str().unwrap();
    assert_eq!(page.follow(generation, "").await.0, "You said: q");
}
