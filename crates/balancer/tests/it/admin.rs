//! The admin interface, and changes of models on all nodes.

use crate::{
    dialect::Dialect,
    web::{Answer, Client, KEY, Served, quick, serve, spec, with_slots},
};
use jarvis_testkit::{FakeModel, FakeOllama, Gate, Step};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

async fn node() -> FakeOllama {
    FakeOllama::with(vec![FakeModel::ollama("m:latest")]).await
}

async fn two() -> (FakeOllama, FakeOllama, Served) {
    let (one, two) = (node().await, node().await);
    let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
    (one, two, served)
}

/// Everything that changes something.
const CHANGES: [(&str, &str); 7] = [
    ("PUT", "/admin/strategy"),
    ("POST", "/admin/nodes"),
    ("PATCH", "/admin/nodes/a"),
    ("DELETE", "/admin/nodes/a"),
    ("POST", "/admin/nodes/a/drain"),
    ("DELETE", "/admin/nodes/a/drain"),
    ("GET", "/admin/state"),
];

#[tokio::test]
async fn without_the_administrators_key_there_is_no_way_in() {
    let (one, _two, served) = two().await;
    let before = served.state().await["nodes"].clone();
    let wrong = [
        None,
        Some(("authorization", "Bearer the-administratorz")),
        Some(("authorization", "the-administrators")),
        Some(("authorization", "Bearer ")),
        Some(("x-jarvis-internal", "the-installations")),
    ];
    for key in wrong {
        let headers: Vec<_> = key.into_iter().collect();
        for (method, path) in CHANGES {
            let client = Client::send(served.admin, method, path, &headers, b"{}");
            let words = client.await.end().await.ollama_error(403);
            assert!(words.contains("administrator's key"), "{words}");
        }
        for (method, path) in MANAGING {
            let body = r#"{"model":"m","source":"m","destination":"n","from":"m"}"#;
            let answer = served.send(method, path, &headers, body).await.end().await;
            assert_eq!(answer.status, 403, "{path}");
        }
    }
    let state = served.state().await["nodes"].clone();
    assert_eq!(state[0]["models"], before[0]["models"]);
    assert!(one.heard().is_empty(), "{:?}", one.heard());
}

const MANAGING: [(&str, &str); 6] = [
    ("POST", "/api/pull"),
    ("POST", "/api/push"),
    ("POST", "/api/create"),
    ("POST", "/api/copy"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/blobs/sha256:1"),
];

/// A node may read a path in another way than we do.
#[tokio::test]
async fn no_way_of_writing_a_path_leads_around_the_key() {
    let (one, two, served) = two().await;
    for path in [
        "/api/%70ull",
        "/api/pull/",
        "//api/pull",
        "/api//pull",
        "/api/./pull",
        "/api/x/../pull",
        "/x/../api/pull",
        "/api/%2e/pull",
        "/%61pi/pull",
        "/api%2Fpull",
        "/API/pull",
        "/api/pull;x",
        "/api/bl%6Fbs/sha256:1",
        "/api/%2570ull",
    ] {
        for method in ["POST", "PUT"] {
            let answer = served.send(method, path, &[], r#"{"model":"new"}"#).await;
            assert_eq!(answer.end().await.status, 403, "{method} {path}");
        }
    }
    assert!(one.heard().is_empty() && two.heard().is_empty());
    // The key opens them, as they came.
    let answer = served.send("POST", "/api/pull/", &[KEY], r#"{"model":"new"}"#);
    assert_eq!(answer.await.end().await.status, 404);
}

#[tokio::test]
async fn the_state_shows_nodes_models_and_who_waits() {
    let (one, _two, served) = two().await;
    let gate = Gate::default();
    one.script([Step::Records(1), Step::Gate(gate.clone()), Step::Rest]);
    let mut client = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    client.until("\"done\":false").await;
    let state = served
        .until(|state| state["nodes"][0]["loaded"] == json!(["m:latest"]))
        .await;
    assert_eq!(state["strategy"], "round_robin");
    let node = &state["nodes"][0];
    for (member, value) in [
        ("name", json!("a")),
        ("address", json!(one.address().to_string())),
        ("up", json!(true)),
        ("active", json!(1)),
        ("draining", json!(0)),
        ("drained", json!(false)),
        ("weight", json!(1)),
        ("breaker", json!("closed")),
        ("version", json!("0.12.6")),
        ("models", json!(["m:latest"])),
    ] {
        assert_eq!(node[member], value, "{member}");
    }
    let model = &state["models"][0];
    assert_eq!(model["nodes"], json!(["a", "b"]));
    let known = served.until(|state| state["models"][0]["resumes"] == "rendered_raw");
    known.await;
    gate.open();
    assert!(client.end().await.whole);
    served.until_idle().await;
}

fn refused(answer: &Answer, status: u16) {
    assert!(!answer.ollama_error(status).is_empty());
}

#[tokio::test]
async fn nodes_are_added_only_as_nodes_can_be() {
    let (one, _two, served) = two().await;
    let third = node().await;
    let add = async |body: Value| {
        let body = body.to_string();
        served.administer("POST", "/admin/nodes", &body).await
    };
    for url in [
        "",
        "gpu-1",
        "https://gpu-1",
        "http://u:p@gpu-1",
        "http://gpu-1/api",
        "http://gpu-1?x=1",
        "http://gpu 1",
        "http://gpu-1\r\nx: y",
        "http://gpu-1:99999",
        "http://gpu-1:0",
        "http://gpu-1:",
        "http://:80",
        "ftp://gpu-1",
        "http://",
    ] {
        refused(&add(json!({"url": url})).await, 400);
    }
    for name in ["", "a b", "a\nb", "a\u{0}b", "né", &"x".repeat(256)] {
        refused(&add(json!({"url": one.url(), "name": name})).await, 400);
    }
    refused(&add(json!({"url": third.url(), "name": "a"})).await, 409);
    for body in [
        json!({}),
        json!({"url": 7}),
        json!({"url": third.url(), "slots": 0}),
        json!({"url": third.url(), "slots": -1}),
        json!({"url": third.url(), "weight": -1}),
        json!({"url": third.url(), "colour": "red"}),
        json!([]),
    ] {
        refused(&add(body).await, 422);
    }
    let raw = Client::send(served.admin, "POST", "/admin/nodes", &[KEY], b"{not json");
    refused(&raw.await.end().await, 400);
    assert_eq!(served.state().await["nodes"].as_array().unwrap().len(), 2);

    let added = add(json!({"url": third.url(), "slots": 3, "weight": 2})).await;
    let name = third.address().to_string();
    assert_eq!((added.status, &added.json()["name"]), (201, &json!(name)));
    served.until(|state| state["nodes"][2]["up"] == true).await;
    let node = served.node(&name).await;
    assert_eq!((&node["slots"], &node["weight"]), (&json!(3), &json!(2)));
    let body = Dialect::Chat.streamed();
    let answer = served.post_until("/api/chat", &body, |answer| answer.node() == name);
    assert_eq!(answer.await.status, 200);
}

#[tokio::test]
async fn weight_and_slots_are_changed_and_nonsense_is_not() {
    let (one, two, served) = two().await;
    let change = async |body: Value| {
        let body = body.to_string();
        served.administer("PATCH", "/admin/nodes/a", &body).await
    };
    for body in [
        json!({"slots": 0}),
        json!({"weight": "x"}),
        json!({"heaviness": 1}),
        json!({"slots": 4_294_967_296_u64}),
    ] {
        refused(&change(body).await, 422);
    }
    refused(
        &served.administer("PATCH", "/admin/nodes/none", "{}").await,
        404,
    );
    let changed = change(json!({"weight": 5, "slots": 2})).await.json();
    assert_eq!(
        (&changed["weight"], &changed["slots"]),
        (&json!(5), &json!(2))
    );

    // A node of no weight gets nothing; when it is the only one, that is said at once.
    change(json!({"weight": 0})).await;
    let before = one.tally().asked;
    for _ in 0..4 {
        assert_eq!(
            served
                .post("/api/chat", &Dialect::Chat.streamed())
                .await
                .node(),
            "b"
        );
    }
    assert_eq!(one.tally().asked, before);
    drop(two);
    served.administer("DELETE", "/admin/nodes/b", "").await;
    assert_eq!(
        served
            .post("/api/chat", &Dialect::Chat.streamed())
            .await
            .status,
        503
    );
    change(json!({"weight": 1})).await;
    assert_eq!(
        served
            .post("/api/chat", &Dialect::Chat.streamed())
            .await
            .node(),
        "a"
    );
}

#[tokio::test]
async fn a_waiter_gets_the_slot_that_an_administrator_adds() {
    let one = node().await;
    let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
    let gate = Gate::default();
    one.script([Step::Records(1), Step::Gate(gate.clone()), Step::Rest]);
    let mut busy = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    busy.until("\"done\":false").await;
    let waiting = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    served.until_waiting(1).await;
    served
        .administer("PATCH", "/admin/nodes/a", r#"{"slots":2}"#)
        .await;
    assert!(waiting.end().await.whole);
    gate.open();
    assert!(busy.end().await.whole);
    served.until_idle().await;
}

#[tokio::test]
async fn a_node_that_was_added_serves_at_once() {
    let (one, two, served) = two().await;
    for (node, name, other) in [
        (&one, "c", "a"),
        (&two, "d", "b"),
        (&one, "a", "c"),
        (&two, "b", "d"),
    ] {
        let added = json!({"url": node.url(), "name": name}).to_string();
        let added = served.administer("POST", "/admin/nodes", &added).await;
        assert_eq!(added.status, 201);
        let path = format!("/admin/nodes/{other}");
        assert_eq!(served.administer("DELETE", &path, "").await.status, 204);
        for _ in 0..2 {
            let answer = served.post("/api/chat", &Dialect::Chat.streamed()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }
    served.until_idle().await;
}

#[tokio::test]
async fn a_drained_node_ends_what_it_has_and_gets_nothing_more() {
    let (one, two, served) = two().await;
    let gate = Gate::default();
    one.script([Step::Records(1), Step::Gate(gate.clone()), Step::Rest]);
    let mut client = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    client.until("\"done\":false").await;
    let drained = served.administer("POST", "/admin/nodes/a/drain", "").await;
    assert_eq!(
        drained.json(),
        json!({"name": "a", "drained": true, "active": 1})
    );
    for _ in 0..4 {
        assert_eq!(
            served
                .post("/api/chat", &Dialect::Chat.streamed())
                .await
                .node(),
            "b"
        );
    }
    gate.open();
    let said = Dialect::Chat.read(&client.end().await.body);
    assert_eq!((said.ends, said.error), (1, None));
    assert_eq!(one.until(|tally| tally.open == 0).await.aborted, 0);
    served.until_idle().await;

    two.kill();
    served.until(|state| state["nodes"][1]["up"] == false).await;
    let alone = served.post("/api/chat", &Dialect::Chat.streamed()).await;
    assert_eq!(alone.status, 503, "a drained node is not asked even then");
    served
        .administer("DELETE", "/admin/nodes/a/drain", "")
        .await;
    assert_eq!(
        served
            .post("/api/chat", &Dialect::Chat.streamed())
            .await
            .node(),
        "a"
    );
    refused(
        &served
            .administer("POST", "/admin/nodes/none/drain", "")
            .await,
        404,
    );
}

#[tokio::test]
async fn a_removed_node_ends_what_it_has_and_may_come_back_under_its_name() {
    let (one, _two, served) = two().await;
    let gate = Gate::default();
    one.script([Step::Records(1), Step::Gate(gate.clone()), Step::Rest]);
    let mut client = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    client.until("\"done\":false").await;
    assert_eq!(
        served
            .administer("DELETE", "/admin/nodes/a", "")
            .await
            .status,
        204
    );
    refused(
        &served.administer("DELETE", "/admin/nodes/a", "").await,
        404,
    );
    assert_eq!(
        served.get("/api/tags").await.json()["models"][0]["nodes"],
        json!(["b"])
    );
    let added = json!({"url": one.url(), "name": "a"}).to_string();
    assert_eq!(
        served
            .administer("POST", "/admin/nodes", &added)
            .await
            .status,
        201
    );
    served.until(|state| state["nodes"][1]["up"] == true).await;
    gate.open();
    assert_eq!(Dialect::Chat.read(&client.end().await.body).ends, 1);
    let body = Dialect::Chat.streamed();
    let again = served.post_until("/api/chat", &body, |answer| answer.node() == "a");
    assert_eq!(again.await.status, 200);
    served.until_idle().await;
}

#[tokio::test]
async fn only_strategies_that_there_are_can_be_switched_to() {
    let (_one, _two, served) = two().await;
    for (body, status) in [
        (r#"{"strategy":"best"}"#, 422),
        (r#"{"strategy":7}"#, 400),
        ("{}", 422),
        (r#"{"strategy":"adaptive","x":1}"#, 422),
    ] {
        refused(
            &served.administer("PUT", "/admin/strategy", body).await,
            status,
        );
    }
    assert_eq!(served.state().await["strategy"], "round_robin");
    let switched = served
        .administer("PUT", "/admin/strategy", r#"{"strategy":"adaptive"}"#)
        .await;
    assert_eq!(switched.json(), json!({"strategy": "adaptive"}));
    let answer = served.post("/api/chat", &Dialect::Chat.streamed()).await;
    assert_eq!(answer.header("x-jarvis-reason"), "adaptive");
}

// Models.

async fn manage(served: &Served, method: &str, path: &str, body: &str) -> Answer {
    served.send(method, path, &[KEY], body).await.end().await
}

fn lines(answer: &Answer) -> Vec<Value> {
    answer
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_pull_is_made_on_every_node_with_the_progress_of_all_and_one_end() {
    let (one, two, served) = two().await;
    let answer = manage(
        &served,
        "POST",
        "/api/pull",
        r#"{"model":"new","insecure":false,"name":""}"#,
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/x-ndjson")
    );
    let records = lines(&answer);
    let of = |name: &str| {
        let own = records.iter().filter(|record| record["node"] == name);
        own.map(|record| record["status"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for name in ["a", "b"] {
        assert_eq!(of(name), ["pulling manifest", "pulling 1"]);
    }
    assert_eq!(records.last().unwrap(), &json!({"status": "success"}));
    assert_eq!(records.len(), 5);
    for node in [&one, &two] {
        assert!(node.models().contains(&"new:latest".to_owned()));
        let heard = node.heard().pop().unwrap();
        assert_eq!(heard.body, r#"{"model":"new","insecure":false,"name":""}"#);
        assert!(
            !heard.headers.contains_key("authorization"),
            "the key is ours alone"
        );
    }
    // It can be used at once.
    let body = Dialect::Chat.asking("new", true, &Value::Null);
    assert_eq!(served.post("/api/chat", &body).await.status, 200);

    let quiet = manage(
        &served,
        "POST",
        "/api/pull",
        r#"{"name":"newer","stream":false}"#,
    )
    .await;
    assert_eq!(
        (quiet.status, &quiet.json()["status"]),
        (200, &json!("success"))
    );
}

#[tokio::test]
async fn a_pull_that_fails_says_on_which_nodes() {
    let (one, _two, served) = two().await;
    let answer = manage(&served, "POST", "/api/pull", r#"{"model":"missing"}"#).await;
    let records = lines(&answer);
    let ends: Vec<_> = records
        .iter()
        .filter(|record| record["error"].is_string())
        .collect();
    assert_eq!(ends.len(), 1);
    let words = records.last().unwrap()["error"].as_str().unwrap();
    assert!(words.contains("a: ") && words.contains("b: ") && words.contains("does not exist"));
    let quiet = manage(
        &served,
        "POST",
        "/api/pull",
        r#"{"model":"missing","stream":false}"#,
    )
    .await;
    assert!(quiet.ollama_error(500).contains("does not exist"));
    one.kill();
    let half = manage(
        &served,
        "POST",
        "/api/pull",
        r#"{"model":"half","stream":false}"#,
    )
    .await;
    assert!(
        half.status == 502 || half.json()["nodes"] == json!(["b"]),
        "{half:?}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_a_pull_stops_it_on_every_node() {
    let (one, two, served) = two().await;
    let gate = Gate::default();
    one.hold_pulls(gate.clone());
    two.hold_pulls(gate);
    for body in [r#"{"model":"new"}"#, r#"{"model":"new","stream":false}"#] {
        let client = served.send("POST", "/api/pull", &[KEY], body).await;
        held(&one, &two, 2).await;
        drop(client);
        held(&one, &two, 0).await;
    }
    assert!(!one.models().contains(&"new:latest".to_owned()));
}

/// Waits until so many pulls wait on both together.
async fn held(one: &FakeOllama, two: &FakeOllama, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while one.held() + two.held() != count {
        assert!(
            Instant::now() < deadline,
            "{} and {}",
            one.held(),
            two.held()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn copies_and_deletions_go_to_the_nodes_that_have_the_model() {
    let (one, two, served) = two().await;
    one.add(FakeModel::ollama("only:latest"));
    served.started.balancer.refresh().await;
    let copy = r#"{"source":"only","destination":"copy"}"#;
    let copied = manage(&served, "POST", "/api/copy", copy).await;
    assert_eq!(
        (copied.status, &copied.json()["nodes"]),
        (200, &json!(["a"]))
    );
    assert!(one.models().contains(&"copy:latest".to_owned()));
    assert!(two.heard().is_empty());
    let deleted = manage(&served, "DELETE", "/api/delete", r#"{"name":"copy"}"#).await;
    assert_eq!(deleted.status, 200);
    assert!(!one.models().contains(&"copy:latest".to_owned()));
    let again = manage(
        &served,
        "DELETE",
        "/api/delete",
        r#"{"model":"copy","name":""}"#,
    )
    .await;
    refused(&again, 404);
    let absent = manage(
        &served,
        "POST",
        "/api/copy",
        r#"{"source":"x","destination":"y"}"#,
    )
    .await;
    refused(&absent, 404);
    let everywhere = manage(&served, "DELETE", "/api/delete", r#"{"model":"m"}"#).await;
    assert_eq!(everywhere.json()["nodes"].as_array().unwrap().len(), 2);
    let gone = served.post("/api/chat", &Dialect::Chat.streamed()).await;
    refused(&gone, 404);
}

#[tokio::test]
async fn a_model_is_created_on_the_nodes_that_are_named() {
    let (one, two, served) = two().await;
    let headers = [KEY, ("x-jarvis-node", "b")];
    let body = r#"{"model":"mine","from":"m"}"#;
    let answer = served
        .send("POST", "/api/create", &headers, body)
        .await
        .end()
        .await;
    assert_eq!(
        lines(&answer).last().unwrap(),
        &json!({"status": "success"})
    );
    assert!(!one.models().contains(&"mine:latest".to_owned()));
    assert!(two.models().contains(&"mine:latest".to_owned()));
    let headers = [KEY, ("x-jarvis-node", "none")];
    let answer = served
        .send("POST", "/api/create", &headers, body)
        .await
        .end()
        .await;
    refused(&answer, 503);
    let wrong = r#"{"model":"x","from":"absent","stream":false}"#;
    let answer = manage(&served, "POST", "/api/create", wrong).await;
    assert!(
        answer.ollama_error(400).contains("from"),
        "every node says so"
    );
}

/// `ollama create` asks whether a file is there before it sends it.
#[tokio::test]
async fn files_are_asked_for_and_sent() {
    let (_one, _two, served) = two().await;
    let path = "/api/blobs/sha256:1";
    assert_eq!(manage(&served, "HEAD", path, "").await.status, 404);
    let one = [KEY, ("x-jarvis-node", "a")];
    let sent = served.send("POST", path, &one, "bytes").await.end().await;
    assert_eq!(sent.status, 201);
    let asked = served.send("HEAD", path, &one, "").await.end().await;
    assert_eq!(asked.status, 200);
    // The other one needs it too: so it is sent.
    assert_eq!(manage(&served, "HEAD", path, "").await.status, 404);
    assert_eq!(manage(&served, "POST", path, "bytes").await.status, 201);
    assert_eq!(manage(&served, "HEAD", path, "").await.status, 200);
    // An Ollama says of what it has that it is there.
    assert_eq!(manage(&served, "POST", path, "bytes").await.status, 200);
}
