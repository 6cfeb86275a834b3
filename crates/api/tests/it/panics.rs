//! A defect in the making of one answer: that answer ends, and nothing else does.

use crate::{
    client::apply,
    server::{World, options},
};
use axum::{
    Json, Router,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jarvis_balancer::Transport;
use jarvis_protocol::ollama::{ChatRequest, PsResponse, TagsResponse};
use jarvis_testkit::{FakeOllama, Gate, Step};
use serde_json::json;
use std::{convert::Infallible, time::Duration};

/// A node in the server's process, and so in the task of the answer, with a defect in the place where a question says.
fn defective(gate: &Gate) -> Transport {
    let gate = gate.clone();
    let chat = async move |Json(asked): Json<ChatRequest>| answer(&asked, gate);
    let tags = TagsResponse {
        models: vec![FakeOllama::model("defective:latest")],
    };
    let router = Router::new()
        .route("/api/tags", get(move || async move { Json(tags) }))
        .route("/api/ps", get(|| async { Json(PsResponse::default()) }))
        .route("/api/chat", post(chat));
    Transport::in_process(router)
}

fn answer(asked: &ChatRequest, gate: Gate) -> Response {
    let question = &asked.messages.last().unwrap().content;
    assert_ne!(question, "panic at once", "a defect before the answer");
    let panics = question == "panic later";
    let record = |done| {
        let record = json!({"model": "defective", "created_at": "", "message": {"role": "assistant", "content": if done { "" } else { "so far" }}, "done": done});
        Ok::<_, Infallible>(Bytes::from(format!("{record}\n")))
    };
    let (first, last) = (record(false), record(true));
    let last = stream::once(async move {
        if panics {
            gate.pass().await;
            panic!("a defect in mid-answer");
        }
        last
    });
    Body::from_stream(stream::iter([first]).chain(last)).into_response()
}

#[tokio::test]
async fn a_panic_ends_its_answer_and_no_other() {
    let mut world = World::prepare(options()).await;
    let defect = Gate::default();
    world.inside = Some(defective(&defect));
    world.restart().await;
    let ana = world.user("ana@example.org").await;
    let mut page = world.socket(&ana).await;
    // Somebody else's answer, on its way meanwhile.
    let ben = world.user("ben@example.org").await;
    let gate = Gate::default();
    world.node.script([
        Step::text("un"),
        Step::Gate(gate.clone()),
        Step::text("touched"),
    ]);
    let path = format!("{}/messages", ben.conversation().await);
    let body = json!({"content": "q", "model": "test"});
    let other = ben.post(&path, &body).await.ok();
    let mut others = ben
        .events(other["generation_id"].as_str().unwrap(), None)
        .await;
    let mut others_text = String::new();
    apply(&mut others_text, &others.next().await.unwrap().data);

    for (question, text, status) in [
        ("panic at once", "", "failed"),
        ("panic later", "so far", "interrupted"),
    ] {
        page.say(&json!({"type": "send", "id": question.replace(' ', "-"), "conversation_id": null, "content": question, "model": "defective"}))
            .await;
        let accepted = page.hear("accepted").await;
        let id = accepted["generation_id"].as_str().unwrap();
        let mut told = String::new();
        if !text.is_empty() {
            apply(&mut told, &page.hear("delta").await);
            defect.open();
        }
        let (told, end) = page.follow(id, &told).await;
        assert_eq!(
            (told.as_str(), &end["type"], &end["status"], &end["reason"]),
            (
                text,
                &json!("interrupted"),
                &json!(status),
                &json!("internal")
            )
        );
        // What was told is what is kept, at once: the end is committed before it is shown.
        let kept = ana.get(&format!("/api/v1/generations/{id}")).await.ok();
        assert_eq!(
            (&kept["text"], &kept["status"], &kept["error"]["code"]),
            (&json!(text), &json!(status), &json!("internal"))
        );
        assert_eq!(kept["error"]["message"], end["message"]);
        let (again, late) = ana.events(id, None).await.rest("").await;
        let late = late.unwrap();
        assert_eq!(
            (again.as_str(), &late.data["status"], &late.data["reason"]),
            (text, &json!(status), &json!("internal")),
            "who comes later is told the same"
        );
        // The conversation goes on, on the same node.
        let path = format!(
            "/api/v1/conversations/{}",
            accepted["conversation_id"].as_str().unwrap()
        );
        let body = json!({"content": "and now?", "model": "defective"});
        let next = ana.post(&format!("{path}/messages"), &body).await.ok();
        let next = ana.ended(next["generation_id"].as_str().unwrap()).await;
        assert_eq!(
            (&next["text"], &next["status"]),
            (&json!("so far"), &json!("done"))
        );
    }

    gate.open();
    let (text, end) = others.rest(&others_text).await;
    assert_eq!(
        (text.as_str(), end.unwrap().name.as_str()),
        ("untouched", "done")
    );
    assert_eq!(world.anonymous().get("/health").await.ok()["status"], "ok");
    // Nothing of them is left to be made: neither here nor by the next server.
    while world.api().running_answers() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = std::fs::read_dir(world.dir.path().join("answers")).unwrap();
    assert_eq!(left.count(), 0);
}
