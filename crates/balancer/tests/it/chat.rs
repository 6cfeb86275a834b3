use crate::{
    drain,
    node::{Act, Fake, done, model, own, text},
    start, start_with, turn,
};
use futures_util::StreamExt as _;
use http::StatusCode;
use jarvis_balancer::{
    ChatError, ChatEvent, ChatTurn, NodeSpec, Options, Transport, TransportError,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
};

fn whole_at(node: &str) -> ChatEvent {
    ChatEvent::Done {
        prompt_tokens: 7,
        completion_tokens: 3,
        node: node.into(),
    }
}

fn said(text: &str, tokens: u64) -> ChatEvent {
    ChatEvent::Text {
        text: text.into(),
        tokens,
    }
}

#[tokio::test]
async fn records_that_came_together_go_out_together() {
    let Act::Send(one) = text("Bon") else {
        unreachable!()
    };
    let Act::Send(two) = text("jour") else {
        unreachable!()
    };
    let Act::Send(end) = done() else {
        unreachable!()
    };
    let fake = Fake::new(vec![Act::Send(one + &two + &end)]);
    let started = start(vec![fake.spec("n")]);
    let events: Vec<_> = started
        .balancer
        .chat(turn("m"))
        .map(Result::unwrap)
        .collect()
        .await;
    assert_eq!(events, [said("Bonjour", 2), whole_at("n")]);
}

#[tokio::test]
async fn a_node_that_breaks_before_the_first_text_is_replaced_unseen() {
    let broken = Fake::new(vec![Act::Break]);
    let whole = Fake::new(vec![text("Bonjour"), done()]);
    let started = start(vec![broken.spec("a"), whole.spec("b")]);
    assert!(
        matches!(drain(started.balancer.chat(turn("m"))).await, (text, events, None) if text == "Bonjour" && events == [whole_at("b")])
    );
    assert_eq!(
        (
            broken.asked.lock().unwrap().len(),
            whole.asked.lock().unwrap().len()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_node_that_breaks_after_it_is_the_callers_matter() {
    for (act, what) in [
        (Act::Break, "connection failed"),
        (Act::Send(String::new()), "cut off"),
        (Act::Send("{]\n".into()), "not of the protocol"),
    ] {
        let fake = Fake::new(vec![text("Bon"), act]);
        let other = Fake::new(vec![text("no"), done()]);
        let started = start(vec![fake.spec("a"), other.spec("b")]);
        let (text, _, error) = drain(started.balancer.chat(turn("m"))).await;
        let error = error.unwrap();
        let ChatError::NodeLost { node, source } = &error else {
            panic!("{error:?}")
        };
        assert!(source.to_string().contains(what), "{source}");
        assert_eq!(
            (text.as_str(), node.as_str(), error.retryable()),
            ("Bon", "a", true)
        );
        assert!(other.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_error_record_is_the_nodes_own_failure() {
    let fake = Fake::new(vec![
        text("Bon"),
        Act::Send("{\"error\":\"out of memory\"}\n".into()),
    ]);
    let started = start(vec![fake.spec("a")]);
    let (text, _, error) = drain(started.balancer.chat(turn("m"))).await;
    assert_eq!(text, "Bon");
    assert_eq!(
        error.unwrap().to_string(),
        "the node `a` failed: out of memory"
    );
}

#[tokio::test]
async fn a_full_node_is_passed_over_and_a_refusal_is_final() {
    let full = Fake::refusing(StatusCode::SERVICE_UNAVAILABLE);
    let whole = Fake::new(vec![text("ok"), done()]);
    let started = start(vec![full.spec("a"), whole.spec("b")]);
    assert_eq!(drain(started.balancer.chat(turn("m"))).await.0, "ok");
    let started = start(vec![full.spec("a")]);
    assert!(matches!(
        drain(started.balancer.chat(turn("m"))).await.2,
        Some(ChatError::Overloaded)
    ));
    let refusing = Fake::refusing(StatusCode::BAD_REQUEST);
    let started = start(vec![refusing.spec("a"), whole.spec("b")]);
    let error = drain(started.balancer.chat(turn("m"))).await.2.unwrap();
    assert_eq!(
        (error.code(), error.to_string().contains("not today")),
        ("rejected", true)
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_that_never_ends_is_waited_for_no_longer_than_a_look() {
    let refusing = Fake {
        script: vec![Act::Stall],
        ..Fake::refusing(StatusCode::INTERNAL_SERVER_ERROR)
    };
    let started = start(vec![refusing.spec("a")]);
    let error = drain(started.balancer.chat(turn("m"))).await.2.unwrap();
    assert_eq!(error.code(), "node_failed");
}

#[tokio::test(start_paused = true)]
async fn one_silent_answer_does_not_take_its_node_away() {
    let started = start(vec![Fake::new(vec![text("x"), Act::Stall]).spec("a")]);
    let error = drain(started.balancer.chat(turn("m"))).await.2.unwrap();
    assert_eq!(error.code(), "node_lost");
    assert!(started.balancer.catalog().await.model("m").is_some());
}

#[tokio::test]
async fn unknown_models_are_told_from_nodes_that_are_away() {
    let fake = Fake {
        models: vec![
            model("m:latest", "d"),
            model("nomic-embed-text:latest", "e"),
        ],
        ..Fake::new(vec![])
    };
    let started = start(vec![fake.spec("a")]);
    let error = drain(started.balancer.chat(turn("nope"))).await.2.unwrap();
    assert_eq!(
        error.to_string(),
        "no node has the model `nope:latest`; there are: m:latest"
    );
    let started = start(vec![]);
    assert_eq!(
        drain(started.balancer.chat(turn("m")))
            .await
            .2
            .unwrap()
            .code(),
        "no_node_available"
    );
}

#[tokio::test(start_paused = true)]
async fn first_token_and_next_token_have_limits_of_their_own() {
    let options = Options {
        first_token_timeout: Duration::from_mins(5),
        token_timeout: Duration::from_secs(9),
        ..Options::default()
    };
    for (script, limit) in [(vec![Act::Stall], 300), (vec![text("x"), Act::Stall], 9)] {
        let started = start_with(options.clone(), vec![Fake::new(script).spec("a")]);
        let began = tokio::time::Instant::now();
        let error = drain(started.balancer.chat(turn("m"))).await.2.unwrap();
        assert!(
            matches!(
                error,
                ChatError::NodeLost {
                    source: TransportError::Silent(_) | TransportError::HeadTimeout(_),
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(began.elapsed().as_secs(), limit);
    }
}

#[tokio::test]
async fn a_caller_that_leaves_frees_the_node_and_lets_the_next_one_in() {
    let gate = Arc::new(Notify::new());
    let fake = Fake::new(vec![text("x"), Act::Gate(Arc::clone(&gate)), done()]);
    let started = start(vec![fake.spec_with_slots("a", 1)]);
    let mut first = started.balancer.chat(turn("m"));
    assert_eq!(first.next().await.unwrap().unwrap(), said("x", 1));
    let (mut second, mut third) = (
        started.balancer.chat(turn("m")),
        started.balancer.chat(turn("m")),
    );
    assert_eq!(
        second.next().await.unwrap().unwrap(),
        ChatEvent::Queued {
            position: 1,
            eta_ms: None
        }
    );
    assert_eq!(
        third.next().await.unwrap().unwrap(),
        ChatEvent::Queued {
            position: 2,
            eta_ms: None
        }
    );
    drop(second);
    assert_eq!(
        third.next().await.unwrap().unwrap(),
        ChatEvent::Queued {
            position: 1,
            eta_ms: None
        }
    );
    drop(first);
    fake.closed.notified().await;
    assert!(matches!(
        third.next().await.unwrap().unwrap(),
        ChatEvent::Text { .. }
    ));
    gate.notify_one();
    assert_eq!(third.next().await.unwrap().unwrap(), whole_at("a"));
}

#[tokio::test]
async fn an_answer_that_has_begun_goes_only_where_it_can_be_continued_exactly() {
    let begun = ChatTurn {
        text_so_far: Some("Bon".into()),
        ..turn("m")
    };
    let foreign = Fake::new(vec![text("no"), done()]);
    let started = start(vec![foreign.spec("a")]);
    let error = drain(started.balancer.chat(begun.clone())).await.2.unwrap();
    assert_eq!((error.code(), error.retryable()), ("not_resumable", false));
    let engine = Fake {
        models: vec![own("m:latest")],
        ..Fake::new(vec![text("jour"), done()])
    };
    let started = start(vec![foreign.spec("a"), engine.spec("b")]);
    assert_eq!(drain(started.balancer.chat(begun)).await.0, "jour");
    assert!(foreign.asked.lock().unwrap().is_empty());
    let asked = engine.asked.lock().unwrap();
    assert_eq!(
        asked[0]
            .jarvis
            .as_ref()
            .unwrap()
            .resume
            .as_ref()
            .unwrap()
            .text,
        "Bon"
    );
    assert_eq!(asked[0].messages.len(), 1);
}

/// The node itself counts what it made; what was there before is not its prompt but the answer's.
#[tokio::test]
async fn the_figures_of_a_continued_answer_are_those_of_all_of_it() {
    for (tokens_so_far, counted, prompt) in [(5, 5 + 3, 7 - 5), (0, 3, 7)] {
        let begun = ChatTurn {
            text_so_far: Some("Bon".into()),
            tokens_so_far,
            ..turn("m")
        };
        let engine = Fake {
            models: vec![own("m:latest")],
            ..Fake::new(vec![text("jo"), text("ur"), done()])
        };
        let started = start(vec![engine.spec("a")]);
        let events: Vec<_> = started
            .balancer
            .chat(begun)
            .map(Result::unwrap)
            .collect()
            .await;
        let end = ChatEvent::Done {
            prompt_tokens: prompt,
            completion_tokens: counted,
            node: "a".into(),
        };
        assert_eq!(events.last(), Some(&end));
        let told = events.iter().rev().find_map(|event| match event {
            ChatEvent::Text { tokens, .. } => Some(*tokens),
            _ => None,
        });
        assert_eq!(told, Some(tokens_so_far + 2));
    }
}

/// A node over a socket that sends its answer one byte at a time, characters and records cut anywhere.
#[tokio::test]
async fn bytes_may_arrive_one_by_one() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = Transport::http(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let started = start(vec![NodeSpec {
        name: "slow".into(),
        transport,
        slots: None,
        weight: 1,
        optional: false,
    }]);
    let serve = async {
        let mut sockets = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 16 << 10];
            loop {
                let read = socket.read(&mut head).await.unwrap();
                let request = String::from_utf8_lossy(&head[..read]).into_owned();
                let body = match request.split(' ').nth(1) {
                    Some("/api/tags") => {
                        r#"{"models":[{"name":"m:latest","digest":"d"}]}"#.to_owned()
                    }
                    Some("/api/ps") => r#"{"models":[]}"#.to_owned(),
                    Some("/api/version") => r#"{"version":"0.9.0"}"#.to_owned(),
                    Some("/api/chat") => {
                        let (Act::Send(one), Act::Send(end)) = (text("été 漢🙂"), done())
                        else {
                            unreachable!()
                        };
                        one + &end
                    }
                    _ => break,
                };
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                socket.write_all(head.as_bytes()).await.unwrap();
                for byte in body.as_bytes() {
                    socket
                        .write_all(&[b"1\r\n".as_slice(), &[*byte], b"\r\n"].concat())
                        .await
                        .unwrap();
                }
                socket.write_all(b"0\r\n\r\n").await.unwrap();
            }
            sockets.push(socket);
        }
    };
    tokio::select! {
        () = serve => unreachable!(),
        (text, events, error) = async { drain(started.balancer.chat(turn("m"))).await } => {
            assert!(error.is_none(), "{error:?}");
            assert_eq!((text.as_str(), events.as_slice()), ("été 漢🙂", [whole_at("slow")].as_slice()));
        }
    }
}
