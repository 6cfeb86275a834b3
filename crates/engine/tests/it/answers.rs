use serde_json::{Value, json};

use crate::support::{Server, Stream, capital, chat, content, joined, user};

#[tokio::test]
async fn an_answer_says_what_it_is_and_what_it_cost() {
    let server = Server::single();
    let answer = server.chat(capital("France"), json!({})).await;
    assert!(content(&answer).contains("Paris"), "{answer}");
    assert_eq!(answer["done"], true);
    assert_eq!(answer["message"]["role"], "assistant");
    assert_eq!(answer["model"], "smollm2:135m");
    for figure in [
        "total_duration",
        "load_duration",
        "prompt_eval_count",
        "prompt_eval_duration",
        "eval_count",
        "eval_duration",
    ] {
        assert!(answer[figure].as_u64().unwrap() > 0, "{figure} in {answer}");
    }
    assert!(
        answer.get("jarvis").is_none(),
        "unasked, nothing is added: {answer}"
    );
}

#[tokio::test]
async fn a_stream_gives_the_same_text_piece_by_piece() {
    let server = Server::single();
    let whole = server.chat(user("Name three colours."), json!({})).await;
    let request = chat(
        user("Name three colours."),
        json!({"stream": true, "jarvis": {"report_tokens": true}}),
    );
    let response = server.post("/api/chat", &request).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let records = Stream::new(response).all().await;
    assert_eq!(joined(&records), content(&whole));
    let (last, before) = records.split_last().unwrap();
    assert!(before.len() > 5 && before.iter().all(|record| record["done"] == false));
    assert_eq!(last["done"], true);
    assert_eq!(last["eval_count"], whole["eval_count"]);
    let tokens: usize = records
        .iter()
        .filter_map(|r| r["jarvis"]["tokens"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(
        tokens as u64,
        last["eval_count"].as_u64().unwrap(),
        "every token is reported"
    );
}

#[tokio::test]
async fn temperature_zero_or_a_seed_is_reproducible_bit_for_bit() {
    let server = Server::single();
    for options in [
        json!({"temperature": 0, "num_predict": 64}),
        json!({"temperature": 1.5, "seed": 42, "num_predict": 64}),
    ] {
        let ask = || {
            server.chat(
                user("Tell me a story."),
                json!({"options": options, "jarvis": {"report_tokens": true}}),
            )
        };
        let first = ask().await;
        // Something else in between must not matter.
        server.chat(user("What is two plus two?"), json!({})).await;
        let second = ask().await;
        assert_eq!(first["message"], second["message"]);
        assert_eq!(first["jarvis"]["tokens"], second["jarvis"]["tokens"]);
    }
    let story = |seed: i64| {
        server.chat(
            user("Tell me a story."),
            json!({"options": {"temperature": 1.5, "seed": seed}}),
        )
    };
    assert_ne!(
        content(&story(1).await),
        content(&story(2).await),
        "another seed, another story"
    );
}

#[tokio::test]
async fn it_stops_where_it_is_told() {
    let server = Server::single();
    let question = || user("Count from one to ten in words, separated by commas.");
    let whole = server.chat(question(), json!({})).await;
    let text = content(&whole);
    let stop: String = text.chars().skip(12).take(5).collect();
    let at = text.find(&stop).unwrap();
    let answer = server
        .chat(question(), json!({"options": {"stop": [stop]}}))
        .await;
    assert_eq!(content(&answer), &text[..at]);
    assert_eq!(answer["done_reason"], "stop");
    let limited = server
        .chat(question(), json!({"options": {"num_predict": 3}}))
        .await;
    assert_eq!(limited["done_reason"], "length");
    assert_eq!(limited["eval_count"], 3);
    assert!(text.starts_with(content(&limited)));
}

#[tokio::test]
async fn a_schema_is_kept_to() {
    let server = Server::single();
    let schema = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}, "kind": {"enum": ["cat", "dog"]}},
        "required": ["name", "age", "kind"], "additionalProperties": false,
    });
    let answer = server
        .chat(user("Describe a pet as JSON."), json!({"format": schema, "options": {"num_predict": 200, "temperature": 0.9, "seed": 5}}))
        .await;
    let pet: Value =
        serde_json::from_str(content(&answer)).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert!(pet["name"].is_string() && pet["age"].is_i64(), "{pet}");
    assert!(pet["kind"] == "cat" || pet["kind"] == "dog", "{pet}");
    assert_eq!(answer["done_reason"], "stop");
}

#[tokio::test]
async fn json_is_json() {
    let server = Server::single();
    let answer = server
        .chat(
            user("Describe Paris as a small JSON object."),
            json!({"format": "json", "options": {"num_predict": 400, "repeat_penalty": 1.2}}),
        )
        .await;
    assert_eq!(answer["done_reason"], "stop", "{answer}");
    assert!(
        serde_json::from_str::<Value>(content(&answer))
            .unwrap()
            .is_object(),
        "{answer}"
    );
}

#[tokio::test]
async fn characters_of_several_tokens_arrive_whole() {
    let server = Server::single();
    let text = "Rëpéat: 日本語 🦀🚀 Ünïcödé ☃ — 北京";
    let question = json!([
        {"role": "user", "content": "Repeat this exactly: 🦀🚀🦀🚀🦀🚀"},
        {"role": "assistant", "content": "🦀🚀🦀🚀🦀🚀"},
        {"role": "user", "content": format!("Repeat this exactly: {text}")},
    ]);
    let request = chat(
        question,
        json!({"stream": true, "options": {"num_predict": 60}, "jarvis": {"report_tokens": true}}),
    );
    let records = Stream::new(server.post("/api/chat", &request).await)
        .all()
        .await;
    let shown = joined(&records);
    assert!(!shown.contains('\u{fffd}'), "{shown}");
    let several = records.iter().any(|record| {
        record["jarvis"]["tokens"]
            .as_array()
            .is_some_and(|tokens| tokens.len() > 1)
    });
    assert!(several, "some character took several tokens: {shown}");
}

#[tokio::test]
async fn the_window_ends_an_answer_and_never_breaks_it() {
    let server = Server::single();
    let answer = server
        .chat(
            user("Tell me a very long story."),
            json!({"options": {"num_ctx": 80, "num_predict": -1, "temperature": 0}}),
        )
        .await;
    assert_eq!(answer["done_reason"], "length");
    let used =
        answer["prompt_eval_count"].as_u64().unwrap() + answer["eval_count"].as_u64().unwrap();
    assert_eq!(used, 80);
}

#[tokio::test]
async fn of_a_long_conversation_the_oldest_turns_go() {
    let server = Server::single();
    let mut messages = vec![json!({"role": "system", "content": "You are a helpful assistant."})];
    for turn in 0..40 {
        messages.push(json!({"role": "user", "content": format!("Fact {turn}: the number {turn} is written in a book about numbers.")}));
        messages.push(json!({"role": "assistant", "content": "I see."}));
    }
    messages.extend(capital("France").as_array().cloned().unwrap());
    let answer = server
        .chat(json!(messages), json!({"options": {"num_ctx": 256}}))
        .await;
    let kept = answer["prompt_eval_count"].as_u64().unwrap();
    assert!((100..=224).contains(&kept), "prompt of {kept} tokens");
    assert!(
        content(&answer).contains("Paris"),
        "the question itself stays: {answer}"
    );
    // One message that alone is too long loses its middle.
    let long = format!("{} What is the capital of France?", "word ".repeat(3000));
    let answer = server
        .chat(user(&long), json!({"options": {"num_ctx": 256}}))
        .await;
    assert_eq!(answer["prompt_eval_count"], 224);
}

#[tokio::test]
async fn generate_takes_a_system_message_and_raw_text() {
    let server = Server::single();
    let options = json!({"temperature": 0, "num_predict": 24});
    let (_, templated) = server.call("/api/generate", &json!({"model": "smollm2:135m", "stream": false, "prompt": "What is the capital of France?", "system": "Answer in one word.", "options": options})).await;
    assert!(
        templated["response"].as_str().unwrap().contains("Paris"),
        "{templated}"
    );
    assert!(templated["context"].as_array().unwrap().len() > 20);
    let (_, raw) = server.call("/api/generate", &json!({"model": "smollm2:135m", "stream": false, "raw": true, "prompt": "The capital of France is", "options": options})).await;
    assert!(raw["response"].as_str().unwrap().contains("Paris"), "{raw}");
    assert_eq!(raw["prompt_eval_count"], 5, "no template around it: {raw}");
    assert!(raw.get("context").is_none());
}

#[tokio::test]
async fn a_follow_up_by_context_knows_what_was_said() {
    let server = Server::single();
    let (_, first) = server.call("/api/generate", &json!({"model": "smollm2:135m", "stream": false, "prompt": "Hello", "options": {"temperature": 0, "num_predict": 5}})).await;
    let context = first["context"].as_array().unwrap();
    let total =
        first["prompt_eval_count"].as_u64().unwrap() + first["eval_count"].as_u64().unwrap();
    assert_eq!(context.len() as u64, total);
    let (_, second) = server.call("/api/generate", &json!({"model": "smollm2:135m", "stream": false, "prompt": " more", "context": context, "options": {"temperature": 0, "num_predict": 5}})).await;
    let (_, alone) = server.call("/api/generate", &json!({"model": "smollm2:135m", "stream": false, "prompt": " more", "options": {"temperature": 0, "num_predict": 5}})).await;
    let turn = alone["prompt_eval_count"].as_u64().unwrap();
    assert_eq!(
        second["prompt_eval_count"],
        total + turn,
        "the new turn is in the model's template"
    );
}
