//! What an answer cost: the same, however many attempts, nodes and servers it took.

use crate::{
    client::Client,
    server::{World, options},
};
use jarvis_testkit::{FakeModel, FakeOllama, Step};
use serde_json::Value;
use std::time::Duration;

const QUESTION: &str = "tell me a story";

async fn world(model: FakeModel) -> World {
    let mut options = options();
    options.resume_within = Duration::from_mins(1);
    let mut world = World::prepare(options).await;
    world.node = FakeOllama::with(vec![model]).await;
    world.restart().await;
    world
}

/// Asks in a conversation of its own; the generation's identifier.
async fn ask(client: &Client) -> String {
    let sent = client.send(&client.conversation().await, QUESTION).await;
    sent["generation_id"].as_str().unwrap().to_owned()
}

/// An answer that has ended well, and its tokens: of the prompt, of the answer.
#[track_caller]
fn figures(ended: &Value) -> (String, u64, u64) {
    assert_eq!(ended["status"], "done", "{ended}");
    let usage = &ended["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    let text = ended["text"].as_str().unwrap().to_owned();
    (text, count("prompt_tokens"), count("completion_tokens"))
}

#[tokio::test]
async fn every_attempt_counts() {
    for model in [
        FakeModel::engine("test:latest"),
        FakeModel::ollama("test:latest"),
    ] {
        let world = world(model).await;
        let ana = world.user("ana@example.org").await;
        let whole = figures(&ana.ended(&ask(&ana).await).await);
        assert_eq!(whole.2, 60, "tokens of the story");
        for records in [7, 11, 1] {
            world.node.script([Step::Records(records), Step::Cut]);
        }
        let resumed = ana.ended(&ask(&ana).await).await;
        assert_eq!(figures(&resumed), whole);
        let answers = world.node.tally();
        assert_eq!((answers.whole, answers.aborted), (2, 3), "{answers:?}");
    }
}

#[tokio::test]
async fn what_an_earlier_server_made_counts() {
    let mut world = world(FakeModel::engine("test:latest")).await;
    let ana = world.user("ana@example.org").await;
    let whole = figures(&ana.ended(&ask(&ana).await).await);
    world.node.script([Step::Records(7), Step::Stall]);
    let id = ask(&ana).await;
    let noted = world
        .dir
        .path()
        .join("answers")
        .join(format!("{id}.tokens"));
    while std::fs::read(&noted).ok() != Some(7_u64.to_le_bytes().into()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.node.script([Step::Records(2), Step::Cut]);
    world.restart().await;
    let ana = ana.at(world.address());
    let resumed = ana.ended(&id).await;
    assert_eq!(figures(&resumed), whole);
    assert_eq!(
        resumed["usage"]["first_token_ms"],
        Value::Null,
        "the first character was another's"
    );
    assert!(!noted.exists());
}
