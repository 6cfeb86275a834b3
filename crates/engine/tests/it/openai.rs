use axum::{body::Body, response::Response};
use http::StatusCode;
use http_body_util::BodyExt;
use jarvis_protocol::sse::Decoder;
use serde_json::{Value, json};

use crate::support::{CHAT, Server, capital, read};

async fn events(response: Response<Body>) -> Vec<String> {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut decoder = Decoder::new(1 << 20);
    decoder.push(&bytes);
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event().unwrap() {
        events.push(event.data);
    }
    events
}

fn question(more: &Value) -> Value {
    let mut request =
        json!({"model": CHAT, "messages": capital("France"), "temperature": 0, "max_tokens": 24});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().cloned().unwrap());
    request
}

#[tokio::test]
async fn a_chat_completion() {
    let server = Server::single();
    let (status, body) = server
        .call("/v1/chat/completions", &question(&json!({})))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["object"], "chat.completion");
    assert!(
        body["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .contains("Paris"),
        "{body}"
    );
    let usage = &body["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64(),
        usage["prompt_tokens"]
            .as_u64()
            .zip(usage["completion_tokens"].as_u64())
            .map(|(a, b)| a + b)
    );
    let (_, limited) = server
        .call(
            "/v1/chat/completions",
            &question(&json!({"max_tokens": null, "max_completion_tokens": 1})),
        )
        .await;
    assert_eq!(limited["choices"][0]["finish_reason"], "length");
    assert_eq!(limited["usage"]["completion_tokens"], 1);
}

#[tokio::test]
async fn a_streamed_chat_completion() {
    let server = Server::single();
    let (_, whole) = server
        .call("/v1/chat/completions", &question(&json!({})))
        .await;
    let request = question(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let mut data = events(server.post("/v1/chat/completions", &request).await).await;
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let chunks: Vec<Value> = data
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let (usage, chunks) = chunks.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["id"] == chunks[0]["id"]
                && chunk["object"] == "chat.completion.chunk")
    );
    let roles = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["delta"].get("role").is_some())
        .count();
    assert_eq!(roles, 1, "the role comes once");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    let reasons: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .filter(|reason| !reason.is_null())
        .collect();
    assert_eq!(reasons.len(), 1);
}

#[tokio::test]
async fn a_completion_goes_on_from_its_prompt() {
    let server = Server::single();
    let request = json!({"model": CHAT, "prompt": "The capital of France is", "temperature": 0, "echo": true});
    let (_, body) = server.call("/v1/completions", &request).await;
    let text = body["choices"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("The capital of France is") && text.contains("Paris"),
        "{body}"
    );
    assert_eq!(body["usage"]["completion_tokens"], 16, "OpenAI's default");
    let mut streamed = request.clone();
    streamed["stream"] = true.into();
    let mut data = events(server.post("/v1/completions", &streamed).await).await;
    assert_eq!(data.pop().as_deref(), Some("[DONE]"));
    let joined: String = data
        .iter()
        .map(|text| {
            serde_json::from_str::<Value>(text).unwrap()["choices"][0]["text"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(joined, text);
}

#[tokio::test]
async fn told_tokens_let_an_answer_go_on_exactly() {
    let server = Server::single();
    for (path, asked, text_at) in [
        (
            "/v1/chat/completions",
            json!({"messages": capital("France")}),
            "/choices/0/delta/content",
        ),
        (
            "/v1/completions",
            json!({"prompt": "Once upon a time"}),
            "/choices/0/text",
        ),
    ] {
        let ask = |limit: usize, jarvis: Value| {
            let mut request = asked.clone();
            let more = json!({"model": CHAT, "temperature": 0, "max_tokens": limit, "stream": true, "jarvis": jarvis});
            request
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().cloned().unwrap());
            request
        };
        let read = async |request: Value| -> Vec<(String, Vec<Value>)> {
            let mut data = events(server.post(path, &request).await).await;
            assert_eq!(data.pop().as_deref(), Some("[DONE]"));
            let chunk = |text: &String| {
                let chunk: Value = serde_json::from_str(text).unwrap();
                let said = chunk.pointer(text_at).and_then(Value::as_str);
                let ids = chunk["jarvis"]["tokens"].as_array().cloned();
                (said.unwrap_or_default().to_owned(), ids.unwrap_or_default())
            };
            data.iter().map(chunk).collect()
        };
        let joined = |pieces: &[(String, Vec<Value>)]| -> (String, Vec<Value>) {
            (
                pieces.iter().map(|(text, _)| text.as_str()).collect(),
                pieces.iter().flat_map(|(_, ids)| ids.clone()).collect(),
            )
        };
        let pieces = read(ask(20, json!({"report_tokens": true}))).await;
        let (whole, all) = joined(&pieces);
        assert!(!whole.is_empty() && all.len() <= 20, "{pieces:?}");
        for cut in 1..pieces.len().min(6) {
            let (before, ids) = joined(&pieces[..cut]);
            let left = 20 - ids.len();
            let seam = json!({"continue": {"text": before, "tokens": ids}});
            let (rest, told) = joined(&read(ask(left, seam)).await);
            assert_eq!(before + &rest, whole, "{path} cut after {cut} pieces");
            assert_eq!(told, Vec::<Value>::new(), "nobody asked for tokens");
        }
    }
}

#[tokio::test]
async fn a_schema_as_openai_writes_it() {
    let server = Server::single();
    let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "strict": true, "schema": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 30}}, "required": ["city"], "additionalProperties": false}}});
    let (_, body) = server
        .call(
            "/v1/chat/completions",
            &question(&json!({"response_format": format, "max_tokens": 100})),
        )
        .await;
    let city: Value =
        serde_json::from_str(body["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(city["city"].is_string(), "{city}");
}

#[tokio::test]
async fn models_and_errors_have_openai_s_shape() {
    let server = Server::start(|_| {});
    let models = server.get("/v1/models").await;
    assert!(
        models["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|model| model["id"] == CHAT && model["created"].as_i64().unwrap() > 0)
    );
    assert_eq!(server.get("/v1/models/smollm2:135m").await["id"], CHAT);
    for (body, status, kind) in [
        (
            question(&json!({"model": "nobody"})),
            404,
            "not_found_error",
        ),
        (question(&json!({"n": 2})), 400, "invalid_request_error"),
        (
            question(&json!({"messages": []})),
            400,
            "invalid_request_error",
        ),
        (
            question(&json!({"temperature": -1})),
            400,
            "invalid_request_error",
        ),
        (
            question(
                &json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            ),
            400,
            "invalid_request_error",
        ),
    ] {
        let (got, error) = server.call("/v1/chat/completions", &body).await;
        assert_eq!(got.as_u16(), status, "{error}");
        assert_eq!(error["error"]["type"], kind, "{error}");
        assert!(!error["error"]["message"].as_str().unwrap().is_empty());
    }
    let (status, _) = read(server.send("GET", "/v1/models/nobody", Body::empty()).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
