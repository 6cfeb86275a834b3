//! Questions and answers over every way there is.

use crate::{client::apply, server::World};
use jarvis_testkit::{Gate, Step};
use serde_json::{Value, json};

#[tokio::test]
async fn a_question_over_rest_is_answered_and_kept() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let accepted = ana.send(&conversation, "Bonjour").await;
    let generation = ana.ended(accepted["generation_id"].as_str().unwrap()).await;
    assert_eq!(generation["status"], "done");
    assert_eq!(generation["text"], "You said: Bonjour");
    assert_eq!(generation["offset"], 17);
    assert_eq!(generation["epoch"], 1);
    assert_eq!(generation["usage"]["prompt_tokens"], 5);
    assert_eq!(generation["usage"]["completion_tokens"], 3);
    let messages = ana.messages(&conversation).await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["content"], "Bonjour");
    assert_eq!(messages[0]["generation"], json!(null));
    assert_eq!(messages[1]["content"], "You said: Bonjour");
    assert_eq!(messages[1]["parent_id"], messages[0]["id"]);
    assert_eq!(messages[1]["generation"]["status"], "done");
    assert_eq!(messages[1]["id"], accepted["assistant_message_id"]);
    let shown = ana.get(&conversation).await.ok();
    assert_eq!(shown["head_message_id"], messages[1]["id"]);
}

#[tokio::test]
async fn a_first_question_over_a_socket_begins_a_conversation_that_every_page_sees() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let mut page = world.socket(&ana).await;
    let mut other_page = world.socket(&ana).await;
    let id = "0197a000-0000-7000-8000-000000000001";
    page.say(
        &json!({"type": "send", "id": id, "conversation_id": null, "content": "Bonjour le monde"}),
    )
    .await;
    let accepted = page.hear("accepted").await;
    assert_eq!(accepted["id"], id);
    let (text, end) = page
        .follow(accepted["generation_id"].as_str().unwrap(), "")
        .await;
    assert_eq!(text, "You said: Bonjour le monde");
    assert_eq!(end["status"], "done");
    let told = other_page.hear("conversation").await;
    assert_eq!(told["conversation"]["id"], accepted["conversation_id"]);
    assert_eq!(told["conversation"]["title"], "Bonjour le monde");
}

#[tokio::test]
async fn the_node_is_told_the_whole_branch_and_the_instructions() {
    let mut options = crate::server::options();
    options.system_prompt = Some("Be brief.".into());
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let first = ana.send(&conversation, "one").await;
    ana.ended(first["generation_id"].as_str().unwrap()).await;
    let second = ana.send(&conversation, "two").await;
    ana.ended(second["generation_id"].as_str().unwrap()).await;
    let asked = world.node.received(2).await;
    let told: Vec<_> = asked
        .messages
        .iter()
        .map(|message| (message.role.as_str(), message.content.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("system", "Be brief."),
            ("user", "one"),
            ("assistant", "You said: one"),
            ("user", "two"),
        ]
    );
}

#[tokio::test]
async fn closing_the_page_does_not_stop_the_answer() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let gate = Gate::default();
    world
        .node
        .script([Step::text("a"), Step::Gate(gate.clone()), Step::text("b")]);
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "send", "id": "k1", "conversation_id": null, "content": "q"}))
        .await;
    let accepted = page.hear("accepted").await;
    let mut text = String::new();
    apply(&mut text, &page.hear("delta").await);
    drop(page);
    gate.open();
    let generation = ana.ended(accepted["generation_id"].as_str().unwrap()).await;
    assert_eq!(
        (generation["text"].as_str(), generation["status"].as_str()),
        (Some("ab"), Some("done"))
    );
}

#[tokio::test]
async fn a_stop_keeps_the_text_and_frees_the_node() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    world.node.script([Step::text("half an "), Step::Stall]);
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "send", "id": "k1", "conversation_id": null, "content": "q"}))
        .await;
    let accepted = page.hear("accepted").await;
    let generation = accepted["generation_id"].as_str().unwrap();
    let mut text = String::new();
    apply(&mut text, &page.hear("delta").await);
    page.say(&json!({"type": "cancel", "generation_id": generation}))
        .await;
    let (text, end) = page.follow(generation, &text).await;
    assert_eq!(
        (text.as_str(), end["status"].as_str()),
        ("half an ", Some("stopped"))
    );
    let kept = ana
        .get(&format!("/api/v1/generations/{generation}"))
        .await
        .ok();
    assert_eq!(
        (kept["text"].as_str(), kept["status"].as_str()),
        (Some("half an "), Some("stopped"))
    );
    // Stopping again changes nothing.
    let again = ana
        .post(
            &format!("/api/v1/generations/{generation}/cancel"),
            &json!({}),
        )
        .await;
    assert_eq!(again.status, 202);
    let kept = ana
        .get(&format!("/api/v1/generations/{generation}"))
        .await
        .ok();
    assert_eq!(kept["status"], "stopped");
}

#[tokio::test]
async fn a_stop_over_rest_before_the_first_character_ends_in_stopped() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    world.node.script([Step::Stall]);
    let conversation = ana.conversation().await;
    let accepted = ana.send(&conversation, "q").await;
    let generation = accepted["generation_id"].as_str().unwrap();
    world.node.received(1).await;
    let path = format!("/api/v1/generations/{generation}/cancel");
    assert_eq!(ana.post(&path, &json!({})).await.status, 202);
    let ended = ana.ended(generation).await;
    assert_eq!(
        (ended["text"].as_str(), ended["status"].as_str()),
        (Some(""), Some("stopped"))
    );
}

#[tokio::test]
async fn the_same_question_twice_is_answered_once() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let path = format!("{conversation}/messages");
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "key-1"),
    ];
    let body = json!({"content": "q"}).to_string();
    let send = || ana.request(hyper::Method::POST, &path, &headers, body.clone());
    let (first, second) = tokio::join!(send(), send());
    assert_eq!(first.ok(), second.ok());
    let mut page = world.socket(&ana).await;
    let id = conversation.rsplit('/').next().unwrap();
    let frame = json!({"type": "send", "id": "key-1", "conversation_id": id, "content": "q"});
    page.say(&frame).await;
    let third = page.hear("accepted").await;
    assert_eq!(third["generation_id"], first.json()["generation_id"]);
    ana.ended(third["generation_id"].as_str().unwrap()).await;
    assert_eq!(ana.messages(&conversation).await.len(), 2);
    assert_eq!(world.node.requests().len(), 1);
    // The key is this user's own: another's request with it is another request.
    let ben = world.user("ben@example.org").await;
    let mut page = world.socket(&ben).await;
    let frame = json!({"type": "send", "id": "key-1", "conversation_id": null, "content": "q"});
    page.say(&frame).await;
    assert_ne!(
        page.hear("accepted").await["generation_id"],
        third["generation_id"]
    );
}

/// A key that comes again with something else must not swallow it.
#[tokio::test]
async fn a_key_of_another_question_is_refused() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "key-1"),
    ];
    let ask = async |what: &str, body: &Value| {
        let path = format!("{conversation}/{what}");
        ana.request(hyper::Method::POST, &path, &headers, body.to_string())
            .await
    };
    let first = ask("messages", &json!({"content": "q"})).await.ok();
    ana.ended(first["generation_id"].as_str().unwrap()).await;
    let question = &first["message_id"];
    for (what, body) in [
        ("messages", json!({"content": "r"})),
        ("messages", json!({"content": "q", "parent_id": null})),
        ("messages", json!({"content": "q", "parent_id": question})),
        ("messages", json!({"content": "q", "model": "test:latest"})),
        ("regenerate", json!({"parent_id": question})),
    ] {
        let answer = ask(what, &body).await;
        answer.is_problem(422, "idempotency_key_reused");
    }
    let mut page = world.socket(&ana).await;
    let id = conversation.rsplit('/').next().unwrap();
    for frame in [
        json!({"type": "send", "id": "key-1", "conversation_id": null, "content": "q"}),
        json!({"type": "regenerate", "id": "key-1", "conversation_id": id, "parent_id": question}),
    ] {
        page.say(&frame).await;
        let error = page.hear("error").await;
        assert_eq!(
            (&error["code"], &error["id"]),
            (&json!("idempotency_key_reused"), &json!("key-1"))
        );
    }
    assert_eq!(ask("messages", &json!({"content": "q"})).await.ok(), first);
    assert_eq!(ana.messages(&conversation).await.len(), 2);
    assert_eq!(world.node.requests().len(), 1);
}

#[tokio::test]
async fn an_unknown_model_is_refused_with_the_names_there_are() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let body = json!({"content": "q", "model": "nope"});
    let answer = ana.post(&format!("{conversation}/messages"), &body).await;
    let problem = answer.is_problem(422, "unknown_model");
    assert_eq!(problem["models"], json!(["test:latest"]));
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "q", "model": "nope"})).await;
    let error = page.hear("error").await;
    assert_eq!(
        (&error["code"], &error["id"]),
        (&json!("unknown_model"), &json!("k"))
    );
    assert_eq!(error["models"], json!(["test:latest"]));
    assert!(
        ana.messages(&conversation).await.is_empty(),
        "a refused message is not kept"
    );
    // `latest` is implied.
    let body = json!({"content": "q", "model": "test"});
    assert_eq!(
        ana.post(&format!("{conversation}/messages"), &body)
            .await
            .status,
        202
    );
}
