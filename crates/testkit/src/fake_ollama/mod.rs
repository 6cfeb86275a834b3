//! A node: the endpoints of Ollama that models are reached by, over a real socket, with Jarvis's extension where a model has it.
//!
//! Without a script a model says what it says ([`Says`]); with one ([`FakeOllama::script`]) it does exactly that.

mod manage;
mod model;
mod question;
mod records;
mod serve;
mod step;
mod story;

pub use model::{FakeModel, Says, Trailing};
pub use step::Step;

use crate::Gate;
use axum::{
    body::Body,
    http::{HeaderMap, Request},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use jarvis_protocol::ollama::{ChatRequest, ModelExtension, ModelInfo};
use serde_json::Value;
use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// One request to an endpoint that generates or renders.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Its path.
    pub path: &'static str,
    /// Its JSON.
    pub body: Value,
}

/// Any request but a look at what there is, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// In capitals.
    pub method: String,
    /// Path and query, verbatim.
    pub path: String,
    /// All of them.
    pub headers: HeaderMap,
    /// Byte for byte.
    pub body: Bytes,
}

/// What [`FakeOllama::ask`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body, or what came of it.
    pub bytes: Vec<u8>,
    /// Whether it came to its end.
    pub whole: bool,
}

/// How many answers there were. Requests that only render are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests for an answer.
    pub asked: u64,
    /// Answers on their way.
    pub open: u64,
    /// Answers that went out whole.
    pub whole: u64,
    /// Answers whose client left, or that broke off.
    pub aborted: u64,
}

#[derive(Debug, Default)]
struct Shared {
    models: Mutex<Vec<FakeModel>>,
    loaded: Mutex<HashSet<String>>,
    scripts: Mutex<VecDeque<Vec<Step>>>,
    requests: watch::Sender<Vec<ChatRequest>>,
    asked: Mutex<Vec<Asked>>,
    heard: Mutex<Vec<Heard>>,
    looks: AtomicUsize,
    pulls: Mutex<Option<Gate>>,
    held: AtomicUsize,
    blobs: Mutex<HashSet<String>>,
    tally: watch::Sender<Tally>,
    version: Mutex<String>,
}

/// A node on a free port. It ends when it is dropped.
#[derive(Debug)]
pub struct FakeOllama {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Mutex<CancellationToken>,
}

impl FakeOllama {
    /// Starts a node with the model `test:latest`, which can continue answers.
    pub async fn start() -> Self {
        Self::with_models(vec![Self::model("test:latest")]).await
    }

    /// Starts a node with these models, which echo.
    pub async fn with_models(models: Vec<ModelInfo>) -> Self {
        Self::with(models.into_iter().map(FakeModel::from).collect()).await
    }

    /// Starts a node with these models.
    pub async fn with(models: Vec<FakeModel>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            models: Mutex::new(models),
            version: Mutex::new("0.12.6".to_owned()),
            ..Shared::default()
        });
        let stop = serve::start(listener, &shared);
        Self {
            address,
            shared,
            stop: Mutex::new(stop),
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
    pub fn add(&self, model: impl Into<FakeModel>) {
        lock(&self.shared.models).push(model.into());
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Dies at once, with all its connections, as a process does that is killed.
    pub fn kill(&self) {
        lock(&self.stop).cancel();
    }

    /// Comes back on the same port after [`Self::kill`], with nothing in memory.
    pub async fn revive(&self) {
        let listener = TcpListener::bind(self.address)
            .await
            .expect("the same port");
        lock(&self.shared.loaded).clear();
        *lock(&self.stop) = serve::start(listener, &self.shared);
    }

    /// Calls itself this version from now on.
    pub fn set_version(&self, version: &str) {
        version.clone_into(&mut lock(&self.shared.version));
    }

    /// Asks it without a socket. `whole`: the answer did not break off.
    pub async fn ask(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(Body::from(body.into()))
            .expect("a path");
        let response = match serve::router(&self.shared).oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = response.status().as_u16();
        let mut frames = response.into_body().into_data_stream();
        let (mut bytes, mut whole) = (Vec::new(), true);
        while let Some(frame) = frames.next().await {
            match frame {
                Ok(frame) => bytes.extend_from_slice(&frame),
                Err(_) => whole = false,
            }
        }
        Reply {
            status,
            bytes,
            whole,
        }
    }

    /// Says what the next answer that has no script yet will do, whichever endpoint is asked for it. Unless it sends some of the
    /// model's own answer, its last record follows the last step.
    pub fn script(&self, steps: impl Into<Vec<Step>>) {
        lock(&self.shared.scripts).push_back(steps.into());
    }

    /// The chats (`/api/chat`) received so far.
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.shared.requests.borrow().clone()
    }

    /// Waits until `count` chats have been received, and gives the last one.
    pub async fn received(&self, count: usize) -> ChatRequest {
        let mut requests = self.shared.requests.subscribe();
        let seen = requests.wait_for(|seen| seen.len() >= count).await;
        seen.expect("the node lives")[count - 1].clone()
    }

    /// Everything that was asked so far, rendering included.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// Every request so far, but for looks at what there is.
    pub fn heard(&self) -> Vec<Heard> {
        lock(&self.shared.heard).clone()
    }

    /// How many looks at what there is there were so far: its models, those in memory and its version count as one each.
    pub fn looks(&self) -> usize {
        self.shared.looks.load(SeqCst)
    }

    /// Has every pull from now on wait for this gate before it answers.
    pub fn hold_pulls(&self, gate: Gate) {
        *lock(&self.shared.pulls) = Some(gate);
    }

    /// How many pulls wait for that gate.
    pub fn held(&self) -> usize {
        self.shared.held.load(SeqCst)
    }

    /// The names of its models.
    pub fn models(&self) -> Vec<String> {
        let models = lock(&self.shared.models);
        models.iter().map(|model| model.info.name.clone()).collect()
    }

    /// How many answers there were so far.
    pub fn tally(&self) -> Tally {
        *self.shared.tally.borrow()
    }

    /// Waits until the tally is like that.
    pub async fn until(&self, like: impl FnMut(&Tally) -> bool) -> Tally {
        let mut tally = self.shared.tally.subscribe();
        *tally.wait_for(like).await.expect("the node lives")
    }
}

impl Drop for FakeOllama {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds this")
}

#[cfg(test)]
mod tests;
