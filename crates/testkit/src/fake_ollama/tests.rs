use super::*;
use crate::Gate;
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#;

fn story() -> Vec<FakeModel> {
    vec![FakeModel::ollama("m:latest")]
}

/// Sends a request and leaves the answer to be read.
async fn connect(node: &FakeOllama, path: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(node.address()).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: n\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + body).as_bytes()).await.unwrap();
    socket
}

async fn read_until(socket: &mut TcpStream, what: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(what) {
        let read = socket.read_buf(&mut all).await.unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&all));
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_is_seen() {
    let node = FakeOllama::with(story()).await;
    node.script([Step::Records(2), Step::Stall]);
    let mut socket = connect(&node, "/api/chat", CHAT).await;
    read_until(&mut socket, "\"done\":false").await;
    assert_eq!((node.tally().open, node.tally().aborted), (1, 0));
    drop(socket);
    let tally = node.until(|tally| tally.open == 0).await;
    assert_eq!((tally.asked, tally.whole, tally.aborted), (1, 0, 1));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_is_seen() {
    let node = FakeOllama::with(story()).await;
    node.script([Step::Late(Gate::default())]);
    let socket = connect(&node, "/v1/completions", r#"{"model":"m","prompt":"q"}"#).await;
    node.until(|tally| tally.open == 1).await;
    drop(socket);
    assert_eq!(node.until(|tally| tally.open == 0).await.aborted, 1);
}

#[tokio::test]
async fn a_node_that_is_killed_takes_its_connections_with_it_and_comes_back() {
    let node = FakeOllama::with(story()).await;
    node.script([Step::Records(2), Step::Stall]);
    let mut socket = connect(&node, "/api/chat", CHAT).await;
    read_until(&mut socket, "\"done\":false").await;
    node.kill();
    let mut rest = Vec::new();
    let end = socket.read_to_end(&mut rest).await;
    assert!(
        end.is_err() || !rest.ends_with(b"0\r\n\r\n"),
        "the body has no end"
    );
    assert_eq!(node.until(|tally| tally.open == 0).await.aborted, 1);
    node.revive().await;
    let mut again = connect(&node, "/api/chat", CHAT).await;
    read_until(&mut again, "\"done\":true").await;
    assert_eq!(node.until(|tally| tally.whole == 1).await.asked, 2);
}

#[tokio::test]
async fn scripts_cut_split_and_spoil() {
    let node = FakeOllama::with(story()).await;
    let whole = node.ask("/api/chat", CHAT).await;
    assert!(whole.whole && whole.bytes.ends_with(b"}\n"));
    node.script([Step::Split(3)]);
    assert_eq!(node.ask("/api/chat", CHAT).await, whole);
    node.script([Step::Bytes(200), Step::Cut]);
    let cut = node.ask("/api/chat", CHAT).await;
    assert_eq!((cut.whole, &cut.bytes[..]), (false, &whole.bytes[..200]));
    node.script([
        Step::Records(1),
        Step::Raw(Bytes::from_static(b"{\"mess\n")),
    ]);
    assert!(
        node.ask("/api/chat", CHAT)
            .await
            .bytes
            .ends_with(b"{\"mess\n")
    );
    node.script([Step::Refuse(503, "busy".into())]);
    let refused = node.ask("/v1/chat/completions", CHAT).await;
    assert_eq!(refused.status, 503);
    assert!(
        String::from_utf8(refused.bytes)
            .unwrap()
            .contains("\"message\":\"busy\"")
    );
    assert_eq!(
        node.ask("/api/chat", r#"{"model":"other"}"#).await.status,
        404
    );
    assert_eq!(node.ask("/api/chat", "nonsense").await.status, 400);
}

#[tokio::test]
async fn a_model_is_loaded_once_and_says_so() {
    let slow = FakeModel {
        load: Duration::from_millis(3),
        ..FakeModel::ollama("m:latest")
    };
    let node = FakeOllama::with(vec![slow]).await;
    let load = |reply: Reply| {
        let last = String::from_utf8(reply.bytes).unwrap();
        serde_json::from_str::<Value>(last.lines().last().unwrap()).unwrap()["load_duration"]
            .clone()
    };
    assert_eq!(load(node.ask("/api/chat", CHAT).await), json!(3_000_000));
    assert_eq!(load(node.ask("/api/chat", CHAT).await), Value::Null);
    let idle = node.ask("/api/generate", r#"{"model":"m"}"#).await;
    assert!(
        String::from_utf8(idle.bytes)
            .unwrap()
            .contains("\"done_reason\":\"load\"")
    );
}

#[tokio::test]
async fn all_endpoints_tell_one_story_whole_or_streamed() {
    let node = FakeOllama::with(story()).await;
    let chat = |extra: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}]});
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        body.to_string()
    };
    let whole: Value = serde_json::from_slice(
        &node
            .ask("/api/chat", chat(json!({"stream": false})))
            .await
            .bytes,
    )
    .unwrap();
    let text = whole["message"]["content"].as_str().unwrap();
    assert!(text.len() > 100 && !text.contains("never said"));
    let streamed = String::from_utf8(node.ask("/api/chat", chat(json!({}))).await.bytes).unwrap();
    let pieces: String = streamed
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["message"]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(pieces, text);
    let openai: Value = serde_json::from_slice(
        &node
            .ask("/v1/chat/completions", chat(json!({})))
            .await
            .bytes,
    )
    .unwrap();
    assert_eq!(openai["choices"][0]["message"]["content"], text);
    let generated: Value = serde_json::from_slice(
        &node
            .ask(
                "/api/generate",
                r#"{"model":"m","prompt":"q","stream":false}"#,
            )
            .await
            .bytes,
    )
    .unwrap();
    assert_eq!(generated["response"], text, "the same prompt comes of it");
    let other: Value = serde_json::from_slice(
        &node
            .ask(
                "/api/generate",
                r#"{"model":"m","prompt":"p","stream":false}"#,
            )
            .await
            .bytes,
    )
    .unwrap();
    assert_ne!(other["response"], text);
}

#[tokio::test]
async fn a_thinking_model_thinks_unless_told_not_to() {
    let thinks = FakeModel {
        thinks: true,
        ..FakeModel::ollama("m:latest")
    };
    let node = FakeOllama::with(vec![thinks]).await;
    let asked = |think: Value| {
        json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "think": think})
            .to_string()
    };
    let thought = node.ask("/api/chat", asked(Value::Null)).await;
    assert!(
        String::from_utf8(thought.bytes)
            .unwrap()
            .contains("\"thinking\":\"hm\"")
    );
    let silent = node.ask("/api/chat", asked(json!(false))).await;
    assert!(
        !String::from_utf8(silent.bytes)
            .unwrap()
            .contains("thinking")
    );
}
