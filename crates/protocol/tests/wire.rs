//! Requests as real clients send them, and responses as Ollama sends them.

use jarvis_protocol::ollama::{
    ChatRequest, ChatResponse, DeleteRequest, DoneReason, Format, GenerateRequest, KeepAlive, Role,
    ShowRequest, TagsResponse,
};
use jarvis_protocol::openai;
use serde_json::json;

#[test]
fn a_chat_request_with_everything() {
    let request: ChatRequest = serde_json::from_value(json!({
        "model": "llama3.2", "stream": false, "format": "json", "keep_alive": "5m", "unknown": 1,
        "messages": [{"role": "system", "content": "x"}, {"role": "ipython", "content": null, "images": null}],
        "options": {"temperature": 0, "num_predict": 128.0, "stop": "END", "mirostat": 1},
        "jarvis": {"continue": {"text": "so far", "tokens": [1, 2]}, "report_tokens": true},
    }))
    .unwrap();
    assert_eq!(request.messages[1].role, Role::Other("ipython".into()));
    assert_eq!(request.options.num_predict, Some(128));
    assert_eq!(request.options.stop, ["END"]);
    assert_eq!(request.options.other["mirostat"], 1);
    assert_eq!(request.other["unknown"], 1);
    assert_eq!(request.format, Some(Format::Json));
    assert_eq!(
        request.keep_alive,
        Some(KeepAlive::For(std::time::Duration::from_mins(5)))
    );
    let resume = request.jarvis.clone().unwrap().resume.unwrap();
    assert_eq!(resume.tokens, Some(vec![1, 2]));
    let again: ChatRequest =
        serde_json::from_value(serde_json::to_value(&request).unwrap()).unwrap();
    assert_eq!(again, request);
}

#[test]
fn nulls_and_absence_are_the_same() {
    let nulls: GenerateRequest = serde_json::from_value(json!({
        "model": "m", "prompt": null, "options": null, "format": null, "context": null, "raw": null,
        "stream": null, "keep_alive": null, "images": null,
    }))
    .unwrap();
    let absent: GenerateRequest = serde_json::from_value(json!({"model": "m"})).unwrap();
    assert_eq!(nulls, absent);
}

#[test]
fn a_model_may_be_named_in_both_spellings_at_once() {
    for named in [
        json!({"model": "m"}),
        json!({"name": "m"}),
        json!({"model": "m", "name": ""}),
        json!({"model": "", "name": "m"}),
        json!({"model": null, "name": "m"}),
        json!({"model": "m", "name": "other"}),
    ] {
        let request: ShowRequest = serde_json::from_value(named.clone()).unwrap();
        assert_eq!(request.model, "m", "{named}");
        let request: DeleteRequest = serde_json::from_value(named).unwrap();
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({"model": "m"})
        );
    }
    assert!(serde_json::from_value::<ShowRequest>(json!({"model": 1})).is_err());
}

#[test]
fn wrong_types_are_refused() {
    for wrong in [
        json!({"model": 1}),
        json!({"model": "m", "messages": "x"}),
        json!({"model": "m", "messages": [{"content": "no role"}]}),
        json!({"model": "m", "options": {"num_ctx": "many"}}),
        json!({"model": "m", "options": {"num_ctx": 1.5}}),
        json!({"model": "m", "format": "yaml"}),
        json!({"model": "m", "format": 3}),
        json!({"model": "m", "keep_alive": "soon"}),
    ] {
        assert!(
            serde_json::from_value::<ChatRequest>(wrong.clone()).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn nesting_is_bounded() {
    let deep = format!(
        "{{\"model\":\"m\",\"format\":{}{}}}",
        "{\"a\":".repeat(10_000),
        "}".repeat(10_000)
    );
    assert!(serde_json::from_str::<ChatRequest>(&deep).is_err());
}

#[test]
fn responses_of_ollama_are_read_and_written_alike() {
    let last = r#"{"model":"llama3.2","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":5,"load_duration":1,"prompt_eval_count":2,"prompt_eval_duration":3,"eval_count":4,"eval_duration":5}"#;
    let parsed: ChatResponse = serde_json::from_str(last).unwrap();
    assert_eq!(parsed.done_reason, Some(DoneReason::Stop));
    assert_eq!(serde_json::to_string(&parsed).unwrap(), last);
    let chunk = r#"{"model":"m","created_at":"t","message":{"role":"assistant","content":"Hi"},"done":false}"#;
    let parsed: ChatResponse = serde_json::from_str(chunk).unwrap();
    assert_eq!(serde_json::to_string(&parsed).unwrap(), chunk);
    let tags: TagsResponse =
        serde_json::from_str(r#"{"models":[{"name":"a:latest","details":{"families":null}}]}"#)
            .unwrap();
    assert_eq!(tags.models[0].name, "a:latest");
}

#[test]
fn openai_content_may_be_parts_or_null() {
    let request: openai::ChatRequest = serde_json::from_value(json!({
        "model": "m", "stop": ["a", "b"], "stream_options": {"include_usage": true},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null},
        ],
    }))
    .unwrap();
    let texts: Vec<_> = request
        .messages
        .into_iter()
        .map(|m| m.content.into_text())
        .collect();
    assert_eq!(texts, ["ab", ""]);
}
