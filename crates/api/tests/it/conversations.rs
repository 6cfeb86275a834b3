//! The list of conversations, and that its cache is never stale.

use crate::{client::Client, server::World};
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const LIST: &str = "/api/v1/conversations?limit=50";

async fn titles(client: &Client, path: &str) -> (Vec<String>, Value) {
    let page = client.get(path).await.ok();
    let items = page["items"].as_array().unwrap();
    let titles = items
        .iter()
        .map(|item| item["title"].as_str().unwrap().to_owned());
    (titles.collect(), page["next_cursor"].clone())
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    for number in 0..5 {
        // Two share each moment: the order must not depend on luck.
        world
            .clock
            .advance(Duration::from_secs(u64::from(number % 2 == 0)));
        let body = json!({"title": format!("c{number}")});
        assert_eq!(ana.post("/api/v1/conversations", &body).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/conversations?limit=2".to_owned();
    loop {
        let (page, next) = titles(&ana, &path).await;
        seen.extend(page);
        let Some(next) = next.as_str() else { break };
        path = format!("/api/v1/conversations?limit=2&cursor={next}");
    }
    assert_eq!(seen, ["c4", "c3", "c2", "c1", "c0"]);
    let (whole, next) = titles(&ana, "/api/v1/conversations?limit=5").await;
    assert_eq!((whole, next), (seen, Value::Null));
    for bad in [
        "limit=0",
        "limit=201",
        "limit=x",
        "cursor=x",
        "cursor=1.x",
        "cursor=...",
    ] {
        let answer = ana.get(&format!("/api/v1/conversations?{bad}")).await;
        answer.is_problem(400, "invalid_query");
    }
}

#[tokio::test]
async fn a_page_is_sent_again_only_if_it_has_changed() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    ana.conversation().await;
    let first = ana.get(LIST).await;
    let etag = first.headers["etag"].to_str().unwrap();
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(first.headers["cache-control"], "private, no-cache");
    let with = async |tag: &str| {
        ana.request(Method::GET, LIST, &[("if-none-match", tag)], "")
            .await
    };
    for tag in [
        etag.to_owned(),
        format!("\"other\", {etag}"),
        format!("W/{etag}"),
        "*".into(),
    ] {
        let same = with(&tag).await;
        assert_eq!((same.status.as_u16(), same.body.len()), (304, 0), "{tag}");
        assert_eq!(same.headers["etag"], etag);
    }
    assert_eq!(with("\"other\"").await.status, 200);
    ana.conversation().await;
    let changed = with(etag).await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.headers["etag"], etag);
}

#[tokio::test]
async fn no_write_leaves_an_old_page_behind() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let ben = world.user("ben@example.org").await;
    let bens = ben.get(LIST).await;
    let mut last = ana.get(LIST).await.body;
    let mut changed = async |what: &str| {
        let cached = ana.get(LIST).await.body;
        assert_eq!(cached, ana.get(LIST).await.body);
        assert_ne!(cached, last, "{what} is not seen");
        last = cached.clone();
        serde_json::from_slice::<Value>(&cached).unwrap()
    };
    let conversation = ana.conversation().await;
    changed("a new conversation").await;
    ana.patch(&conversation, &json!({"title": "renamed"}))
        .await
        .ok();
    assert_eq!(changed("a new title").await["items"][0]["title"], "renamed");
    ana.patch(&conversation, &json!({"model": "test"}))
        .await
        .ok();
    assert_eq!(
        changed("a new model").await["items"][0]["model"],
        "test:latest"
    );
    world.clock.advance(Duration::from_secs(1));
    let gate = jarvis_testkit::Gate::default();
    world
        .node
        .script([jarvis_testkit::Step::Gate(gate.clone())]);
    let sent = ana.send(&conversation, "q").await;
    let page = changed("a message").await;
    assert_eq!(
        page["items"][0]["head_message_id"],
        sent["assistant_message_id"]
    );
    world.clock.advance(Duration::from_secs(1));
    gate.open();
    ana.ended(sent["generation_id"].as_str().unwrap()).await;
    changed("the end of an answer").await;
    let back = json!({"head_message_id": sent["message_id"]});
    ana.patch(&conversation, &back).await.ok();
    assert_eq!(
        changed("another branch").await["items"][0]["head_message_id"],
        sent["message_id"]
    );
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "by socket"}))
        .await;
    page.hear("accepted").await;
    assert_eq!(
        changed("a question by socket").await["items"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    ana.delete(&conversation).await;
    assert_eq!(
        changed("a deletion").await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        ben.get(LIST).await.body,
        bens.body,
        "another user's list stands"
    );
}

#[tokio::test]
async fn a_reader_beside_a_writer_never_sees_the_past() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let (done, mut watching) = tokio::sync::watch::channel(false);
    let reader = async {
        let mut most = 0;
        while !*watching.borrow_and_update() {
            let count = ana.get(LIST).await.ok()["items"].as_array().unwrap().len();
            assert!(count >= most, "{count} after {most}");
            most = count;
        }
    };
    let writer = async {
        for written in 1..=40 {
            ana.conversation().await;
            let count = ana.get(LIST).await.ok()["items"].as_array().unwrap().len();
            assert_eq!(count, written, "one's own writes are seen");
        }
        done.send_replace(true);
    };
    tokio::join!(reader, writer);
}

#[tokio::test]
async fn titles_are_bounded() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    for title in ["", "   ", "a\nb", "a\u{0}b", &"é".repeat(201)] {
        let body = json!({"title": title});
        ana.patch(&conversation, &body)
            .await
            .is_problem(422, "invalid_body");
        ana.post("/api/v1/conversations", &body)
            .await
            .is_problem(422, "invalid_body");
    }
    let longest = "é".repeat(200);
    let kept = ana
        .patch(&conversation, &json!({"title": format!(" {longest} ")}))
        .await
        .ok();
    assert_eq!(kept["title"], longest);
    let same = ana
        .patch(&conversation, &json!({"title": null, "unknown": 1}))
        .await
        .ok();
    assert_eq!(same["title"], longest, "null changes nothing");
    ana.patch(&conversation, &json!({"model": "nope"}))
        .await
        .is_problem(422, "unknown_model");
}
