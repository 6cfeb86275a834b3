//! The endpoints, and the connections that die with the node.

use super::{
    Asked, FakeModel, Shared, Step, Tally, lock, manage,
    question::{Endpoint, Plan, Question},
    records::{WHEN, Writer},
    step::{acts, perform},
};
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
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use jarvis_protocol::{
    ollama::{ErrorBody, RunningModel, VersionResponse},
    openai::ErrorEnvelope,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The endpoints.
pub(super) fn router(shared: &Arc<Shared>) -> Router {
    let router = Router::new()
        .route("/", get(|| async { "Ollama is running" }))
        .route("/api/version", get(version))
        .route("/api/tags", get(tags))
        .route("/api/ps", get(ps))
        .route("/api/show", post(show))
        .route("/v1/models", get(models))
        .route("/api/chat", post(chat))
        .route("/api/generate", post(generate))
        .route("/v1/chat/completions", post(openai_chat))
        .route("/v1/completions", post(openai_completions))
        .merge(manage::router())
        .fallback(async || (StatusCode::NOT_FOUND, "404 page not found"))
        .with_state(Arc::clone(shared));
    manage::listening(router, shared)
}

/// Serves until the token that it gives is cancelled.
pub(super) fn start(listener: TcpListener, shared: &Arc<Shared>) -> CancellationToken {
    let router = router(shared);
    let stop = CancellationToken::new();
    let until = stop.clone();
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Some(accepted) = until.run_until_cancelled(listener.accept()).await {
            let Ok((socket, _)) = accepted else { continue };
            // Each record is on its way at once, as from a real node.
            let _ = socket.set_nodelay(true);
            let service = TowerToHyperService::new(router.clone());
            let until = until.clone();
            tasks.spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service);
                // An error is what a test wanted; the task's end closes the socket.
                let _ = until.run_until_cancelled(connection).await;
            });
        }
    });
    stop
}

type Node = State<Arc<Shared>>;

async fn version(State(shared): Node) -> Json<VersionResponse> {
    let version = lock(&shared.version).clone();
    Json(VersionResponse { version })
}

async fn tags(State(shared): Node) -> Json<Value> {
    let models = lock(&shared.models);
    let models = models.iter().map(|model| model.listed(json!(model.info)));
    Json(json!({"models": models.collect::<Vec<_>>()}))
}

async fn ps(State(shared): Node) -> Json<Value> {
    let loaded = lock(&shared.loaded).clone();
    let models = lock(&shared.models);
    let models = models
        .iter()
        .filter(|model| loaded.contains(&model.info.name))
        .map(|model| {
            model.listed(json!(RunningModel {
                name: model.info.name.clone(),
                model: model.info.name.clone(),
                digest: model.info.digest.clone(),
                ..RunningModel::default()
            }))
        });
    Json(json!({"models": models.collect::<Vec<_>>()}))
}

async fn show(State(shared): Node, Json(body): Json<Value>) -> Response {
    let name = manage::named(&body);
    let Some(model) = find(&shared, &name) else {
        return refusal(Endpoint::Chat, StatusCode::NOT_FOUND, absent(&name));
    };
    let template = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n";
    let mut abilities = vec!["completion"];
    abilities.extend(model.thinks.then_some("thinking"));
    Json(json!({"modelfile": format!("FROM {}", model.info.name), "template": template, "details": model.info.details,
        "model_info": {}, "capabilities": abilities, "modified_at": WHEN}))
    .into_response()
}

async fn models(State(shared): Node) -> Response {
    let data: Vec<_> = lock(&shared.models)
        .iter()
        .map(|model| json!({"id": model.info.name, "object": "model", "created": 1, "owned_by": "library"}))
        .collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

async fn chat(State(shared): Node, body: Bytes) -> Response {
    answer(shared, Endpoint::Chat, "/api/chat", body).await
}

async fn generate(State(shared): Node, body: Bytes) -> Response {
    answer(shared, Endpoint::Generate, "/api/generate", body).await
}

async fn openai_chat(State(shared): Node, body: Bytes) -> Response {
    answer(shared, Endpoint::OpenAiChat, "/v1/chat/completions", body).await
}

async fn openai_completions(State(shared): Node, body: Bytes) -> Response {
    answer(shared, Endpoint::OpenAiCompletions, "/v1/completions", body).await
}

async fn answer(
    shared: Arc<Shared>,
    endpoint: Endpoint,
    path: &'static str,
    body: Bytes,
) -> Response {
    let mut question = match Question::read(endpoint, &body) {
        Ok(question) => question,
        Err(error) => return refusal(endpoint, StatusCode::BAD_REQUEST, error.to_string()),
    };
    lock(&shared.asked).push(Asked {
        path,
        body: serde_json::from_slice(&body).expect("it was read just now"),
    });
    let model = find(&shared, &question.model);
    if let (true, Some(model)) = (question.render_only, &model)
        && model.shows_prompt
    {
        lock(&shared.loaded).insert(model.info.name.clone());
        let writer = Writer {
            question: &question,
            id: 0,
            load: 0,
            extended: false,
        };
        return Json(writer.rendered(&question.rendered(model))).into_response();
    }
    let open = Open::new(&shared.tally);
    let steps = lock(&shared.scripts).pop_front();
    if endpoint == Endpoint::Chat {
        let request = serde_json::from_slice(&body).expect("it was read just now");
        shared.requests.send_modify(|seen| seen.push(request));
    }
    let steps = match steps {
        Some(mut steps) => {
            if let Some(refused) = first(&mut steps, endpoint).await {
                return refused;
            }
            steps
        }
        None => vec![Step::Rest],
    };
    let Some(model) = model else {
        return refusal(endpoint, StatusCode::NOT_FOUND, absent(&question.model));
    };
    if !model.is_engine() {
        question.jarvis = None;
    }
    let load = if question.is_empty() && question.unloads {
        lock(&shared.loaded).remove(&model.info.name);
        Duration::ZERO
    } else {
        load(&shared, &model).await
    };
    respond(&question, &model, steps, load, open)
}

/// Does the step that comes before the head; a refusal is the whole answer.
async fn first(steps: &mut Vec<Step>, endpoint: Endpoint) -> Option<Response> {
    match steps.first() {
        Some(Step::Refuse(status, error)) => {
            let status = StatusCode::from_u16(*status).expect("a status");
            Some(refusal(endpoint, status, error.clone()))
        }
        Some(Step::Late(gate)) => {
            gate.clone().pass().await;
            steps.remove(0);
            None
        }
        _ => None,
    }
}

/// Brings the model into memory; gives how long that took if it was not.
async fn load(shared: &Shared, model: &FakeModel) -> Duration {
    if lock(&shared.loaded).contains(&model.info.name) {
        return Duration::ZERO;
    }
    if !model.load.is_zero() {
        tokio::time::sleep(model.load).await;
    }
    lock(&shared.loaded).insert(model.info.name.clone());
    model.load
}

fn respond(
    question: &Question,
    model: &FakeModel,
    steps: Vec<Step>,
    load: Duration,
    open: Open,
) -> Response {
    let writer = Writer {
        question,
        id: open.id,
        load: u64::try_from(load.as_nanos()).expect("a short time"),
        extended: model.is_engine(),
    };
    if question.is_empty() {
        open.whole();
        let idle = Plan {
            thinking: Vec::new(),
            pieces: Vec::new(),
            reason: if question.unloads { "unload" } else { "load" },
            prompt_tokens: 0,
            tokens: 0,
        };
        return Json(writer.whole(&idle)).into_response();
    }
    let plan = question.plan(model);
    if !question.streamed && matches!(steps[..], [Step::Rest]) {
        open.whole();
        return Json(writer.whole(&plan)).into_response();
    }
    let acts = acts(steps, &plan, &writer);
    let records = stream::iter(acts).then(perform);
    let whole = stream::once(async move {
        open.whole();
        Ok(Bytes::new())
    });
    let kind = if question.endpoint.is_openai() {
        "text/event-stream"
    } else {
        "application/x-ndjson"
    };
    (
        [("content-type", kind)],
        Body::from_stream(records.chain(whole)),
    )
        .into_response()
}

fn find(shared: &Shared, name: &str) -> Option<FakeModel> {
    lock(&shared.models)
        .iter()
        .find(|model| model.is(name))
        .cloned()
}

fn absent(name: &str) -> String {
    format!("model '{name}' not found")
}

fn refusal(endpoint: Endpoint, status: StatusCode, error: String) -> Response {
    if endpoint.is_openai() {
        let envelope = ErrorEnvelope::for_status(status.as_u16(), error);
        return (status, Json(envelope)).into_response();
    }
    (status, Json(ErrorBody { error })).into_response()
}

/// An answer on its way.
struct Open {
    tally: watch::Sender<Tally>,
    id: u64,
    whole: bool,
}

impl Open {
    fn new(tally: &watch::Sender<Tally>) -> Self {
        tally.send_modify(|tally| {
            tally.asked += 1;
            tally.open += 1;
        });
        Self {
            tally: tally.clone(),
            id: tally.borrow().asked,
            whole: false,
        }
    }

    fn whole(mut self) {
        self.whole = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.tally.send_modify(|tally| {
            tally.open -= 1;
            *if self.whole {
                &mut tally.whole
            } else {
                &mut tally.aborted
            } += 1;
        });
    }
}
