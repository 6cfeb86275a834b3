//! Nodes and stores that fail.

use crate::{client::apply, server::World};
use jarvis_testkit::{FakeOllama, Step};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn a_node_that_breaks_off_is_asked_to_go_on() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    for text in ["one ", "two ", "three ", "four "] {
        world.node.script([Step::text(text), Step::Cut]);
    }
    world.node.script([Step::text("five")]);
    let sent = ana.send(&conversation, "q").await;
    let ended = ana.ended(sent["generation_id"].as_str().unwrap()).await;
    assert_eq!(
        (&ended["text"], &ended["status"]),
        (&json!("one two three four five"), &json!("done"))
    );
    let asked = world.node.requests();
    assert_eq!(
        asked[4]
            .jarvis
            .as_ref()
            .unwrap()
            .resume
            .as_ref()
            .unwrap()
            .text,
        "one two three four "
    );
}

#[tokio::test]
async fn a_node_that_breaks_off_without_a_word_again_and_again_leaves_what_there_is() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    for _ in 0..3 {
        world.node.script([Step::text("a"), Step::Cut]);
    }
    for _ in 0..3 {
        world.node.script([Step::Cut]);
    }
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let (text, end) = ana.events(generation, None).await.rest("").await;
    let end = end.unwrap();
    assert_eq!(
        (text.as_str(), end.name.as_str(), &end.data["status"]),
        ("aaa", "interrupted", &json!("interrupted"))
    );
    assert_eq!(end.data["reason"], "node_lost");
    let kept = ana
        .get(&format!("/api/v1/generations/{generation}"))
        .await
        .ok();
    assert_eq!(
        (&kept["text"], &kept["status"], &kept["error"]["code"]),
        (&json!("aaa"), &json!("interrupted"), &json!("node_lost"))
    );
    assert_eq!(world.node.requests().len(), 6);
}

#[tokio::test]
async fn a_refusal_fails_the_answer_with_the_nodes_words() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let mut page = world.socket(&ana).await;
    world
        .node
        .script([Step::Refuse(400, "this model does not chat".into())]);
    page.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "q"}))
        .await;
    let accepted = page.hear("accepted").await;
    let end = page.hear("interrupted").await;
    assert_eq!(
        (&end["status"], &end["reason"]),
        (&json!("failed"), &json!("rejected"))
    );
    assert!(
        end["message"]
            .as_str()
            .unwrap()
            .contains("this model does not chat"),
        "{end}"
    );
    let path = format!(
        "/api/v1/conversations/{}",
        accepted["conversation_id"].as_str().unwrap()
    );
    let message = &ana.messages(&path).await[1];
    assert_eq!(
        (&message["content"], &message["generation"]["status"]),
        (&json!(""), &json!("failed"))
    );
    // The conversation goes on: an answer that never was is not told to the model.
    let next = ana.send(&path, "again").await;
    assert_eq!(
        ana.ended(next["generation_id"].as_str().unwrap()).await["status"],
        "done"
    );
    let told: Vec<_> = world
        .node
        .received(2)
        .await
        .messages
        .into_iter()
        .map(|message| message.content)
        .collect();
    assert_eq!(told, ["q", "again"]);
}

/// A model that finds no end is cut off, at a whole character.
#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let mut options = crate::server::options();
    options.answer_bytes = 10;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::text("0123456789")]);
    let sent = ana.send(&conversation, "q").await;
    let ended = ana.ended(sent["generation_id"].as_str().unwrap()).await;
    assert_eq!(
        (&ended["text"], &ended["status"]),
        (&json!("0123456789"), &json!("done")),
        "what fits is whole"
    );
    world
        .node
        .script([Step::text("012345"), Step::text("678é9"), Step::Stall]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let (text, end) = ana.events(generation, None).await.rest("").await;
    assert_eq!(
        text, "012345678",
        "the é would begin inside and end outside"
    );
    let end = end.unwrap();
    assert_eq!(
        (end.name.as_str(), &end.data["reason"]),
        ("interrupted", &json!("answer_too_long"))
    );
    let kept = ana
        .get(&format!("/api/v1/generations/{generation}"))
        .await
        .ok();
    assert_eq!(
        (&kept["text"], &kept["status"], &kept["error"]["code"]),
        (
            &json!("012345678"),
            &json!("interrupted"),
            &json!("answer_too_long")
        )
    );
    assert_eq!(world.node.requests().len(), 2, "no node is asked to go on");
    // The node, which would go on for ever, is let go: its client has left.
    let freed = world.node.until(|tally| tally.open == 0);
    let tally = timeout(Duration::from_secs(20), freed).await.unwrap();
    assert_eq!((tally.whole, tally.aborted), (1, 1));
    let messages = ana.messages(&conversation).await;
    let last = messages.last().unwrap();
    assert_eq!(last["content"], "012345678");
    assert_eq!(last["generation"]["error"]["code"], "answer_too_long");
}

#[tokio::test]
async fn without_any_node_questions_are_refused_and_nothing_is_kept() {
    let mut world = World::prepare(crate::server::options()).await;
    world.node.kill();
    world.restart().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let path = format!("{conversation}/messages");
    for question in [
        json!({"content": "q"}),
        json!({"content": "q", "model": "x"}),
    ] {
        let answer = ana.post(&path, &question).await;
        answer.is_problem(503, "no_node_available");
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert!(ana.messages(&conversation).await.is_empty());
}

/// Nothing is down, so waiting does not help.
#[tokio::test]
async fn without_any_model_questions_are_refused_with_what_to_do() {
    let mut world = World::prepare(crate::server::options()).await;
    world.node = FakeOllama::with_models(Vec::new()).await;
    world.restart().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let path = format!("{conversation}/messages");
    for question in [
        json!({"content": "q"}),
        json!({"content": "q", "model": "x"}),
    ] {
        let answer = ana.post(&path, &question).await;
        let problem = answer.is_problem(409, "no_model");
        for way in ["jarvis model fetch", "jarvis model add", "ollama pull"] {
            assert!(
                problem["detail"].as_str().unwrap().contains(way),
                "{problem}"
            );
        }
        assert!(!answer.headers.contains_key("retry-after"));
    }
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "q"}))
        .await;
    assert_eq!(page.hear("error").await["code"], "no_model");
    assert!(ana.messages(&conversation).await.is_empty());
}

#[tokio::test]
async fn a_model_that_cannot_chat_is_refused_before_anything_is_kept() {
    let mut world = World::prepare(crate::server::options()).await;
    world.node = FakeOllama::with_models(vec![FakeOllama::model("all-minilm-embed:latest")]).await;
    world.restart().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let path = format!("{conversation}/messages");
    ana.post(&path, &json!({"content": "q"}))
        .await
        .is_problem(409, "no_model");
    world.node.add(FakeOllama::model("test:latest"));
    let body = json!({"content": "q", "model": "all-minilm-embed"});
    ana.post(&path, &body)
        .await
        .is_problem(422, "no_chat_model");
    assert!(ana.messages(&conversation).await.is_empty());
}

#[tokio::test]
async fn an_answer_that_had_begun_waits_for_a_node_to_come_back() {
    let mut options = crate::server::options();
    options.resume_within = Duration::from_mins(1);
    let mut world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::text("begun, "), Step::Stall]);
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
    // The next server finds a node without the model for a while.
    let late = FakeOllama::with_models(Vec::new()).await;
    world.node = late;
    world.restart().await;
    let ana = ana.at(world.address());
    let live = ana
        .get(&format!("/api/v1/generations/{generation}"))
        .await
        .ok();
    assert_eq!(
        (&live["text"], &live["offset"]),
        (&json!("begun, "), &json!(7))
    );
    world.node.script([Step::text("done")]);
    world.node.add(FakeOllama::model("test:latest"));
    let (text, end) = ana.events(generation, Some("1-7")).await.rest(&text).await;
    assert_eq!(
        (text.as_str(), end.unwrap().name.as_str()),
        ("begun, done", "done")
    );
}

#[tokio::test]
async fn an_answer_that_cannot_be_logged_is_not_shown_and_the_next_one_is_well() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let answers = world.dir.path().join("answers");
    std::fs::remove_dir_all(&answers).unwrap();
    let sent = ana.send(&conversation, "q").await;
    let ended = ana.ended(sent["generation_id"].as_str().unwrap()).await;
    assert_eq!(
        (&ended["status"], &ended["text"], &ended["error"]["code"]),
        (&json!("failed"), &json!(""), &json!("storage_failed"))
    );
    assert!(
        world.node.requests().is_empty(),
        "no node works for nothing"
    );
    let status = ana.get("/api/v1/status").await.ok();
    assert_eq!(status["status"], "degraded", "{status}");
    std::fs::create_dir(&answers).unwrap();
    let sent = ana.send(&conversation, "q").await;
    let ended = ana.ended(sent["generation_id"].as_str().unwrap()).await;
    assert_eq!(ended["status"], "done");
    assert_eq!(ana.get("/api/v1/status").await.ok()["status"], "ok");
}

/// The database takes no more writes while an answer is made: its text stays in the log and is committed when it does again.
#[tokio::test]
async fn an_answer_that_cannot_be_committed_is_kept_and_committed_later() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let gate = jarvis_testkit::Gate::default();
    world.node.script([
        Step::text("the "),
        Step::Gate(gate.clone()),
        Step::text("text"),
    ]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut events = ana.events(generation, None).await;
    let mut text = String::new();
    apply(&mut text, &events.next().await.unwrap().data);
    world.refuse_writes(true).await;
    gate.open();
    let (text, end) = events.rest(&text).await;
    assert_eq!(text, "the text", "what is logged is shown");
    let end = end.unwrap();
    assert_eq!(
        (end.name.as_str(), &end.data["reason"], &end.data["status"]),
        ("interrupted", &json!("storage_failed"), &json!("running"))
    );
    let log = world
        .dir
        .path()
        .join("answers")
        .join(format!("{generation}.txt"));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "the text");
    world.refuse_writes(false).await;
    while log.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ended = ana.ended(generation).await;
    assert_eq!(
        (&ended["text"], &ended["status"]),
        (&json!("the text"), &json!("done"))
    );
}
