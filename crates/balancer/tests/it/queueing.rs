//! Who gets a slot: bad nodes, full queues, priorities and users, and changes under load.

use crate::{
    dialect::Dialect,
    web::{Client, SECRET, Served, quick, serve, spec, with_slots},
};
use jarvis_balancer::Options;
use jarvis_testkit::{FakeModel, FakeOllama, Gate, Step};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio_util::task::TaskTracker;

async fn node() -> FakeOllama {
    FakeOllama::with(vec![FakeModel::engine("m:latest")]).await
}

fn question() -> String {
    Dialect::Chat.asking("m", true, &json!({"options": {"num_predict": 4}}))
}

async fn ask(served: &Served) -> crate::web::Answer {
    served.post("/api/chat", &question()).await
}

/// Takes the only slot of `node` until the gate is opened.
async fn occupy(served: &Served, node: &FakeOllama) -> (Client, Gate) {
    let gate = Gate::default();
    node.script([Step::Records(1), Step::Gate(gate.clone()), Step::Rest]);
    let mut client = served.begin("/api/chat", &question()).await;
    client.until("\"done\":false").await;
    (client, gate)
}

// Lines 12 and 13.

#[tokio::test]
async fn a_node_that_says_503_at_once_is_left_alone_and_not_favoured() {
    for strategy in [
        "round_robin",
        "least_connections",
        "weighted_response_time",
        "queue_length",
        "adaptive",
    ] {
        let (bad, good) = (node().await, node().await);
        for _ in 0..200 {
            bad.script([Step::Refuse(503, "server busy".into())]);
        }
        let options = Options {
            strategy: strategy.parse().unwrap(),
            ..quick()
        };
        let served = serve(options, vec![spec("bad", &bad), spec("good", &good)]).await;
        for _ in 0..60 {
            let answer = ask(&served).await;
            assert_eq!((answer.status, answer.node()), (200, "good"));
        }
        let (asked, state) = (bad.tally().asked, served.node("bad").await);
        // Five failures in a row, or one probe after each pause.
        assert!(asked <= 12, "{strategy}: {asked} of 60");
        if asked >= 5 {
            assert_ne!(state["breaker"], "closed", "{state}");
        }
        assert!(
            state["health_score"].as_f64() < served.node("good").await["health_score"].as_f64()
        );
        served.until_idle().await;
    }
}

#[tokio::test]
async fn a_node_that_was_left_alone_is_used_again_once_it_answers() {
    let (bad, good) = (node().await, node().await);
    for _ in 0..5 {
        bad.script([Step::Refuse(500, "out of memory".into())]);
    }
    let served = serve(quick(), vec![spec("bad", &bad), spec("good", &good)]).await;
    while bad.tally().asked < 5 {
        assert_eq!(ask(&served).await.status, 200);
    }
    assert_eq!(served.node("bad").await["breaker"], "open");
    let body = question();
    let back = served.post_until("/api/chat", &body, |answer| answer.node() == "bad");
    assert_eq!(back.await.status, 200);
    served
        .until(|state| state["nodes"][0]["breaker"] == "closed")
        .await;
}

#[tokio::test]
async fn refusals_of_requests_say_nothing_about_the_node() {
    let only = node().await;
    let served = serve(quick(), vec![spec("a", &only)]).await;
    for status in [400, 401, 403, 404, 413, 422] {
        for _ in 0..20 {
            only.script([Step::Refuse(status, "no".into())]);
            let answer = ask(&served).await;
            assert_eq!(answer.ollama_error(status), "no");
        }
    }
    let state = served.node("a").await;
    assert_eq!(
        (&state["breaker"], &state["error_rate"]),
        (&json!("closed"), &json!(0.0))
    );
    assert_eq!(ask(&served).await.status, 200);
    served.until_idle().await;
}

// Lines 14 and 15.

#[tokio::test]
async fn when_all_nodes_are_down_that_is_said_at_once_and_they_are_found_when_they_are_back() {
    let (one, two) = (node().await, node().await);
    let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
    assert_eq!(ask(&served).await.status, 200);
    one.kill();
    two.kill();
    for path in ["/api/chat", "/v1/chat/completions", "/api/embed"] {
        for _ in 0..20 {
            let answer = served.post(path, &question()).await;
            assert_eq!(answer.status, 503, "{answer:?}");
            let wait: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=60).contains(&wait));
        }
    }
    assert_eq!(served.get("/api/tags").await.json(), json!({"models": []}));
    assert_eq!(
        served.get("/health").await.json()["status"],
        "no_healthy_node"
    );
    assert_eq!(
        served
            .send("GET", "/api/tomorrow", &[], "")
            .await
            .end()
            .await
            .status,
        503
    );
    one.revive().await;
    let body = question();
    let back = served.post_until("/api/chat", &body, |answer| answer.status == 200);
    assert_eq!(back.await.node(), "a");
    two.revive().await;
    served
        .post_until("/api/chat", &question(), |answer| answer.node() == "b")
        .await;
    served.until_idle().await;
}

/// It answers every look and breaks every answer off.
#[tokio::test]
async fn a_node_that_is_up_and_down_is_tried_ever_more_rarely() {
    let (flapping, good) = (node().await, node().await);
    for _ in 0..300 {
        flapping.script([Step::Bytes(20), Step::Cut]);
    }
    let served = serve(quick(), vec![spec("a", &flapping), spec("b", &good)]).await;
    let began = tokio::time::Instant::now();
    for _ in 0..300 {
        let answer = ask(&served).await;
        assert_eq!((answer.status, answer.node()), (200, "b"));
    }
    // Pauses of half a second at least, each twice as long as the one before.
    let pauses = 2 * began.elapsed().as_secs() + 2;
    let most = 1 + u64::from((pauses + 1).next_power_of_two().ilog2());
    let asked = flapping.tally().asked;
    assert!((1..=most).contains(&asked), "{asked} of {most}");
    served
        .until(|state| state["nodes"][0]["up"] == true && state["nodes"][0]["breaker"] != "closed")
        .await;
    served.until_idle().await;
}

#[tokio::test]
async fn nodes_that_all_fail_are_not_buried_under_retries() {
    const REQUESTS: u64 = 150;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let node = node().await;
        for _ in 0..4 * REQUESTS {
            node.script([Step::Refuse(500, "out of memory".into())]);
        }
        nodes.push(node);
    }
    let names = ["a", "b", "c", "d"];
    let specs = names
        .iter()
        .zip(&nodes)
        .map(|(name, node)| spec(name, node));
    let served = serve(quick(), specs.collect()).await;
    let began = tokio::time::Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(ask(&served).await.ollama_error(500), "out of memory");
    }
    let asked: u64 = nodes.iter().map(|node| node.tally().asked).sum();
    // One in five, what there is to begin with, and three a second.
    let seconds = began.elapsed().as_secs() + 1;
    let most = REQUESTS + REQUESTS / 5 + 30 + 3 * seconds;
    assert!((REQUESTS..=most).contains(&asked), "{asked} of {most}");
    served.until_idle().await;
}

#[tokio::test]
async fn who_waits_when_the_last_node_dies_is_told_at_once() {
    let one = node().await;
    let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
    let (busy, _gate) = occupy(&served, &one).await;
    let waiting = served.begin("/api/chat", &question()).await;
    served.until_waiting(1).await;
    one.kill();
    let answer = waiting.end().await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!answer.header("retry-after").is_empty());
    assert!(Dialect::Chat.read(&busy.end().await.body).error.is_some());
    one.revive().await;
    served
        .post_until("/api/chat", &question(), |answer| answer.status == 200)
        .await;
}

/// One broken connection is not the node's death: who waits is served by it.
#[tokio::test]
async fn who_waits_behind_an_answer_that_breaks_off_is_served() {
    let one = node().await;
    let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
    let gate = Gate::default();
    one.script([Step::Records(1), Step::Gate(gate.clone()), Step::Cut]);
    let mut busy = served.begin("/api/chat", &question()).await;
    busy.until("\"done\":false").await;
    let waiting = served.begin("/api/chat", &question()).await;
    served.until_waiting(1).await;
    gate.open();
    assert!(Dialect::Chat.read(&busy.end().await.body).error.is_some());
    assert_eq!(waiting.end().await.status, 200);
    served.until_idle().await;
}

/// Who waits for a busy node gets the other one once that is well again, though nothing was freed.
#[tokio::test]
async fn who_waits_is_served_by_a_node_that_recovers() {
    let (one, two) = (node().await, node().await);
    let served = serve(
        quick(),
        vec![with_slots("a", &one, 1), with_slots("b", &two, 1)],
    )
    .await;
    for _ in 0..5 {
        two.script([Step::Refuse(500, "out of memory".into())]);
    }
    while two.tally().asked < 5 {
        assert_eq!(ask(&served).await.status, 200);
    }
    let (busy, gate) = occupy(&served, &one).await;
    let answer = ask(&served).await;
    assert_eq!((answer.status, answer.node()), (200, "b"));
    gate.open();
    assert!(busy.end().await.whole);
}

// Line 16.

#[tokio::test]
async fn a_full_queue_says_so_in_every_dialect_and_empties() {
    let one = node().await;
    let options = Options {
        max_queue: 2,
        ..quick()
    };
    let served = serve(options, vec![with_slots("a", &one, 1)]).await;
    let (busy, gate) = occupy(&served, &one).await;
    let mut waiting = Vec::new();
    for count in 1..=2 {
        waiting.push(served.begin("/api/chat", &question()).await);
        served.until_waiting(count).await;
    }
    for dialect in crate::dialect::ALL {
        let answer = served.post(dialect.path(), &dialect.streamed()).await;
        let words = answer.error(dialect, 503);
        assert!(words.contains("busy"), "{words}");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    // A shorter wait is not told.
    tokio::time::sleep(Duration::from_millis(2)).await;
    gate.open();
    assert!(busy.end().await.whole);
    for client in waiting {
        let answer = client.end().await;
        assert_eq!(answer.status, 200);
        assert!(!answer.header("x-jarvis-queue-wait").is_empty());
    }
    served.until_idle().await;
}

#[tokio::test]
async fn a_queue_that_is_full_of_others_does_not_keep_out_who_could_be_served() {
    let one = node().await;
    let two = FakeOllama::with(vec![FakeModel::engine("free:latest")]).await;
    let options = Options {
        max_queue: 1,
        ..quick()
    };
    let served = serve(options, vec![with_slots("a", &one, 1), spec("b", &two)]).await;
    let (busy, gate) = occupy(&served, &one).await;
    let waiting = served.begin("/api/chat", &question()).await;
    served.until_waiting(1).await;
    let free = Dialect::Chat.asking("free", true, &Value::Null);
    assert_eq!(served.post("/api/chat", &free).await.status, 200);
    gate.open();
    assert!(busy.end().await.whole && waiting.end().await.whole);
}

#[tokio::test]
async fn who_waits_for_too_long_is_refused_and_off_the_queue() {
    let one = node().await;
    let options = Options {
        queue_timeout: Duration::from_millis(200),
        ..quick()
    };
    let served = serve(options, vec![with_slots("a", &one, 1)]).await;
    let (busy, gate) = occupy(&served, &one).await;
    for dialect in crate::dialect::ALL {
        let answer = served.post(dialect.path(), &dialect.streamed()).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        assert_eq!(served.state().await["queue"]["waiting"], 0);
    }
    assert_eq!(one.tally().asked, 1);
    gate.open();
    assert!(busy.end().await.whole);
    assert_eq!(ask(&served).await.status, 200);
    served.until_idle().await;
}

// Priorities and users.

/// Has these wait one behind the other, then serves them one at a time; gives the order in which they came to the node.
async fn order_of(who: &[(&str, &[(&str, &str)])]) -> Vec<String> {
    let one = node().await;
    let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
    let (busy, gate) = occupy(&served, &one).await;
    let mut clients = Vec::new();
    for (count, (name, headers)) in who.iter().enumerate() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": name}]});
        let client = served.send("POST", "/api/chat", headers, body.to_string());
        clients.push(client.await);
        served.until_waiting(count + 1).await;
    }
    gate.open();
    assert!(busy.end().await.whole);
    for client in clients {
        assert!(client.end().await.whole);
    }
    let asked = one.requests();
    asked[1..]
        .iter()
        .map(|request| request.messages[0].content.clone())
        .collect()
}

#[tokio::test]
async fn the_urgent_come_first_if_the_installation_says_so() {
    let high = [
        SECRET,
        ("x-jarvis-user", "ada"),
        ("x-jarvis-priority", "high"),
    ];
    let low = [
        SECRET,
        ("x-jarvis-user", "bob"),
        ("x-jarvis-priority", "low"),
    ];
    let normal = [SECRET, ("x-jarvis-user", "eve")];
    let who = [
        ("low", &low[..]),
        ("normal", &normal[..]),
        ("high", &high[..]),
    ];
    assert_eq!(order_of(&who).await, ["high", "normal", "low"]);
    let nameless = [SECRET, ("x-jarvis-priority", "high")];
    let who = [("normal", &normal[..]), ("high", &nameless[..])];
    assert_eq!(order_of(&who).await, ["high", "normal"]);
}

#[tokio::test]
async fn nobody_becomes_urgent_or_another_user_by_saying_so() {
    let forged = [("x-jarvis-user", "x"), ("x-jarvis-priority", "high")];
    let wrong = [
        ("x-jarvis-internal", "the-installationz"),
        ("x-jarvis-user", "y"),
        ("x-jarvis-priority", "high"),
    ];
    let who = [
        ("1", &[][..]),
        ("2", &[][..]),
        ("3", &forged[..]),
        ("4", &wrong[..]),
    ];
    assert_eq!(order_of(&who).await, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn users_take_turns_however_much_one_of_them_asks() {
    let ada = [SECRET, ("x-jarvis-user", "ada")];
    let bob = [SECRET, ("x-jarvis-user", "bob")];
    let mut who: Vec<(&str, &[_])> = ["a1", "a2", "a3", "a4"].map(|name| (name, &ada[..])).into();
    who.extend(["b1", "b2"].map(|name| (name, &bob[..])));
    let order = order_of(&who).await;
    let place = |name: &str| order.iter().position(|other| other == name).unwrap();
    assert!(place("b1") <= 1 && place("b2") <= 3, "{order:?}");
    assert!(
        place("a1") < place("a2") && place("a2") < place("a3"),
        "{order:?}"
    );
}

// Line 17.

#[tokio::test]
async fn changes_under_load_fail_no_request() {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node().await);
    }
    let served = Arc::new(serve(quick(), vec![with_slots("n0", &nodes[0], 2)]).await);
    let stop = Arc::new(AtomicBool::new(false));
    let (tasks, mut load) = (TaskTracker::new(), Vec::new());
    for worker in 0..6 {
        let (served, stop) = (Arc::clone(&served), Arc::clone(&stop));
        load.push(tasks.spawn(async move {
            let dialect = crate::dialect::ALL[worker % 4];
            let mut count = 0;
            while !stop.load(SeqCst) {
                let answer = served.post(dialect.path(), &dialect.streamed()).await;
                assert!(answer.status == 200 && answer.whole, "{answer:?}");
                let said = dialect.read(&answer.body);
                assert_eq!((said.ends, said.error), (1, None));
                count += 1;
            }
            count
        }));
    }
    for round in 0..6 {
        for strategy in [
            "adaptive",
            "queue_length",
            "weighted_response_time",
            "least_connections",
            "round_robin",
        ] {
            let body = json!({"strategy": strategy}).to_string();
            assert_eq!(
                served
                    .administer("PUT", "/admin/strategy", &body)
                    .await
                    .status,
                200
            );
        }
        let fresh = (round + 1) % 3;
        let name = format!("n{fresh}");
        served.join(with_slots(&name, &nodes[fresh], 2)).await;
        let old = format!("n{}", round % 3);
        let drain = format!("/admin/nodes/{old}/drain");
        assert_eq!(served.administer("POST", &drain, "").await.status, 200);
        let weight = json!({"weight": 3, "slots": 1 + round}).to_string();
        let path = format!("/admin/nodes/{name}");
        assert_eq!(served.administer("PATCH", &path, &weight).await.status, 200);
        if round % 2 == 0 {
            // Until it has nothing left to do.
            served
                .until(|state| {
                    let mut nodes = state["nodes"].as_array().unwrap().iter();
                    nodes.any(|node| node["name"] == *old && node["active"] == 0)
                })
                .await;
        }
        let path = format!("/admin/nodes/{old}");
        assert_eq!(served.administer("DELETE", &path, "").await.status, 204);
    }
    stop.store(true, SeqCst);
    for worker in load {
        assert!(worker.await.unwrap() > 0);
    }
    for node in &nodes {
        let tally = node.until(|tally| tally.open == 0).await;
        assert_eq!(tally.aborted, 0, "what was begun was ended");
    }
    served.until_idle().await;
}

// Line 18.

/// Another file under the same name.
async fn other() -> FakeOllama {
    let mut model = FakeModel::engine("m:latest");
    "another digest".clone_into(&mut model.info.digest);
    FakeOllama::with(vec![model]).await
}

fn conversation(stream: bool, turns: &[&str]) -> String {
    let messages: Vec<_> = turns
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let role = ["user", "assistant"][at % 2];
            json!({"role": role, "content": text})
        })
        .collect();
    json!({"model": "m", "messages": messages, "stream": stream}).to_string()
}

#[tokio::test]
async fn two_files_of_one_name_are_reported_and_never_mixed_in_one_conversation() {
    for stream in [true, false] {
        let (one, two) = (node().await, other().await);
        // The first node's counts; it is away for a while.
        let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
        let tags = served.get("/api/tags").await.json();
        assert_eq!(tags["models"][0]["nodes"], json!(["a"]));
        assert_eq!(tags["models"][0]["differing_nodes"], json!(["b"]));
        assert_eq!(
            served.state().await["models"][0]["differing_nodes"],
            json!(["b"])
        );

        let begun = served
            .post("/api/chat", &conversation(stream, &["hello"]))
            .await;
        assert_eq!((begun.status, begun.node()), (200, "a"));
        one.kill();
        served.until(|state| state["nodes"][0]["up"] == false).await;
        let next = conversation(stream, &["hello", "hi", "and now?"]);
        let refused = served.post("/api/chat", &next).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        let fresh = served
            .post("/api/chat", &conversation(stream, &["something else"]))
            .await;
        assert_eq!(
            (fresh.status, fresh.node()),
            (200, "b"),
            "who has not begun goes where it can"
        );
        one.revive().await;
        let again = served
            .post_until("/api/chat", &next, |answer| answer.status == 200)
            .await;
        assert_eq!(again.node(), "a");
        served.until_idle().await;
    }
}

#[tokio::test]
async fn an_answer_never_goes_on_with_another_file() {
    let (one, two) = (node().await, other().await);
    let served = serve(
        quick(),
        vec![with_slots("a", &one, 4), with_slots("b", &two, 4)],
    )
    .await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        one.script([Step::Records(3), Step::Stall]);
        let mut client = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
        client.until("\"done\":false").await;
        clients.push(client);
    }
    one.kill();
    for client in clients {
        let said = Dialect::Chat.read(&client.end().await.body);
        assert_eq!(said.ends, 0);
        assert!(said.error.is_some());
    }
    assert_eq!(two.tally().asked, 0);
    one.revive().await;
    served
        .post_until("/api/chat", &question(), |answer| answer.node() == "a")
        .await;
}
