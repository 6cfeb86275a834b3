//! In the place of an Ollama: what goes through unchanged, what the balancer answers itself, and its errors.

use crate::{
    dialect::{ALL, Dialect},
    web::{Client, SECRET, quick, serve, spec, with_slots},
};
use jarvis_balancer::{NodeSpec, Options, Transport};
use jarvis_testkit::{FakeModel, FakeOllama, Gate, Step};
use serde_json::{Value, json};

async fn ollama() -> FakeOllama {
    FakeOllama::with(vec![FakeModel::ollama("m:latest")]).await
}

async fn engine() -> FakeOllama {
    FakeOllama::with(vec![FakeModel::engine("m:latest")]).await
}

/// An address on which nobody listens.
fn nobody() -> Transport {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Transport::http(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
}

#[tokio::test]
async fn answers_come_byte_for_byte_as_the_node_sent_them() {
    for engines in [false, true] {
        for dialect in ALL {
            for stream in [true, false] {
                let make = async || {
                    if engines {
                        engine().await
                    } else {
                        ollama().await
                    }
                };
                let (same, node) = (make().await, make().await);
                let body = dialect.asking("m", stream, &Value::Null);
                let expected = same.ask(dialect.path(), body.clone()).await;
                let served = serve(quick(), vec![spec("a", &node)]).await;
                let answer = served.post(dialect.path(), &body).await;
                assert_eq!(answer.text(), std::str::from_utf8(&expected.bytes).unwrap());
                assert!(answer.whole && answer.status == 200);
                assert_eq!(answer.node(), "a");
                assert_eq!(answer.header("x-jarvis-reason"), "round_robin");
                let kind = match (stream, dialect.is_openai()) {
                    (false, _) => "application/json",
                    (true, true) => "text/event-stream",
                    (true, false) => "application/x-ndjson",
                };
                assert_eq!(answer.header("content-type"), kind);
                served.until_idle().await;
            }
        }
    }
}

#[tokio::test]
async fn a_stream_cut_anywhere_on_its_way_is_the_same_stream() {
    for dialect in ALL {
        for size in [1, 2, 3, 7, 64, 5000] {
            let (same, node) = (ollama().await, ollama().await);
            let expected = same.ask(dialect.path(), dialect.streamed()).await;
            node.script([Step::Split(size)]);
            let served = serve(quick(), vec![spec("a", &node)]).await;
            let answer = served.post(dialect.path(), &dialect.streamed()).await;
            assert_eq!(answer.text(), std::str::from_utf8(&expected.bytes).unwrap());
            assert!(answer.whole);
        }
    }
}

#[tokio::test]
async fn ndjson_may_be_cut_at_every_byte() {
    let node = ollama().await;
    let body = Dialect::Chat.asking("m", true, &json!({"options": {"num_predict": 4}}));
    let expected = node.ask("/api/chat", body.clone()).await.bytes;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    for at in 0..expected.len() {
        let gate = Gate::default();
        node.script([Step::Bytes(at), Step::Gate(gate.clone()), Step::Rest]);
        let client = served.begin("/api/chat", &body).await;
        gate.open();
        let answer = client.end().await;
        assert!(answer.whole && answer.body == expected, "cut at {at}");
    }
}

#[tokio::test]
async fn fields_and_headers_that_nobody_knows_reach_the_node_and_ours_do_not() {
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    // Order, spaces and unknown members are the client's.
    let body = r#"{ "strange":{"b":1,"a":[1.50,  2]}, "model":"m","messages":[{"role":"user","content":"q","odd":1}] }"#;
    let headers = [
        ("x-own", "kept"),
        ("authorization", "Bearer a-users-own"),
        ("user-agent", "ollama-python/0.5"),
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic eA=="),
        ("x-jarvis-user", "ada"),
        ("x-jarvis-priority", "high"),
        SECRET,
    ];
    let client = served.send("POST", "/api/chat?a=%20b&c", &headers, body);
    assert_eq!(client.await.end().await.status, 200);
    let heard = node
        .heard()
        .into_iter()
        .find(|heard| heard.path.contains("?a="));
    let heard = heard.unwrap();
    assert_eq!(heard.path, "/api/chat?a=%20b&c");
    assert_eq!(heard.body, body);
    assert_eq!(heard.headers["x-own"], "kept");
    assert_eq!(heard.headers["authorization"], "Bearer a-users-own");
    assert_eq!(heard.headers["user-agent"], "ollama-python/0.5");
    assert_eq!(heard.headers["content-type"], "application/json");
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "te",
        "proxy-authorization",
        "x-jarvis-user",
        "x-jarvis-priority",
        "x-jarvis-internal",
    ] {
        assert!(!heard.headers.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn routes_that_nobody_knows_pass_as_they_came() {
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    let client = served.send(
        "PUT",
        "/api/tomorrow?x=1",
        &[("x-own", "kept")],
        "{not json}",
    );
    let answer = client.await.end().await;
    assert_eq!((answer.status, answer.text()), (404, "404 page not found"));
    assert_eq!(answer.node(), "a");
    let heard = node.heard().pop().unwrap();
    assert_eq!(
        (heard.method.as_str(), heard.path.as_str(), &heard.body[..]),
        ("PUT", "/api/tomorrow?x=1", &b"{not json}"[..])
    );
    assert_eq!(heard.headers["x-own"], "kept");
}

#[tokio::test]
async fn a_route_that_nobody_knows_goes_where_the_model_is_that_its_body_names() {
    let without = FakeOllama::with(vec![FakeModel::ollama("other:latest")]).await;
    let node = ollama().await;
    let served = serve(quick(), vec![spec("none", &without), spec("a", &node)]).await;
    for (body, goes_to, reason) in [
        (r#"{"model":"m","input":[1]}"#, "a", "has_model"),
        (r#"{"model":"other"}"#, "none", "has_model"),
        (r#"{"model":"absent"}"#, "none", "unknown_route"),
        (r#"{"model":3}"#, "none", "unknown_route"),
    ] {
        let answer = served.post("/v1/tomorrow", body).await;
        assert_eq!(answer.node(), goes_to, "{body}");
        assert_eq!(answer.header("x-jarvis-reason"), reason, "{body}");
    }
}

/// A page's browser asks with OPTIONS what it may do; that is the node's to say.
#[tokio::test]
async fn so_do_methods_that_nobody_knows() {
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    for path in ["/api/chat", "/v1/chat/completions", "/api/show"] {
        let headers = [
            ("origin", "https://page.example"),
            ("access-control-request-method", "POST"),
        ];
        let answer = served.send("OPTIONS", path, &headers, "").await.end().await;
        assert_eq!((answer.status, answer.node()), (405, "a"));
        assert_eq!(answer.header("allow"), "POST", "as the node says");
        let heard = node.heard().pop().unwrap();
        assert_eq!(
            (heard.method.as_str(), heard.path.as_str()),
            ("OPTIONS", path)
        );
        assert_eq!(heard.headers["origin"], "https://page.example");
    }
    let managing = served.send("OPTIONS", "/api/pull", &[], "").await;
    assert_eq!(managing.end().await.status, 403);
}

#[tokio::test]
async fn what_the_nodes_have_is_one_list_with_the_nodes_named() {
    let mut only = FakeModel::ollama("only:1b");
    only.info.size = 7;
    let one = FakeOllama::with(vec![FakeModel::ollama("m:latest")]).await;
    let two = FakeOllama::with(vec![only, FakeModel::ollama("m:latest")]).await;
    two.set_version("0.9.10");
    two.ask("/api/generate", r#"{"model":"only:1b"}"#).await;
    let served = serve(quick(), vec![spec("one", &one), spec("two", &two)]).await;
    served.started.balancer.refresh().await;

    let tags = served.get("/api/tags").await.json();
    let models = tags["models"].as_array().unwrap();
    let names: Vec<_> = models
        .iter()
        .map(|model| (model["name"].as_str().unwrap(), model["nodes"].to_string()))
        .collect();
    assert_eq!(
        names,
        [
            ("m:latest", r#"["one","two"]"#.to_owned()),
            ("only:1b", r#"["two"]"#.to_owned())
        ]
    );
    assert_eq!(models[1]["size"], 7);
    assert_eq!(models[1]["digest"], "digest of only:1b");

    let running = served.get("/api/ps").await.json();
    assert_eq!(running["models"][0]["name"], "only:1b");
    assert_eq!(running["models"][0]["node"], "two");
    assert_eq!(running["models"].as_array().unwrap().len(), 1);

    let openai = served.get("/v1/models").await.json();
    assert_eq!(openai["object"], "list");
    assert_eq!(openai["data"][1]["id"], "only:1b");
    assert_eq!(openai["data"][1]["nodes"], json!(["two"]));
    assert_eq!(
        served.get("/v1/models/only:1b").await.json()["object"],
        "model"
    );
    let absent = served.get("/v1/models/none").await;
    assert!(absent.openai_error(404).contains("none"));

    let version = served.get("/api/version").await.json();
    assert_eq!(version, json!({"version": "0.9.10"}), "the oldest");
    let root = served.get("/").await;
    assert_eq!((root.status, root.text()), (200, "Ollama is running"));
    let head = served.send("HEAD", "/", &[], "").await.end().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let health = served.get("/health").await.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(health["nodes"][0]["health_score"], 1.0);
}

/// `ollama run` asks for it before anything else.
/// A newer Ollama says more of a model than is known here.
#[tokio::test]
async fn entries_of_lists_keep_what_is_not_known() {
    let more =
        json!({"remote_model": "m:cloud", "details": {"family": "f", "quantum": [1, {"a": null}]}});
    let model = FakeModel {
        more: more.as_object().unwrap().clone(),
        ..FakeModel::ollama("m:latest")
    };
    let node = FakeOllama::with(vec![model]).await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    let body = Dialect::Chat.asking("m", true, &json!({"options": {"num_predict": 2}}));
    assert_eq!(served.post("/api/chat", &body).await.status, 200);
    for path in ["/api/tags", "/api/ps"] {
        let listed = served.get(path).await.json()["models"][0].clone();
        for (member, value) in more.as_object().unwrap() {
            assert_eq!(&listed[member], value, "{path}");
        }
        assert_eq!(listed["name"], "m:latest");
    }
}

#[tokio::test]
async fn a_models_details_are_shown_by_a_node_that_has_it_even_while_all_slots_are_taken() {
    let without = FakeOllama::with(vec![FakeModel::ollama("other:latest")]).await;
    let node = ollama().await;
    let gate = Gate::default();
    node.script([Step::Records(1), Step::Gate(gate.clone()), Step::Rest]);
    let served = serve(
        quick(),
        vec![spec("none", &without), with_slots("a", &node, 1)],
    )
    .await;
    let mut busy = served.begin("/api/chat", &Dialect::Chat.streamed()).await;
    busy.until("\"done\":false").await;
    for body in [
        r#"{"model":"m"}"#,
        r#"{"name":"m:latest"}"#,
        r#"{"model":"m","name":""}"#,
    ] {
        let shown = served.post("/api/show", body).await;
        assert_eq!((shown.status, shown.node()), (200, "a"), "{shown:?}");
        assert_eq!(shown.json()["modelfile"], "FROM m:latest");
    }
    let absent = served.post("/api/show", r#"{"model":"absent"}"#).await;
    assert!(absent.ollama_error(404).contains("absent"));
    gate.open();
    assert!(busy.end().await.whole);
}

/// As `ollama stop` has it.
#[tokio::test]
async fn a_model_is_unloaded_on_every_node_that_has_it_in_memory() {
    let nodes = [ollama().await, ollama().await, ollama().await];
    let specs = ["a", "b", "c"].iter().zip(&nodes);
    let served = serve(
        quick(),
        specs.map(|(name, node)| spec(name, node)).collect(),
    )
    .await;
    for _ in 0..2 {
        let answer = served.post("/api/chat", &Dialect::Chat.streamed()).await;
        assert_eq!(answer.status, 200);
    }
    let running = async || served.get("/api/ps").await.json()["models"].clone();
    assert_eq!(running().await.as_array().unwrap().len(), 2);
    let asked = || nodes.iter().map(|node| node.heard().len());
    let before: Vec<_> = asked().collect();
    let stop = r#"{"model":"m","prompt":"","keep_alive":0}"#;
    let answer = served.post("/api/generate", stop).await;
    assert_eq!(
        (answer.status, &answer.json()["done_reason"]),
        (200, &json!("unload"))
    );
    assert_eq!(running().await, json!([]));
    let asked: Vec<_> = asked().zip(before).map(|(now, then)| now - then).collect();
    assert_eq!(asked, [1, 1, 0]);
    // There is nothing to unload any more, and a model that nobody has is none.
    let answer = served.post("/api/generate", stop).await;
    assert_eq!(answer.json()["done_reason"], "unload");
    let unknown = r#"{"model":"unknown","keep_alive":0}"#;
    let answer = served.post("/api/generate", unknown).await;
    assert!(answer.ollama_error(404).contains("unknown"));
    served.until_idle().await;
}

#[tokio::test]
async fn errors_have_the_shape_of_their_dialect() {
    let node = ollama().await;
    let options = Options {
        max_body: 1000,
        ..quick()
    };
    let served = serve(options, vec![spec("a", &node)]).await;
    for dialect in ALL {
        let post = async |body: &str| served.post(dialect.path(), body).await;
        let absent = post(&dialect.asking("absent", true, &Value::Null)).await;
        assert!(absent.error(dialect, 404).contains("absent"));
        for bad in [
            "{not json",
            "[]",
            "{}",
            r#"{"model":7}"#,
            r#"{"model":"a\u0000b"}"#,
        ] {
            assert!(!post(bad).await.error(dialect, 400).is_empty());
        }
        let long = json!({"model": "m", "prompt": "x".repeat(1000)}).to_string();
        assert!(post(&long).await.error(dialect, 413).contains("1000"));
    }
    assert!(node.heard().is_empty(), "none of this concerns a node");
    assert_eq!(
        served
            .post("/api/chat", &Dialect::Chat.streamed())
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_model_that_was_pulled_a_moment_ago_is_found() {
    let node = ollama().await;
    let options = Options {
        probe_interval: std::time::Duration::from_hours(1),
        ..quick()
    };
    let served = serve(options, vec![spec("a", &node)]).await;
    node.add(FakeModel::ollama("new:latest"));
    let body = Dialect::Chat.asking("new", true, &Value::Null);
    let answer = served.post("/api/chat", &body);
    assert_eq!(answer.await.status, 200);
}

/// A node that was only looked for, and is not there, says nothing about which models there are.
#[tokio::test]
async fn an_unknown_model_is_not_found_though_an_optional_node_is_away() {
    let node = ollama().await;
    let away = NodeSpec {
        optional: true,
        ..NodeSpec::new("away", nobody())
    };
    let served = serve(quick(), vec![away, spec("a", &node)]).await;
    let body = Dialect::Chat.asking("absent", true, &Value::Null);
    let answer = served.post("/api/chat", &body);
    answer.await.ollama_error(404);
}

#[tokio::test]
async fn a_nodes_own_refusal_comes_through() {
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    for dialect in ALL {
        node.script([Step::Refuse(
            400,
            "this model does not support tools".into(),
        )]);
        let answer = served.post(dialect.path(), &dialect.streamed()).await;
        let words = answer.error(dialect, 400);
        assert_eq!(words, "this model does not support tools");
        assert_eq!(answer.node(), "a");
    }
    served.until_idle().await;
}

/// Routes whose streams cannot be followed still stream.
#[tokio::test]
async fn streams_of_other_routes_come_piece_by_piece() {
    let (address, gate) = events().await;
    let node = NodeSpec::new("a", Transport::http(&format!("http://{address}")).unwrap());
    let served = serve(quick(), vec![node]).await;
    for path in ["/v1/responses", "/v1/messages", "/v1/tomorrow"] {
        let mut client = served.begin(path, r#"{"model":"m","stream":true}"#).await;
        client.until("data: one").await;
        gate.open();
        let answer = client.end().await;
        assert_eq!(
            (answer.text(), answer.whole),
            ("data: one\n\ndata: two\n\n", true)
        );
        served.until_idle().await;
        let client = served.begin(path, r#"{"model":"m","stream":true}"#);
        client.await.until("data: one").await;
        served.until_idle().await;
    }
}

#[tokio::test]
async fn a_stream_of_another_route_that_falls_silent_is_cut_off() {
    let (address, _gate) = events().await;
    let node = NodeSpec::new("a", Transport::http(&format!("http://{address}")).unwrap());
    let options = Options {
        token_timeout: std::time::Duration::from_millis(200),
        ..quick()
    };
    let served = serve(options, vec![node]).await;
    let client = served
        .begin("/v1/responses", r#"{"model":"m","stream":true}"#)
        .await;
    let answer = client.end().await;
    assert_eq!((answer.text(), answer.whole), ("data: one\n\n", false));
    served.until_idle().await;
}

/// A node whose every unknown route streams two events, the second of which waits for the gate.
async fn events() -> (std::net::SocketAddr, Gate) {
    use axum::{Json, Router, body::Body, routing::get};
    use futures_util::{StreamExt as _, stream};
    let gate = Gate::default();
    let passed = gate.clone();
    let model = json!({"models": [{"name": "m:latest", "digest": "d"}]});
    let router = Router::new()
        .route("/api/tags", get(async move || Json(model)))
        .route("/api/ps", get(async || Json(json!({"models": []}))))
        .route("/api/version", get(async || Json(json!({"version": "1"}))))
        .fallback(async move || {
            let events = stream::iter([false, true]).then(move |waits| {
                let gate = passed.clone();
                async move {
                    if waits {
                        gate.pass().await;
                        return Ok::<_, std::io::Error>("data: two\n\n");
                    }
                    Ok("data: one\n\n")
                }
            });
            (
                [("content-type", "text/event-stream")],
                Body::from_stream(events),
            )
        });
    let address = crate::web::listen(router, &tokio_util::sync::CancellationToken::new()).await;
    (address, gate)
}

#[tokio::test]
async fn json_that_is_nested_ten_thousand_deep_harms_nothing() {
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for dialect in ALL {
        for member in ["strange", "messages", "options", "model"] {
            let body = format!("{{\"{member}\":{deep},\"model\":\"m\"}}");
            let status = served.post(dialect.path(), &body).await.status;
            assert!((200..500).contains(&status), "{status}");
        }
    }
    assert_eq!(
        served
            .post("/api/chat", &Dialect::Chat.streamed())
            .await
            .status,
        200
    );
}

/// A proxy before the balancer and the balancer itself must not read one request in two ways. What hyper lets through of it, the
/// program's listener refuses.
#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    let question = Dialect::Chat.streamed();
    let length = question.len();
    for headers in [
        format!("content-length: {length}\r\ncontent-length: 6"),
        format!("content-length: 6\r\ncontent-length: {length}"),
        "transfer-encoding: xchunked".to_owned(),
        "transfer-encoding: chunked, identity".to_owned(),
        format!("content-length: {length}\r\ntransfer-encoding: xchunked"),
    ] {
        let chunked = format!("{length:x}\r\n{question}\r\n0\r\n\r\n");
        let body = if headers.contains("chunked") {
            &chunked
        } else {
            &question
        };
        let request = format!(
            "POST /api/chat HTTP/1.1\r\nhost: b\r\n{headers}\r\n\r\n{body}GET /api/smuggled HTTP/1.1\r\nhost: b\r\n\r\n"
        );
        let answer = Client::raw(served.address, request.as_bytes())
            .await
            .end()
            .await;
        assert_eq!(answer.status, 400, "{headers}");
    }
    assert!(node.heard().is_empty(), "{:?}", node.heard());
    assert_eq!(served.get("/").await.status, 200);
}

/// Whoever asks for another protocol may speak it only once that is granted: here it never is.
#[tokio::test]
async fn what_follows_a_request_for_another_protocol_reaches_no_node() {
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    for path in ["/api/tomorrow", "/api/version"] {
        let before = node.heard().len();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: b\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\
             \u{1}smuggled GET /api/smuggled HTTP/1.1\r\nhost: b\r\n\r\n"
        );
        let answer = Client::raw(served.address, request.as_bytes())
            .await
            .end()
            .await;
        assert!([200, 404].contains(&answer.status), "{answer:?}");
        for heard in &node.heard()[before..] {
            assert_eq!((heard.path.as_str(), heard.body.len()), (path, 0));
            for name in ["connection", "upgrade"] {
                assert!(!heard.headers.contains_key(name), "{name}");
            }
        }
    }
    assert_eq!(node.heard().len(), 1, "{:?}", node.heard());
}

/// What is not unpacked cannot burst: a packed question is none.
#[tokio::test]
async fn packed_requests_are_not_unpacked() {
    /// `{"model":"m"}`, packed by gzip.
    const PACKED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabV\xca\xcdOI\xcdQ\xb2R\xcaU\xaa\x05\x00\x9bl\xba\xaa\x0d\x00\x00\x00";
    let node = ollama().await;
    let served = serve(quick(), vec![spec("a", &node)]).await;
    for dialect in ALL {
        let headers = [("content-encoding", "gzip")];
        let client = served.send("POST", dialect.path(), &headers, PACKED).await;
        let answer = client.end().await;
        let words = answer.error(dialect, 400);
        assert!(!words.is_empty());
    }
    assert!(node.heard().is_empty(), "{:?}", node.heard());
}
