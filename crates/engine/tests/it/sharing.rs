use http::StatusCode;
use jarvis_protocol::ollama::SERVER_BUSY;
use serde_json::json;

use crate::support::{Server, Stream, capital, chat, content, read, user};

const LONG: &str = "Tell me a very long story about every animal there is.";

fn endless() -> serde_json::Value {
    // No token ends it: it goes on until the window is full.
    chat(
        user(LONG),
        json!({"stream": true, "options": {"num_predict": -1, "temperature": 1.8, "seed": 3}}),
    )
}

#[tokio::test]
async fn four_answers_at_once_are_the_four_answers() {
    let server = Server::start(|_| {});
    let countries = ["France", "Italy", "Spain", "Germany"];
    let answers = futures_util::future::join_all(
        countries.map(|country| server.chat(capital(country), json!({}))),
    )
    .await;
    for (answer, city) in answers.iter().zip(["Paris", "Rome", "Madrid", "Berlin"]) {
        assert!(content(answer).contains(city), "{city}: {answer}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot() {
    let server = Server::start(|options| {
        options.parallel = 1;
        options.max_queue = 0;
    });
    let mut stream = Stream::new(server.post("/api/chat", &endless()).await);
    stream.next().await.unwrap();
    let (status, body) = server.call("/api/chat", &chat(user("Hi"), json!({}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["error"], SERVER_BUSY);
    drop(stream);
    // The slot is free after at most the step in hand, long before the story would have been told.
    loop {
        let (status, _) = server
            .call(
                "/api/chat",
                &chat(user("Hi"), json!({"options": {"num_predict": 1}})),
            )
            .await;
        if status == StatusCode::OK {
            break;
        }
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_waits_is_served_and_who_is_too_many_is_told() {
    let server = Server::start(|options| {
        options.parallel = 1;
        options.max_queue = 1;
    });
    let mut first = Stream::new(server.post("/api/chat", &endless()).await);
    first.next().await.unwrap();
    let question = chat(capital("France"), json!({}));
    // One of the two takes the only place in the queue; the other one is told at once.
    let two = [(); 2].map(|()| Box::pin(server.post("/api/chat", &question)));
    let (refused, _, mut waiting) = futures_util::future::select_all(two).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(read(refused).await.1["error"], SERVER_BUSY);
    drop(first);
    let (status, answer) = read(waiting.remove(0).await).await;
    assert_eq!(status, StatusCode::OK);
    assert!(content(&answer).contains("Paris"), "{answer}");
}

#[tokio::test]
async fn a_prompt_being_read_does_not_hold_up_another_answer() {
    let server = Server::start(|options| options.num_ctx = 2048);
    let mut story = Stream::new(server.post("/api/chat", &endless()).await);
    story.next().await.unwrap();
    let long = format!("{} What is this?", "one two three four ".repeat(200));
    let question = chat(user(&long), json!({"options": {"num_predict": 1}}));
    let reading = server.call("/api/chat", &question);
    tokio::pin!(reading);
    let mut between = 0;
    loop {
        tokio::select! {
            biased;
            (status, answer) = &mut reading => {
                assert_eq!(status, StatusCode::OK);
                assert!(answer["prompt_eval_count"].as_u64().unwrap() > 700, "{answer}");
                break;
            }
            record = story.next() => {
                assert!(record.is_some());
                between += 1;
            }
        }
    }
    assert!(
        between >= 2,
        "the story went on {between} times while the prompt was read"
    );
}

#[tokio::test]
async fn a_conversation_s_beginning_is_not_computed_again() {
    let server = Server::start(|_| {});
    let first = chat(capital("France"), json!({"jarvis": {}}));
    let (_, answer) = server.call("/api/chat", &first).await;
    assert_eq!(answer["jarvis"]["cached_tokens"], 0);
    let computed = answer["prompt_eval_count"].as_u64().unwrap();
    let mut messages = capital("France");
    let list = messages.as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": content(&answer)}));
    list.push(json!({"role": "user", "content": "And of Italy?"}));
    let second = chat(messages, json!({"jarvis": {}}));
    let (_, followed) = server.call("/api/chat", &second).await;
    let cached = followed["jarvis"]["cached_tokens"].as_u64().unwrap();
    assert!(
        cached >= computed,
        "{cached} of {computed} taken over: {followed}"
    );
    assert!(followed["prompt_eval_count"].as_u64().unwrap() > cached);
    // Another conversation takes what both begin with and leaves this one's slot alone.
    let other = chat(user("How many legs has a spider?"), json!({"jarvis": {}}));
    let (_, spider) = server.call("/api/chat", &other).await;
    assert!(
        spider["jarvis"]["cached_tokens"].as_u64().unwrap() > 5,
        "{spider}"
    );
    let (_, again) = server.call("/api/chat", &second).await;
    assert!(
        again["jarvis"]["cached_tokens"].as_u64().unwrap() > cached,
        "{again}"
    );
}

#[tokio::test]
async fn shutting_down_ends_answers_with_an_error_record() {
    let server = Server::start(|_| {});
    let mut stream = Stream::new(server.post("/api/chat", &endless()).await);
    stream.next().await.unwrap();
    server.engine.shutdown().await;
    let last = stream.all().await.pop().unwrap();
    assert!(
        last["error"].as_str().unwrap().contains("shutting down"),
        "{last}"
    );
    let (status, _) = server.call("/api/chat", &chat(user("Hi"), json!({}))).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_larger_window_does_not_end_an_answer_in_hand() {
    let server = Server::start(|options| options.num_ctx = 256);
    let mut story = Stream::new(server.post("/api/chat", &endless()).await);
    story.next().await.unwrap();
    for window in [300, 301, 302] {
        let question = json!({"options": {"num_ctx": window}});
        let answer = server.chat(capital("France"), question).await;
        assert!(content(&answer).contains("Paris"), "{answer}");
        let loaded = server.get("/api/ps").await;
        assert_eq!(loaded["models"][0]["context_length"], 512, "{loaded}");
    }
    let last = story.all().await.pop().unwrap();
    assert_eq!(last["done"], true, "{last}");
}

#[tokio::test]
async fn a_model_that_is_not_kept_answers_once() {
    let server = Server::start(|_| {});
    for _ in 0..2 {
        let answer = server
            .chat(capital("France"), json!({"keep_alive": 0}))
            .await;
        assert!(content(&answer).contains("Paris"), "{answer}");
    }
}
