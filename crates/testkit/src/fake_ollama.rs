//! The node: `/api/tags`, `/api/ps` and `/api/chat` as Ollama has them, with Jarvis's extension for continuing.

use crate::Gate;
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use jarvis_protocol::ollama::{
    ChatRequest, ErrorBody, ModelExtension, ModelInfo, PsResponse, Role, TagsResponse,
};
use serde_json::json;
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// One thing that an answer does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends this text as one record.
    Text(String),
    /// Sends these bytes as they are.
    Raw(Bytes),
    /// Waits for the test.
    Gate(Gate),
    /// Says nothing for ever.
    Stall,
    /// Breaks the connection off.
    Cut,
    /// Answers with this status and error before anything else; must be the first step.
    Refuse(u16, String),
}

impl Step {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[derive(Debug)]
struct Shared {
    models: Mutex<Vec<ModelInfo>>,
    scripts: Mutex<VecDeque<Vec<Step>>>,
    requests: watch::Sender<Vec<ChatRequest>>,
}

/// A node on a free port. It ends when it is dropped.
#[derive(Debug)]
pub struct FakeOllama {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl FakeOllama {
    /// Starts a node with the model `test:latest`, which can continue answers.
    pub async fn start() -> Self {
        Self::with_models(vec![Self::model("test:latest")]).await
    }

    /// Starts a node with these models.
    pub async fn with_models(models: Vec<ModelInfo>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            models: Mutex::new(models),
            scripts: Mutex::default(),
            requests: watch::Sender::default(),
        });
        let router = Router::new()
            .route("/", get(|| async { "Ollama is running" }))
            .route("/api/tags", get(tags))
            .route("/api/ps", get(|| async { Json(PsResponse::default()) }))
            .route("/api/chat", post(chat))
            .with_state(Arc::clone(&shared));
        let stop = CancellationToken::new();
        let until = stop.clone().cancelled_owned();
        TaskTracker::new().spawn(async move {
            let server = axum::serve(listener, router).into_future();
            tokio::select! {
                _ = server => {}
                () = until => {}
            }
        });
        Self {
            address,
            shared,
            stop,
        }
    }

    /// A model as Jarvis's own engine lists it.
    pub fn model(name: &str) -> ModelInfo {
        ModelInfo {
            name: name.to_owned(),
            model: name.to_owned(),
            digest: format!("digest of {name}"),
            jarvis: Some(ModelExtension::default()),
            ..ModelInfo::default()
        }
    }

    /// Offers one more model from now on.
    pub fn add(&self, model: ModelInfo) {
        lock(&self.shared.models).push(model);
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says what the next chat that has no script yet will do; one record with `done` follows its last step. Without a
    /// script a chat answers `You said: ` and the last message.
    pub fn script(&self, steps: impl Into<Vec<Step>>) {
        lock(&self.shared.scripts).push_back(steps.into());
    }

    /// The chats received so far.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.shared.requests.borrow().clone()
    }

    /// Waits until `count` chats have been received, and gives the last one.
    pub async fn received(&self, count: usize) -> ChatRequest {
        let mut requests = self.shared.requests.subscribe();
        let seen = requests.wait_for(|seen| seen.len() >= count).await;
        seen.expect("the node lives")[count - 1].clone()
    }
}

impl Drop for FakeOllama {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds this")
}

async fn tags(State(shared): State<Arc<Shared>>) -> Json<TagsResponse> {
    let models = lock(&shared.models).clone();
    Json(TagsResponse { models })
}

async fn chat(State(shared): State<Arc<Shared>>, Json(request): Json<ChatRequest>) -> Response {
    let steps = lock(&shared.scripts)
        .pop_front()
        .unwrap_or_else(|| echo(&request));
    let model = request.model.clone();
    shared.requests.send_modify(|seen| seen.push(request));
    if let Some(Step::Refuse(status, error)) = steps.first() {
        let status = StatusCode::from_u16(*status).expect("a status");
        let error = error.clone();
        return (status, Json(ErrorBody { error })).into_response();
    }
    let words = steps.iter().filter(|step| matches!(step, Step::Text(_)));
    let end = json!({"model": model, "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content": ""},
        "done": true, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": words.count()});
    let end = stream::once(async move { Ok(line(&end)) });
    let records = stream::iter(steps)
        .then(move |step| perform(step, model.clone()))
        .chain(end);
    let kind = [("content-type", "application/x-ndjson")];
    (kind, Body::from_stream(records)).into_response()
}

async fn perform(step: Step, model: String) -> io::Result<Bytes> {
    match step {
        Step::Text(text) => Ok(line(
            &json!({"model": model, "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": text}, "done": false}),
        )),
        Step::Raw(bytes) => Ok(bytes),
        Step::Gate(gate) => {
            gate.pass().await;
            Ok(Bytes::new())
        }
        Step::Stall => std::future::pending().await,
        Step::Cut => {
            // The server writes out what it holds when its body has nothing ready: what came before is not lost.
            tokio::task::yield_now().await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Step::Refuse(..) => panic!("a refusal must be the first step"),
    }
}

fn line(value: &serde_json::Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

fn echo(request: &ChatRequest) -> Vec<Step> {
    let said = request
        .messages
        .iter()
        .rfind(|message| message.role == Role::User);
    let whole = format!("You said: {}", said.map_or("", |message| &message.content));
    let held = request
        .jarvis
        .as_ref()
        .and_then(|extension| extension.resume.as_ref())
        .map_or("", |resume| resume.text.as_str());
    let rest = whole.strip_prefix(held).unwrap_or_default();
    rest.split_inclusive(' ').map(Step::text).collect()
}
