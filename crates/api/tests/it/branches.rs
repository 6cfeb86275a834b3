//! The tree of messages: edits and other answers are branches, nothing is overwritten.

use crate::{client::Client, server::World};
use jarvis_testkit::{Gate, Step};
use serde_json::{Value, json};

async fn answered(client: &Client, path: &str, body: &Value) -> Value {
    let answer = client.post(path, body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let accepted = answer.json();
    client
        .ended(accepted["generation_id"].as_str().unwrap())
        .await;
    accepted
}

fn by_id<'a>(messages: &'a [Value], id: &Value) -> &'a Value {
    messages
        .iter()
        .find(|message| message["id"] == *id)
        .unwrap()
}

#[tokio::test]
async fn another_answer_is_a_branch_beside_the_first() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::text("first")]);
    world.node.script([Step::text("second")]);
    let one = answered(
        &ana,
        &format!("{conversation}/messages"),
        &json!({"content": "q"}),
    )
    .await;
    let body = json!({"parent_id": one["message_id"]});
    let two = answered(&ana, &format!("{conversation}/regenerate"), &body).await;
    assert_eq!(two["message_id"], one["message_id"]);
    let messages = ana.messages(&conversation).await;
    assert_eq!(messages.len(), 3);
    for (accepted, content) in [(&one, "first"), (&two, "second")] {
        let message = by_id(&messages, &accepted["assistant_message_id"]);
        assert_eq!(
            (&message["content"], &message["parent_id"]),
            (&json!(content), &one["message_id"])
        );
    }
    let shown = ana.get(&conversation).await.ok();
    assert_eq!(shown["head_message_id"], two["assistant_message_id"]);
    // Back to the first branch, and on from there.
    let back = json!({"head_message_id": one["assistant_message_id"]});
    assert_eq!(
        ana.patch(&conversation, &back).await.ok()["head_message_id"],
        one["assistant_message_id"]
    );
    answered(
        &ana,
        &format!("{conversation}/messages"),
        &json!({"content": "on"}),
    )
    .await;
    let told: Vec<_> = world
        .node
        .received(3)
        .await
        .messages
        .iter()
        .map(|message| message.content.clone())
        .collect();
    assert_eq!(told, ["q", "first", "on"]);
}

#[tokio::test]
async fn an_edit_is_a_branch_and_the_first_message_may_be_edited() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let path = format!("{conversation}/messages");
    let one = answered(&ana, &path, &json!({"content": "one"})).await;
    answered(&ana, &path, &json!({"content": "two"})).await;
    let edit = json!({"content": "two, edited", "parent_id": one["assistant_message_id"]});
    let edited = answered(&ana, &path, &edit).await;
    let root = json!({"content": "one, edited", "parent_id": null});
    let new_root = answered(&ana, &path, &root).await;
    let messages = ana.messages(&conversation).await;
    assert_eq!(messages.len(), 8);
    assert_eq!(
        by_id(&messages, &edited["message_id"])["parent_id"],
        one["assistant_message_id"]
    );
    assert_eq!(
        by_id(&messages, &new_root["message_id"])["parent_id"],
        Value::Null
    );
    assert_eq!(
        world.node.received(4).await.messages.len(),
        1,
        "another first message stands alone"
    );
}

#[tokio::test]
async fn places_that_are_not_there_are_refused() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let elsewhere = ana.conversation().await;
    let path = format!("{conversation}/messages");
    let one = answered(&ana, &path, &json!({"content": "one"})).await;
    let there = answered(
        &ana,
        &format!("{elsewhere}/messages"),
        &json!({"content": "x"}),
    )
    .await;
    let nowhere = json!("0197a000-0000-7000-8000-000000000000");
    for parent in [&there["message_id"], &nowhere] {
        let body = json!({"content": "x", "parent_id": parent});
        ana.post(&path, &body).await.is_problem(404, "not_found");
        let body = json!({"parent_id": parent});
        ana.post(&format!("{conversation}/regenerate"), &body)
            .await
            .is_problem(404, "not_found");
        let body = json!({"head_message_id": parent});
        ana.patch(&conversation, &body)
            .await
            .is_problem(404, "not_found");
    }
    // An answer is no question.
    let body = json!({"parent_id": one["assistant_message_id"]});
    ana.post(&format!("{conversation}/regenerate"), &body)
        .await
        .is_problem(404, "not_found");
    assert_eq!(ana.messages(&conversation).await.len(), 2);
}

#[tokio::test]
async fn a_question_into_a_running_answer_tells_what_has_been_said() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let gate = Gate::default();
    world.node.script([
        Step::text("so far"),
        Step::Gate(gate.clone()),
        Step::text(" and on"),
    ]);
    let first = ana.send(&conversation, "q").await;
    let mut events = ana
        .events(first["generation_id"].as_str().unwrap(), None)
        .await;
    assert_eq!(events.next().await.unwrap().data["text"], "so far");
    let second = ana.send(&conversation, "and?").await;
    ana.ended(second["generation_id"].as_str().unwrap()).await;
    let told: Vec<_> = world
        .node
        .received(2)
        .await
        .messages
        .iter()
        .map(|message| message.content.clone())
        .collect();
    assert_eq!(told, ["q", "so far", "and?"]);
    gate.open();
    let ended = ana.ended(first["generation_id"].as_str().unwrap()).await;
    assert_eq!(ended["text"], "so far and on");
}

#[tokio::test]
async fn deleting_a_conversation_stops_its_answer_and_leaves_nothing() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::text("x"), Step::Stall]);
    let accepted = ana.send(&conversation, "q").await;
    let generation = accepted["generation_id"].as_str().unwrap();
    let mut events = ana.events(generation, None).await;
    assert_eq!(events.next().await.unwrap().name, "delta");
    let mut page = world.socket(&ana).await;
    assert_eq!(ana.delete(&conversation).await.status, 204);
    let gone = page.hear("conversation_deleted").await;
    assert!(conversation.ends_with(gone["id"].as_str().unwrap()));
    while events.next().await.is_some() {}
    ana.get(&conversation).await.is_problem(404, "not_found");
    ana.get(&format!("/api/v1/generations/{generation}"))
        .await
        .is_problem(404, "not_found");
    ana.delete(&conversation).await.is_problem(404, "not_found");
    assert_eq!(world.answers().live_count(), 0);
    let file = world
        .dir
        .path()
        .join("answers")
        .join(format!("{generation}.txt"));
    assert!(!file.exists());
}
