use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{Server, Stream, chat, content, user};

async fn undisturbed(server: &Server, options: &Value) -> (String, Vec<(String, Vec<i64>)>) {
    let request = chat(
        user("Tell me a story about a fox."),
        json!({"stream": true, "options": options, "jarvis": {"report_tokens": true}}),
    );
    let records = Stream::new(server.post("/api/chat", &request).await)
        .all()
        .await;
    let pieces: Vec<(String, Vec<i64>)> = records
        .iter()
        .map(|record| {
            let ids = record["jarvis"]["tokens"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            (
                content(record).to_owned(),
                ids.iter().filter_map(Value::as_i64).collect(),
            )
        })
        .collect();
    (
        pieces.iter().map(|(text, _)| text.as_str()).collect(),
        pieces,
    )
}

#[tokio::test]
async fn an_answer_cut_anywhere_goes_on_as_if_nothing_had_happened() {
    let server = Server::single();
    for options in [
        json!({"num_predict": 40}),
        json!({"num_predict": 40, "temperature": 1.0, "seed": 9, "repeat_penalty": 1.1}),
        // Ends of words are withheld until it is clear that none of these follows.
        json!({"num_predict": 40, "stop": ["e\u{1}", "s\u{1}", "r\u{1}", "d a\u{1}"]}),
        // Characters of several tokens each.
        json!({"num_predict": 40, "temperature": 2.0, "top_k": 0, "top_p": 1.0, "seed": 4}),
    ] {
        let (whole, pieces) = undisturbed(&server, &options).await;
        for cut in [1, 2, 4, 7, 12, 20, 33]
            .into_iter()
            .filter(|cut| *cut < pieces.len())
        {
            let before: String = pieces[..cut]
                .iter()
                .map(|(text, _)| text.as_str())
                .collect();
            let tokens: Vec<i64> = pieces[..cut]
                .iter()
                .flat_map(|(_, ids)| ids.clone())
                .collect();
            let left = 40 - tokens.len();
            let mut options = options.clone();
            options["num_predict"] = left.into();
            let more = json!({"options": options, "jarvis": {"continue": {"text": before, "tokens": tokens}}});
            let rest = server
                .chat(user("Tell me a story about a fox."), more)
                .await;
            assert_eq!(
                before.clone() + content(&rest),
                whole,
                "cut after {cut} pieces"
            );
        }
    }
}

#[tokio::test]
async fn text_alone_continues_too() {
    let server = Server::single();
    let (whole, pieces) = undisturbed(&server, &json!({"num_predict": 40})).await;
    for cut in [5, 20] {
        let before: String = pieces[..cut]
            .iter()
            .map(|(text, _)| text.as_str())
            .collect();
        let options = json!({"num_predict": 40 - cut});
        let by_field = server
            .chat(
                user("Tell me a story about a fox."),
                json!({"options": options, "jarvis": {"continue": {"text": before}}}),
            )
            .await;
        assert_eq!(before.clone() + content(&by_field), whole);
        let trailing = json!([{"role": "user", "content": "Tell me a story about a fox."}, {"role": "assistant", "content": before}]);
        let by_message = server.chat(trailing, json!({"options": options})).await;
        assert_eq!(
            before.clone() + content(&by_message),
            whole,
            "a trailing assistant message is continued"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_continued_is_refused() {
    let server = Server::single();
    for (more, word) in [
        (
            json!({"format": "json", "jarvis": {"continue": {"text": "{"}}}),
            "format",
        ),
        (
            json!({"jarvis": {"continue": {"tokens": [1, 99_999_999]}}}),
            "vocabulary",
        ),
        (
            json!({"jarvis": {"continue": {"tokens": [-1]}}}),
            "vocabulary",
        ),
        (
            json!({"jarvis": {"continue": {"tokens": "x"}}}),
            "invalid type",
        ),
    ] {
        let (status, body) = server.call("/api/chat", &chat(user("Hi"), more)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body["error"].as_str().unwrap().contains(word), "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_fills_the_window_is_at_its_end() {
    let server = Server::single();
    let tokens = vec![1000; 60];
    let answer = server
        .chat(
            user("Hi"),
            json!({"options": {"num_ctx": 64}, "jarvis": {"continue": {"tokens": tokens}}}),
        )
        .await;
    assert_eq!(answer["done_reason"], "length");
    assert_eq!(content(&answer), "");
}
