//! What a client is told while it waits, if it asks for it.

use crate::{
    dialect::{self, Dialect},
    web::{Answer, Client, Served, quick, serve, with_slots},
};
use jarvis_balancer::Options;
use jarvis_testkit::{FakeModel, FakeOllama, Gate, Step};
use serde_json::{Value, json};
use std::time::Duration;

const TOLD: [(&str, &str); 1] = [("x-jarvis-queue-events", "true")];

async fn node() -> FakeOllama {
    FakeOllama::with(vec![FakeModel::engine("m:latest")]).await
}

fn openai() -> impl Iterator<Item = Dialect> {
    dialect::ALL
        .into_iter()
        .filter(|dialect| dialect.is_openai())
}

async fn ask(served: &Served, dialect: Dialect) -> Client {
    let (path, body) = (dialect.path(), dialect.streamed());
    served.send("POST", path, &TOLD, body).await
}

/// Takes the only slot until the gate is opened.
async fn occupy(served: &Served, node: &FakeOllama) -> (Client, Gate) {
    let gate = Gate::default();
    node.script([Step::Records(1), Step::Gate(gate.clone()), Step::Rest]);
    let (path, body) = (Dialect::Chat.path(), Dialect::Chat.streamed());
    let mut client = served.begin(path, &body).await;
    client.until(Dialect::Chat.first()).await;
    (client, gate)
}

/// What was told in comments, and the answer without them.
fn apart(answer: &Answer) -> (Vec<Value>, Vec<u8>) {
    let events = answer.text().split_inclusive("\n\n");
    let (comments, rest): (Vec<_>, Vec<_>) = events.partition(|event| event.starts_with(": "));
    let told = comments
        .iter()
        .map(|comment| serde_json::from_str(&comment[2..]).unwrap());
    (told.collect(), rest.concat().into_bytes())
}

#[tokio::test]
async fn who_asks_for_it_reads_its_place_before_its_answer() {
    for dialect in openai() {
        let one = node().await;
        let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
        let plain = served.post(dialect.path(), &dialect.streamed()).await;
        let plain = dialect.read(&plain.body).text;
        let (busy, gate) = occupy(&served, &one).await;
        let mut first = ask(&served, dialect).await;
        first.until("\"position\":1").await;
        let mut second = ask(&served, dialect).await;
        second.until("\"position\":2").await;
        gate.open();
        assert!(busy.end().await.whole);
        let first = first.end().await;
        let second = second.end().await;
        for (answer, position) in [(&first, "1"), (&second, "2")] {
            assert_eq!((answer.status, answer.whole), (200, true));
            assert_eq!(answer.header("content-type"), "text/event-stream");
            assert_eq!(answer.header("x-jarvis-queue-position"), position);
            // However short: nobody who waits does so for no time.
            assert_eq!(answer.header("x-jarvis-queue-eta"), "1");
            let (told, text) = apart(answer);
            let (last, places) = told.split_last().unwrap();
            assert_eq!(
                (&last["node"], &last["reason"]),
                (&json!("a"), &json!("round_robin"))
            );
            assert!(last["queue_wait_seconds"].as_f64().unwrap() > 0.0);
            assert_eq!(places[0]["queue"]["position"].to_string(), position);
            let said = dialect.read(&text);
            assert_eq!((said.ends, said.error), (1, None), "{answer:?}");
            assert_eq!(said.text, plain);
        }
        served.until_idle().await;
    }
}

#[tokio::test]
async fn nothing_is_told_where_nobody_waits_or_nobody_asks_or_there_is_no_room() {
    let one = node().await;
    let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
    for dialect in openai() {
        let answer = ask(&served, dialect).await.end().await;
        assert_eq!((answer.status, answer.node()), (200, "a"));
        assert_eq!(apart(&answer).0, [] as [Value; 0]);
    }
    for dialect in dialect::ALL {
        let (busy, gate) = occupy(&served, &one).await;
        let headers = if dialect.is_openai() { &[][..] } else { &TOLD };
        let body = dialect.streamed();
        let waiting = served.send("POST", dialect.path(), headers, body).await;
        served.until_waiting(1).await;
        gate.open();
        assert!(busy.end().await.whole);
        let answer = waiting.end().await;
        assert_eq!((answer.status, answer.node()), (200, "a"));
        assert!(!answer.text().contains("position"), "{answer:?}");
    }
    served.until_idle().await;
}

#[tokio::test]
async fn what_goes_wrong_after_the_head_is_told_in_the_stream() {
    let one = node().await;
    let options = Options {
        queue_timeout: Duration::from_millis(300),
        ..quick()
    };
    let served = serve(options, vec![with_slots("a", &one, 1)]).await;
    for dialect in openai() {
        let (busy, gate) = occupy(&served, &one).await;
        let late = ask(&served, dialect).await.end().await;
        assert_eq!((late.status, late.whole), (200, true));
        let said = dialect.read(&apart(&late).1);
        let error = said.error.unwrap();
        assert!(error.contains("no slot became free"), "{error}");
        assert_eq!((said.ends, said.text.as_str()), (0, ""));
        // The node's own refusal, as it came.
        let mut waiting = ask(&served, dialect).await;
        waiting.until("\"position\":1").await;
        one.script([Step::Refuse(400, "too long by far".into())]);
        gate.open();
        assert!(busy.end().await.whole);
        let said = dialect.read(&apart(&waiting.end().await).1);
        assert_eq!(said.error.as_deref(), Some("too long by far"));
        served.until_idle().await;
    }
}

#[tokio::test]
async fn who_is_told_and_leaves_is_off_the_queue() {
    let one = node().await;
    let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
    let (busy, gate) = occupy(&served, &one).await;
    let mut waiting = ask(&served, Dialect::OpenAiChat).await;
    waiting.until("\"position\":1").await;
    drop(waiting);
    served.until_waiting(0).await;
    gate.open();
    assert!(busy.end().await.whole);
    served.until_idle().await;
    assert_eq!(one.tally().asked, 1);
}

/// What others wait for on other nodes, and how long those take, says nothing of this wait.
#[tokio::test]
async fn a_wait_is_expected_by_the_nodes_that_have_the_model() {
    let dialect = Dialect::OpenAiChat;
    let slow = node().await;
    let quick_node = FakeOllama::with(vec![FakeModel::engine("n:latest")]).await;
    let nodes = vec![
        with_slots("slow", &slow, 1),
        with_slots("quick", &quick_node, 1),
    ];
    let served = serve(quick(), nodes).await;
    let (path, other) = (dialect.path(), dialect.asking("n", true, &Value::Null));
    assert!(served.post(path, &other).await.whole);
    // The slow one holds its slot for a while.
    let (busy, gate) = occupy(&served, &slow).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    gate.open();
    assert!(busy.end().await.whole);
    let (busy, gate) = occupy(&served, &slow).await;
    let mut waiting = Vec::new();
    for count in 1..=5 {
        waiting.push(ask(&served, dialect).await);
        served.until_waiting(count).await;
    }
    let held = Gate::default();
    quick_node.script([Step::Records(1), Step::Gate(held.clone()), Step::Rest]);
    let mut first = served.begin(path, &other).await;
    first.until(dialect.first()).await;
    let second = served.send("POST", path, &TOLD, &other).await;
    served.until_waiting(6).await;
    held.open();
    let told = second.end().await;
    assert_eq!(told.header("x-jarvis-queue-eta"), "1", "{told:?}");
    assert!(first.end().await.whole);
    gate.open();
    assert!(busy.end().await.whole);
    for (ahead, client) in waiting.into_iter().enumerate() {
        let answer = client.end().await;
        let eta: usize = answer.header("x-jarvis-queue-eta").parse().unwrap();
        assert!(eta > 2 * (ahead + 1), "{eta}");
    }
}
