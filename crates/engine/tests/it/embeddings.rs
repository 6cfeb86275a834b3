use base64::Engine as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{CHAT, EMBEDDING, Server};

async fn embed(server: &Server, input: Value) -> (Vec<Vec<f64>>, Value) {
    let (status, body) = server
        .call("/api/embed", &json!({"model": EMBEDDING, "input": input}))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    (
        serde_json::from_value(body["embeddings"].clone()).unwrap(),
        body,
    )
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn the_vectors_are_those_the_model_s_authors_get() {
    let server = Server::start(|_| {});
    // Reference values of the same weights under sentence-transformers.
    let (vectors, body) = embed(
        &server,
        json!([
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day"
        ]),
    )
    .await;
    assert_eq!(vectors.len(), 4);
    for vector in &vectors {
        assert_eq!(vector.len(), 384);
        assert!((dot(vector, vector) - 1.0).abs() < 1e-4);
    }
    for (other, expected) in [(1, 0.695), (2, 0.943), (3, 0.257)] {
        let cosine = dot(&vectors[0], &vectors[other]);
        assert!((cosine - expected).abs() < 0.002, "{other}: {cosine}");
    }
    assert_eq!(body["prompt_eval_count"], 7 + 7 + 8 + 7);
}

#[tokio::test]
async fn a_batch_gives_what_each_text_gives_alone() {
    let server = Server::start(|_| {});
    let texts: Vec<String> = (1..40)
        .map(|n| "word and number ".repeat(n % 7 + 1) + &n.to_string())
        .collect();
    let (batch, _) = embed(&server, json!(texts)).await;
    for at in [0, 13, 38] {
        let (alone, _) = embed(&server, json!(texts[at])).await;
        assert!(dot(&alone[0], &batch[at]) > 0.9999, "text {at}");
    }
}

#[tokio::test]
async fn long_texts_are_cut_unless_that_is_forbidden() {
    let server = Server::start(|_| {});
    let long = "many words ".repeat(1000);
    let (_, body) = embed(&server, json!(long)).await;
    assert_eq!(body["prompt_eval_count"], 256);
    let (status, body) = server
        .call(
            "/api/embed",
            &json!({"model": EMBEDDING, "input": long, "truncate": false}),
        )
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("exceeds the context length"),
        "{body}"
    );
}

#[tokio::test]
async fn fewer_dimensions_are_normalised_again() {
    let server = Server::start(|_| {});
    let (_, body) = server
        .call(
            "/api/embed",
            &json!({"model": EMBEDDING, "input": "x", "dimensions": 64}),
        )
        .await;
    let vector: Vec<f64> = serde_json::from_value(body["embeddings"][0].clone()).unwrap();
    assert_eq!(vector.len(), 64);
    assert!((dot(&vector, &vector) - 1.0).abs() < 1e-4);
}

#[tokio::test]
async fn the_older_form_and_openai_s_give_the_same() {
    let server = Server::start(|_| {});
    let (new, _) = embed(&server, json!("a text")).await;
    let (_, old) = server
        .call(
            "/api/embeddings",
            &json!({"model": EMBEDDING, "prompt": "a text"}),
        )
        .await;
    let old: Vec<f64> = serde_json::from_value(old["embedding"].clone()).unwrap();
    assert!(dot(&old, &new[0]) > 0.9999);
    let (_, float) = server
        .call(
            "/v1/embeddings",
            &json!({"model": EMBEDDING, "input": ["a text"]}),
        )
        .await;
    let float: Vec<f64> = serde_json::from_value(float["data"][0]["embedding"].clone()).unwrap();
    assert!(dot(&float, &new[0]) > 0.9999);
    let (_, coded) = server
        .call(
            "/v1/embeddings",
            &json!({"model": EMBEDDING, "input": "a text", "encoding_format": "base64"}),
        )
        .await;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(coded["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let decoded: Vec<f64> = bytes
        .chunks_exact(4)
        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
        .collect();
    assert!(dot(&decoded, &new[0]) > 0.9999);
}

#[tokio::test]
async fn models_do_what_they_can_and_say_what_they_cannot() {
    let server = Server::start(|_| {});
    let (status, body) = server
        .call("/api/embed", &json!({"model": CHAT, "input": "x"}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("does not support embeddings"),
        "{body}"
    );
    let (status, body) = server
        .call(
            "/api/chat",
            &json!({"model": EMBEDDING, "messages": [{"role": "user", "content": "x"}]}),
        )
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        body["error"].as_str().unwrap().contains("does not support"),
        "{body}"
    );
    let (none, _) = embed(&server, json!([])).await;
    assert!(none.is_empty());
}

#[tokio::test]
async fn too_many_texts_and_a_conversation_are_refused() {
    let server = Server::start(|_| {});
    for (path, body, word) in [
        (
            "/api/embed",
            json!({"model": EMBEDDING, "input": vec!["a"; 4097]}),
            "at most 4096",
        ),
        (
            "/api/chat",
            json!({"model": EMBEDDING, "messages": [{"role": "user", "content": "Hi"}]}),
            "does not support chat",
        ),
    ] {
        let (status, error) = server.call(path, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
        assert!(error["error"].as_str().unwrap().contains(word), "{error}");
    }
}
