use std::path::PathBuf;

use axum::{Router, body::Body};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use jarvis_engine::{Catalog, Engine, EngineOptions};
use jarvis_protocol::{ndjson::LineDecoder, ollama::KeepAlive};
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const CHAT: &str = "smollm2:135m";
pub(crate) const EMBEDDING: &str = "all-minilm:l6-v2";

/// Where the models lie that these tests need.
pub(crate) fn models_dir() -> PathBuf {
    let dir = std::env::var_os("JARVIS_TEST_MODELS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/test-data/models"),
        PathBuf::from,
    );
    assert!(
        dir.join("manifests").is_dir(),
        "no models in {}: `make test` fetches them first, or alone:\n  cargo run -p jarvis-engine --example fetch_models -- {}",
        dir.display(),
        dir.display()
    );
    dir
}

/// A store of its own that shares the weights with the common one.
pub(crate) fn own_store() -> tempfile::TempDir {
    let own = tempfile::tempdir_in(models_dir()).unwrap();
    for part in ["blobs", "manifests"] {
        std::fs::create_dir(own.path().join(part)).unwrap();
        for entry in std::fs::read_dir(models_dir().join(part)).unwrap() {
            let entry = entry.unwrap();
            std::fs::hard_link(entry.path(), own.path().join(part).join(entry.file_name()))
                .unwrap();
        }
    }
    own
}

/// An engine on the common store.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    router: Router,
}

impl Server {
    pub(crate) fn start(change: impl FnOnce(&mut EngineOptions)) -> Self {
        let mut options = EngineOptions::new(models_dir());
        options.num_ctx = 1024;
        // One thread never waits for another: the tests run beside each other on few cores.
        options.threads = Some(1);
        options.keep_alive = KeepAlive::Forever;
        change(&mut options);
        let engine = Engine::start(options).unwrap();
        let router = engine.router();
        Self { engine, router }
    }

    /// One answer at a time and nothing reused: reproducible bit for bit.
    pub(crate) fn single() -> Self {
        Self::start(|options| {
            options.parallel = 1;
            options.prefix_reuse = false;
        })
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> Response<Body> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(body.into())
            .unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response<Body> {
        self.send("POST", path, body.to_string()).await
    }

    /// Status and JSON of a call that is not streamed.
    pub(crate) async fn call(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.post(path, body).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = read(self.send("GET", path, Body::empty()).await).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// A whole answer from `/api/chat`, greedy and without penalties unless `more` says otherwise.
    pub(crate) async fn chat(&self, messages: Value, more: Value) -> Value {
        let (status, body) = self.call("/api/chat", &chat(messages, more)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }
}

pub(crate) async fn read(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
    };
    (status, body)
}

/// The body of a chat request that is not streamed. `more` is laid over it; its options over the greedy ones.
pub(crate) fn chat(messages: Value, more: Value) -> Value {
    let mut request = json!({
        "model": CHAT, "stream": false, "messages": messages,
        "options": {"temperature": 0, "repeat_penalty": 1, "num_predict": 32},
    });
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        if key == "options" {
            for (key, value) in value.as_object().unwrap() {
                request["options"][key] = value.clone();
            }
        } else {
            request[key] = value;
        }
    }
    request
}

pub(crate) fn user(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// A question that even this small model answers with the city's name.
pub(crate) fn capital(country: &str) -> Value {
    json!([
        {"role": "user", "content": "What is the capital of Japan?"},
        {"role": "assistant", "content": "Tokyo"},
        {"role": "user", "content": "What is the capital of Egypt?"},
        {"role": "assistant", "content": "Cairo"},
        {"role": "user", "content": format!("What is the capital of {country}?")},
    ])
}

pub(crate) fn content(answer: &Value) -> &str {
    answer["message"]["content"].as_str().unwrap()
}

/// An answer that is read record by record.
pub(crate) struct Stream {
    body: Body,
    decoder: LineDecoder,
}

impl Stream {
    pub(crate) fn new(response: Response<Body>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        Self {
            body: response.into_body(),
            decoder: LineDecoder::new(1 << 20),
        }
    }

    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(line) = self.decoder.next_line().unwrap() {
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let Some(frame) = self.body.frame().await else {
                assert!(self.decoder.finish().is_none(), "every line is whole");
                return None;
            };
            self.decoder.push(&frame.unwrap().into_data().unwrap());
        }
    }

    pub(crate) async fn all(mut self) -> Vec<Value> {
        let mut records = Vec::new();
        while let Some(record) = self.next().await {
            records.push(record);
        }
        records
    }
}

/// The texts of streamed chat records, joined.
pub(crate) fn joined(records: &[Value]) -> String {
    records.iter().map(content).collect()
}

/// A catalog on a store of its own.
pub(crate) fn catalog(dir: &std::path::Path) -> Catalog {
    Catalog::open(dir, jarvis_domain::Clock::System).unwrap()
}
