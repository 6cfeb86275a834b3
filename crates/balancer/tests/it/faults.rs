//! Nodes that die, stall or send nonsense, and clients that leave: what must be seen, and that all goes on afterwards.

use crate::{
    dialect::{ALL, Dialect, Said},
    web::{Answer, Served, quick, serve, spec, with_slots},
};
use bytes::Bytes;
use jarvis_balancer::{NodeSpec, Options, Transport};
use jarvis_testkit::{FakeModel, FakeOllama, Gate, Says, Step, Trailing};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::task::TaskTracker;

/// Tokens of the stories.
const LENGTH: usize = 40;

fn short(model: FakeModel) -> FakeModel {
    FakeModel {
        says: Says::Story(LENGTH),
        ..model
    }
}

fn engine() -> FakeModel {
    short(FakeModel::engine("m:latest"))
}

/// Its prompt is shown, and its template closes what is begun.
fn rendering() -> FakeModel {
    FakeModel {
        trailing: Trailing::Closes,
        ..short(FakeModel::ollama("m:latest"))
    }
}

async fn node(model: &FakeModel) -> FakeOllama {
    FakeOllama::with(vec![model.clone()]).await
}

/// What an undisturbed node says.
async fn undisturbed(model: &FakeModel, dialect: Dialect, body: &str) -> Said {
    let node = node(model).await;
    dialect.read(&node.ask(dialect.path(), body.to_owned()).await.bytes)
}

/// Nothing is open on the node and no slot is in use.
async fn at_rest(served: &Served, nodes: &[&FakeOllama]) {
    for node in nodes {
        node.until(|tally| tally.open == 0).await;
    }
    served.until_idle().await;
}

/// It still answers.
async fn answers(served: &Served) -> Answer {
    let body = Dialect::Chat.streamed();
    let answer = served.post_until("/api/chat", &body, |answer| answer.status == 200);
    answer.await
}

// Line 1.

#[tokio::test]
async fn a_node_that_dies_before_its_first_byte_is_replaced_unseen() {
    let cuts: [Vec<Step>; 3] = [
        vec![Step::Cut],
        // Half a record is nothing that anyone has seen.
        vec![Step::Bytes(20), Step::Cut],
        vec![Step::Refuse(500, "CUDA error: out of memory".into())],
    ];
    for dialect in ALL {
        for stream in [true, false] {
            for more in [
                Value::Null,
                json!({"format": "json", "response_format": {"type": "json_object"}}),
            ] {
                for cut in cuts.clone() {
                    let (one, two) = (node(&rendering()).await, node(&rendering()).await);
                    let body = dialect.asking("m", stream, &more);
                    let expected = one.ask(dialect.path(), body.clone()).await.bytes;
                    let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
                    two.ask(dialect.path(), body.clone()).await;
                    one.script(cut);
                    let answer = served.post(dialect.path(), &body).await;
                    assert!(answer.whole && answer.status == 200, "{answer:?}");
                    assert_eq!(answer.node(), "b");
                    // The id counts the node's answers.
                    let got = answer.text().replace("cmpl-2", "cmpl-1");
                    let got = got.replace("1767225602", "1767225601");
                    assert_eq!(got, std::str::from_utf8(&expected).unwrap());
                    at_rest(&served, &[&one, &two]).await;
                    answers(&served).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn an_error_that_comes_first_is_no_answer_yet() {
    for dialect in ALL {
        let (one, two) = (node(&engine()).await, node(&engine()).await);
        let first = if dialect.is_openai() {
            "data: {\"error\":{\"message\":\"out of memory\"}}\n\n"
        } else {
            "{\"error\":\"out of memory\"}\n"
        };
        one.script([Step::Raw(Bytes::from(first))]);
        let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
        let answer = served.post(dialect.path(), &dialect.streamed()).await;
        let said = dialect.read(&answer.body);
        assert_eq!((said.ends, said.error), (1, None));
        assert_eq!(answer.node(), "b");
        at_rest(&served, &[&one, &two]).await;
    }
}

#[tokio::test]
async fn when_no_other_node_is_there_the_failure_is_told_and_the_next_request_served() {
    let one = node(&engine()).await;
    let served = serve(quick(), vec![spec("a", &one)]).await;
    for dialect in ALL {
        one.script([Step::Cut]);
        let answer = served.post(dialect.path(), &dialect.streamed()).await;
        let words = answer.error(dialect, 503);
        assert!(words.contains("'a'"), "{words}");
        assert!(!answer.header("retry-after").is_empty());
        answers(&served).await;
    }
    at_rest(&served, &[&one]).await;
}

// Line 2.

/// Has `one` break off at `place` and `two` go on, in every dialect.
async fn spliced(model: &FakeModel, place: impl Fn(&FakeOllama, Gate), more: Value) {
    for dialect in ALL {
        let body = dialect.asking("m", true, &more);
        let expected = undisturbed(model, dialect, &body).await;
        assert!(expected.ends == 1 && expected.text.len() > 20);
        let (one, two) = (node(model).await, node(model).await);
        let gate = Gate::default();
        place(&one, gate.clone());
        let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
        let client = served.begin(dialect.path(), &body).await;
        gate.open();
        let answer = client.end().await;
        assert!(answer.whole && answer.status == 200, "{answer:?}");
        let said = dialect.read(&answer.body);
        assert_eq!(said.text, expected.text, "{dialect:?}");
        assert_eq!(
            (said.ends, said.reasons, said.counts, said.roles, said.error),
            (1, expected.reasons, expected.counts, expected.roles, None),
            "{dialect:?}"
        );
        assert_eq!(said.ids.len(), expected.ids.len(), "one stream has one id");
        assert_eq!(answer.node(), "a");
        assert_eq!(two.tally().asked, 1);
        at_rest(&served, &[&one, &two]).await;
        answers(&served).await;
    }
}

fn cut_after(records: usize) -> impl Fn(&FakeOllama, Gate) {
    move |node, gate| node.script([Step::Records(records), Step::Gate(gate), Step::Cut])
}

#[tokio::test]
async fn an_answer_whose_node_dies_goes_on_elsewhere_as_if_nothing_had_been() {
    for model in [engine(), rendering()] {
        for records in [1, 2, 7, 25, LENGTH] {
            spliced(&model, cut_after(records), Value::Null).await;
        }
    }
}

#[tokio::test]
async fn so_it_does_when_the_cut_is_in_the_middle_of_a_record() {
    for model in [engine(), rendering()] {
        for bytes in [300, 301, 350, 777, 1234] {
            let place = |node: &FakeOllama, gate| {
                node.script([Step::Bytes(bytes), Step::Gate(gate), Step::Cut]);
            };
            spliced(&model, place, Value::Null).await;
        }
    }
}

#[tokio::test]
async fn what_was_used_of_a_token_limit_is_not_had_again() {
    let more = json!({"options": {"num_predict": 20}, "max_tokens": 20});
    for records in [1, 12, 19] {
        spliced(&engine(), cut_after(records), more.clone()).await;
        spliced(&rendering(), cut_after(records), more.clone()).await;
    }
}

/// Nobody says any more how long the prompt was: its node is gone, and no other need be asked.
#[tokio::test]
async fn an_answer_that_had_used_its_limit_is_ended_and_not_continued() {
    for dialect in ALL {
        let more = json!({"options": {"num_predict": 20}, "max_tokens": 20});
        let body = dialect.asking("m", true, &more);
        let expected = undisturbed(&engine(), dialect, &body).await;
        let (one, two) = (node(&engine()).await, node(&engine()).await);
        one.script([Step::Records(20), Step::Cut]);
        let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
        let said = dialect.read(&served.post(dialect.path(), &body).await.body);
        assert_eq!((said.text, said.ends), (expected.text, 1));
        assert_eq!((said.reasons, said.counts.1), (expected.reasons, 20));
        assert_eq!(two.tally().asked, 0);
        at_rest(&served, &[&one, &two]).await;
    }
}

/// Line 4.
#[tokio::test]
async fn a_malformed_record_ends_a_nodes_part_and_nobody_sees_it() {
    for nonsense in [
        "{\"message\n",
        "data: {]\n\n",
        "\u{0}\n\n",
        "[]\ndata: []\n\n",
    ] {
        let place = |node: &FakeOllama, gate| {
            node.script([
                Step::Records(9),
                Step::Gate(gate),
                Step::Raw(Bytes::from(nonsense)),
                Step::Rest,
            ]);
        };
        for model in [engine(), rendering()] {
            // What is no event at all is a comment to readers of events.
            for dialect in ALL {
                if dialect.is_openai() && !nonsense.contains("data:") {
                    continue;
                }
                one_dialect(&model, dialect, place).await;
            }
        }
    }
}

async fn one_dialect(model: &FakeModel, dialect: Dialect, place: impl Fn(&FakeOllama, Gate)) {
    let body = dialect.streamed();
    let expected = undisturbed(model, dialect, &body).await;
    let (one, two) = (node(model).await, node(model).await);
    let gate = Gate::default();
    place(&one, gate.clone());
    let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
    let client = served.begin(dialect.path(), &body).await;
    gate.open();
    let said = dialect.read(&client.end().await.body);
    assert_eq!((said.text, said.ends), (expected.text, 1), "{dialect:?}");
    assert_eq!(said.error, None);
    // One failure of one answer that had begun.
    let rate = served.node("a").await["error_rate"].as_f64().unwrap();
    assert!((rate - 0.5).abs() < 1e-9, "{rate}");
    at_rest(&served, &[&one, &two]).await;
}

#[tokio::test]
async fn several_nodes_may_die_under_one_answer() {
    for dialect in ALL {
        let model = engine();
        let body = dialect.streamed();
        let expected = undisturbed(&model, dialect, &body).await;
        let mut nodes = Vec::new();
        for _ in 0..4 {
            nodes.push(node(&model).await);
        }
        for node in &nodes[..3] {
            node.script([Step::Records(5), Step::Cut]);
        }
        let names = ["a", "b", "c", "d"];
        let specs = names
            .iter()
            .zip(&nodes)
            .map(|(name, node)| spec(name, node));
        let served = serve(quick(), specs.collect()).await;
        let said = dialect.read(&served.post(dialect.path(), &body).await.body);
        assert_eq!(
            (said.text, said.counts, said.ends, said.error),
            (expected.text, expected.counts, 1, None)
        );
        at_rest(&served, &nodes.iter().collect::<Vec<_>>()).await;
    }
}

/// `kill -9` of the node, not of one connection.
#[tokio::test]
async fn streams_of_a_node_that_is_killed_all_go_on_and_it_is_used_again_when_it_is_back() {
    let (one, two) = (node(&rendering()).await, node(&rendering()).await);
    let dialect = Dialect::Chat;
    let body = dialect.streamed();
    let expected = undisturbed(&rendering(), dialect, &body).await;
    for _ in 0..8 {
        one.script([Step::Records(3), Step::Stall]);
    }
    let served = serve(quick(), vec![with_slots("a", &one, 8)]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = served.begin(dialect.path(), &body).await;
        client.until("\"done\":false").await;
        clients.push(client);
    }
    served.join(with_slots("b", &two, 8)).await;
    one.kill();
    for client in clients {
        let said = dialect.read(&client.end().await.body);
        assert_eq!(
            (said.text, said.counts, said.ends, said.error),
            (expected.text.clone(), expected.counts, 1, None)
        );
    }
    at_rest(&served, &[&one, &two]).await;
    one.revive().await;
    let again = served.post_until(dialect.path(), &body, |answer| answer.node() == "a");
    assert_eq!(again.await.status, 200);
}

#[tokio::test]
async fn where_going_on_would_be_wrong_the_stream_ends_with_an_error_and_nothing_like_an_end() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let some_openai = &[Dialect::OpenAiChat, Dialect::OpenAiCompletions][..];
    let wrong = [
        (
            ALL.as_slice(),
            json!({"format": "json", "response_format": {"type": "json_object"}}),
        ),
        (
            &[Dialect::Chat, Dialect::OpenAiChat][..],
            json!({"tools": tools}),
        ),
        (some_openai, json!({"n": 2})),
        (some_openai, json!({"logprobs": 1})),
    ];
    for (dialects, more) in wrong {
        for dialect in dialects {
            let (one, two) = (node(&rendering()).await, node(&rendering()).await);
            let body = dialect.asking("m", true, &more);
            one.script([Step::Records(4), Step::Cut]);
            let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
            let answer = served.post(dialect.path(), &body).await;
            let said = dialect.read(&answer.body);
            assert!(answer.whole && answer.status == 200);
            assert_eq!((said.ends, said.reasons.len()), (0, 0), "{more}");
            assert!(said.error.unwrap().contains("could not be continued"));
            let whole = undisturbed(&rendering(), *dialect, &body).await.text;
            assert!(!said.text.is_empty() && whole.starts_with(&said.text));
            assert_eq!(two.tally().asked, 0);
            at_rest(&served, &[&one, &two]).await;
            answers(&served).await;
        }
    }
}

/// An old version, whose prompts nobody can know.
#[tokio::test]
async fn where_no_way_of_going_on_is_known_the_stream_ends_with_an_error() {
    let model = FakeModel {
        shows_prompt: false,
        ..rendering()
    };
    for dialect in ALL {
        let (one, two) = (node(&model).await, node(&model).await);
        let gate = Gate::default();
        one.script([Step::Records(4), Step::Gate(gate.clone()), Step::Cut]);
        let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
        let mut client = served.begin(dialect.path(), &dialect.streamed()).await;
        client.until(dialect.first()).await;
        served
            .until(|state| state["models"][0]["resumes"] == "none")
            .await;
        gate.open();
        let said = dialect.read(&client.end().await.body);
        assert_eq!((said.ends, said.error.is_some()), (0, true));
        assert!(
            two.asked()
                .iter()
                .all(|asked| asked.path != "/api/generate")
        );
        at_rest(&served, &[&one, &two]).await;
        answers(&served).await;
    }
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let (one, two) = (node(&engine()).await, node(&engine()).await);
    one.script([Step::Records(4), Step::Cut]);
    let options = Options {
        resume: false,
        ..quick()
    };
    let served = serve(options, vec![spec("a", &one), spec("b", &two)]).await;
    let dialect = Dialect::Chat;
    let said = dialect.read(&served.post(dialect.path(), &dialect.streamed()).await.body);
    assert_eq!((said.ends, said.error.is_some()), (0, true));
    assert_eq!(two.tally().asked, 0);
    assert!(!one.heard()[0].body.windows(6).any(|part| part == b"jarvis"));
}

#[tokio::test]
async fn without_another_node_the_stream_ends_with_an_error() {
    for dialect in ALL {
        let one = node(&engine()).await;
        one.script([Step::Records(4), Step::Cut]);
        let served = serve(quick(), vec![spec("a", &one)]).await;
        let said = dialect.read(&served.post(dialect.path(), &dialect.streamed()).await.body);
        assert_eq!((said.ends, said.error.is_some()), (0, true));
        answers(&served).await;
        at_rest(&served, &[&one]).await;
    }
}

// Line 3.

#[tokio::test]
async fn a_node_that_is_silent_before_its_first_token_is_replaced() {
    let options = Options {
        first_token_timeout: Duration::from_millis(300),
        token_timeout: Duration::from_hours(1),
        ..quick()
    };
    let gate = Gate::default();
    for script in [
        vec![Step::Late(gate)],
        vec![Step::Stall],
        vec![Step::Bytes(10), Step::Stall],
    ] {
        for dialect in ALL {
            let (one, two) = (node(&engine()).await, node(&engine()).await);
            one.script(script.clone());
            let served = serve(options.clone(), vec![spec("a", &one), spec("b", &two)]).await;
            let answer = served.post(dialect.path(), &dialect.streamed()).await;
            assert_eq!((answer.status, answer.node()), (200, "b"));
            assert_eq!(dialect.read(&answer.body).ends, 1);
            at_rest(&served, &[&one, &two]).await;
            answers(&served).await;
        }
    }
}

#[tokio::test]
async fn a_node_that_falls_silent_between_tokens_is_replaced() {
    let options = Options {
        first_token_timeout: Duration::from_hours(1),
        token_timeout: Duration::from_millis(300),
        ..quick()
    };
    for dialect in ALL {
        let expected = undisturbed(&engine(), dialect, &dialect.streamed()).await;
        let (one, two) = (node(&engine()).await, node(&engine()).await);
        one.script([Step::Records(6), Step::Stall]);
        let served = serve(options.clone(), vec![spec("a", &one), spec("b", &two)]).await;
        let answer = served.post(dialect.path(), &dialect.streamed()).await;
        let said = dialect.read(&answer.body);
        assert_eq!((said.text, said.ends), (expected.text, 1));
        // The node was left.
        assert_eq!(one.until(|tally| tally.open == 0).await.aborted, 1);
        at_rest(&served, &[&one, &two]).await;
        answers(&served).await;
    }
}

/// An answer that comes as one says nothing before it is whole: it has the time of a whole answer, not of a first token.
#[tokio::test]
async fn an_answer_that_comes_as_one_has_the_time_of_a_whole_answer() {
    let options = Options {
        first_token_timeout: Duration::from_millis(100),
        token_timeout: Duration::from_millis(100),
        ..quick()
    };
    let one = node(&engine()).await;
    let served = serve(options, vec![spec("a", &one)]).await;
    for dialect in ALL {
        let gate = Gate::default();
        one.script([Step::Late(gate.clone()), Step::Rest]);
        let body = dialect.asking("m", false, &Value::Null);
        let client = served.begin(dialect.path(), &body).await;
        one.until(|tally| tally.open == 1).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open();
        let answer = client.end().await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    at_rest(&served, &[&one]).await;
}

#[tokio::test]
async fn an_answer_has_a_time_for_the_whole() {
    let options = Options {
        total_timeout: Duration::from_millis(300),
        ..quick()
    };
    let one = node(&engine()).await;
    let served = serve(options, vec![spec("a", &one)]).await;
    for stream in [true, false] {
        one.script([Step::Records(2), Step::Stall]);
        let body = Dialect::Chat.asking("m", stream, &Value::Null);
        let answer = served.post("/api/chat", &body).await;
        assert_eq!(answer.status, if stream { 200 } else { 502 });
        assert!(answer.text().contains("\"error\""), "{answer:?}");
        at_rest(&served, &[&one]).await;
    }
    answers(&served).await;
}

// Line 5.

#[tokio::test]
async fn a_client_that_leaves_in_any_phase_frees_its_node() {
    for dialect in ALL {
        let one = node(&engine()).await;
        let served = serve(quick(), vec![with_slots("a", &one, 1)]).await;
        let whole = dialect.asking("m", false, &Value::Null);

        // Before the first token, and on a call that does not stream. As long as the model is not in memory, a look shows that
        // the node is idle.
        for (at, body) in [(1, dialect.streamed()), (2, whole)] {
            one.script([Step::Late(Gate::default())]);
            let client = served.begin(dialect.path(), &body).await;
            one.until(|tally| tally.open == 1).await;
            assert_eq!(served.node("a").await["active"], 1);
            drop(client);
            assert_eq!(one.until(|tally| tally.open == 0).await.aborted, at);
            at_rest(&served, &[&one]).await;
        }

        // In mid-stream.
        one.script([Step::Records(3), Step::Stall]);
        let mut client = served.begin(dialect.path(), &dialect.streamed()).await;
        client.until(dialect.first()).await;

        // Queued behind it.
        let queued = served.begin(dialect.path(), &dialect.streamed()).await;
        served.until_waiting(1).await;
        drop(queued);
        served.until_waiting(0).await;
        assert_eq!(one.tally().asked, 3, "who left the queue is not asked for");

        drop(client);
        assert_eq!(one.until(|tally| tally.open == 0).await.aborted, 3);
        at_rest(&served, &[&one]).await;

        answers(&served).await;
        let node = served.node("a").await;
        assert_eq!((&node["active"], &node["draining"]), (&json!(0), &json!(0)));
        assert_eq!(
            node["error_rate"], 0.0,
            "that is not the node's fault: {node}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_its_answer_is_being_continued_frees_the_other_node() {
    let (one, two) = (node(&engine()).await, node(&engine()).await);
    one.script([Step::Records(3), Step::Cut]);
    two.script([Step::Late(Gate::default())]);
    let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
    let client = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    two.until(|tally| tally.open == 1).await;
    drop(client);
    assert_eq!(two.until(|tally| tally.open == 0).await.aborted, 1);
    at_rest(&served, &[&one, &two]).await;
    answers(&served).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_node_that_says_nothing_at_all_frees_the_slot() {
    let full = Silent::start().await;
    let served = serve(quick(), vec![full.spec("a")]).await;
    let client = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    served.until(|state| state["nodes"][0]["active"] == 1).await;
    drop(client);
    served.until_idle().await;
}

// Lines 7 and 8.

/// A node by hand: lists `m`, and sends the head of a stream and then `record` again and again, as fast as it is read.
struct Silent {
    address: std::net::SocketAddr,
    sent: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Silent {
    async fn start() -> Self {
        Self::sending(&[], 0).await
    }

    async fn sending(record: &[u8], most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Self {
            address: listener.local_addr().unwrap(),
            sent: Arc::default(),
            ended: Arc::default(),
        };
        let (record, sent) = (Bytes::copy_from_slice(record), Arc::clone(&node.sent));
        let ended = Arc::clone(&node.ended);
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (record, sent) = (record.clone(), Arc::clone(&sent));
                let ended = Arc::clone(&ended);
                tasks.spawn(async move {
                    let _ = speak(socket, &record, most, &sent).await;
                    if sent.load(SeqCst) > 0 {
                        ended.fetch_add(1, SeqCst);
                    }
                });
            }
        });
        node
    }

    fn spec(&self, name: &str) -> NodeSpec {
        NodeSpec::new(
            name,
            Transport::http(&format!("http://{}", self.address)).unwrap(),
        )
    }
}

async fn speak(
    mut socket: TcpStream,
    record: &[u8],
    most: usize,
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    let mut asked = Vec::new();
    loop {
        asked.clear();
        while memchr::memmem::find(&asked, b"\r\n\r\n").is_none() {
            if socket.read_buf(&mut asked).await? == 0 {
                return Ok(());
            }
        }
        let path = String::from_utf8_lossy(&asked)
            .split(' ')
            .nth(1)
            .unwrap()
            .to_owned();
        let body = match path.as_str() {
            "/api/tags" => {
                r#"{"models":[{"name":"m:latest","digest":"digest of m:latest","jarvis":{}}]}"#
            }
            "/api/ps" => r#"{"models":[]}"#,
            "/api/version" => r#"{"version":"1"}"#,
            _ => break,
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(answer.as_bytes()).await?;
    }
    if record.is_empty() {
        // Until it is left.
        while socket.read_buf(&mut asked).await? > 0 {}
        return Ok(());
    }
    socket
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n")
        .await?;
    while sent.load(SeqCst) < most {
        sent.fetch_add(socket.write(record).await?, SeqCst);
    }
    Ok(())
}

const MEGABYTE: usize = 1 << 20;

#[tokio::test]
async fn a_line_that_never_ends_is_refused_and_not_kept() {
    let endless = Silent::sending(&vec![b'x'; 64 << 10], 100 * MEGABYTE).await;
    let two = node(&engine()).await;
    let options = Options {
        max_line: 256 << 10,
        ..quick()
    };
    let served = serve(options, vec![endless.spec("a"), spec("b", &two)]).await;
    let answer = served.post("/api/chat", &Dialect::Chat.streamed()).await;
    assert_eq!(Dialect::Chat.read(&answer.body).ends, 1);
    assert_eq!(answer.node(), "b");
    let sent = endless.sent.load(SeqCst);
    // What both kernels hold of one connection is not ours.
    assert!(sent < 32 * MEGABYTE, "{sent}");
    served.until_idle().await;

    served.started.balancer.remove_node("b");
    let before = endless.sent.load(SeqCst);
    let alone = served.post("/api/chat", &Dialect::Chat.streamed()).await;
    assert!(alone.ollama_error(502).contains("longer than the limit"));
    assert!(endless.sent.load(SeqCst) - before < 32 * MEGABYTE);
    served.until_idle().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_back_its_node_and_nobody_else() {
    let line = json!({"model": "m", "created_at": "", "message": {"role": "assistant", "content": "x".repeat(60_000)}, "done": false});
    let flood = Silent::sending(format!("{line}\n").as_bytes(), 400 * MEGABYTE).await;
    let two = node(&short(FakeModel::engine("other:latest"))).await;
    let served = serve(quick(), vec![flood.spec("a"), spec("b", &two)]).await;
    let client = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    // Until nothing moves any more.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let sent = flood.sent.load(SeqCst);
        assert!(sent < 64 * MEGABYTE, "{sent}");
        if sent > 0 && sent == before {
            break;
        }
        assert!(Instant::now() < deadline, "{sent}");
        before = sent;
    }
    let other = Dialect::Chat.asking("other", true, &Value::Null);
    for _ in 0..20 {
        assert_eq!(served.post("/api/chat", &other).await.status, 200);
    }
    drop(client);
    served.until_idle().await;
    assert!(flood.ended.load(SeqCst) >= 1);
}

/// The head of an answer that goes on elsewhere is sent by then: who takes trailers is told behind the body.
#[tokio::test]
async fn who_takes_trailers_is_told_how_often_an_answer_went_on() {
    let te: &[(&str, &str)] = &[("te", "deflate, trailers")];
    for dialect in ALL {
        for (cuts, taken) in [(0, te), (2, te), (2, &[])] {
            let mut nodes = Vec::new();
            for _ in 0..3 {
                nodes.push(node(&engine()).await);
            }
            for node in &nodes[..cuts] {
                node.script([Step::Records(5), Step::Cut]);
            }
            let specs = ["a", "b", "c"].iter().zip(&nodes);
            let specs = specs.map(|(name, node)| spec(name, node)).collect();
            let served = serve(quick(), specs).await;
            let body = dialect.streamed();
            let client = served.send("POST", dialect.path(), taken, &body).await;
            let answer = client.end().await;
            assert!(answer.whole && answer.status == 200, "{answer:?}");
            assert_eq!(dialect.read(&answer.body).ends, 1);
            let (announced, told) = if taken.is_empty() {
                ("", String::new())
            } else {
                ("x-jarvis-resumed", format!("x-jarvis-resumed: {cuts}\r\n"))
            };
            assert_eq!(answer.header("trailer"), announced);
            assert_eq!(answer.trailers, told);
            let whole = dialect.asking("m", false, &Value::Null);
            let client = served.send("POST", dialect.path(), taken, &whole).await;
            let answer = client.end().await;
            assert_eq!((answer.header("trailer"), &*answer.trailers), ("", ""));
        }
    }
}
