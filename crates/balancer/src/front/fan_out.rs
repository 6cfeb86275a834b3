//! Changes of models, made on every node they concern, with the progress of all of them in one stream.

use super::{
    Front, headers,
    infer::{Named, path_and_query, whole},
    refusal::Refusal,
};
use crate::{catalog::full_name, node::Node, transport::TransportError, upstream::Outgoing};
use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use jarvis_protocol::{
    DecodeError,
    ndjson::{self, LineDecoder},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// A record of progress longer than this is refused, bytes.
const MAX_RECORD: usize = 1 << 20;

/// What a change is about.
#[derive(Deserialize)]
struct Change {
    #[serde(flatten)]
    named: Named,
    #[serde(default)]
    stream: Option<bool>,
}

/// Why a change was not made on a node.
struct Failed {
    /// As the node answered; that it could not be reached otherwise.
    status: StatusCode,
    message: String,
}

impl Failed {
    fn unreached(error: &TransportError) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            message: error.to_string(),
        }
    }
}

/// On every node that is up, or those that `X-Jarvis-Node` names.
pub(super) async fn to_all(State(front): State<Front>, request: Request) -> Response {
    fan_out(&front, request, false).await
}

/// On every node that has the model, or those of them that `X-Jarvis-Node` names.
pub(super) async fn to_having(State(front): State<Front>, request: Request) -> Response {
    fan_out(&front, request, true).await
}

/// A change as it goes to each node.
struct Sent {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

async fn fan_out(front: &Front, request: Request, only_having: bool) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let changed = async {
        let body = whole(body, front.balancer.shared.options.max_body).await?;
        let change: Option<Change> = serde_json::from_slice(&body).ok();
        let model = change.as_ref().and_then(|change| change.named.name());
        let nodes = concerned(front, &parts.headers, model.filter(|_| only_having))?;
        let streams = change
            .as_ref()
            .is_some_and(|change| change.stream.unwrap_or(true))
            && matches!(path.as_str(), "/api/pull" | "/api/push" | "/api/create");
        let asks = parts.method.is_safe();
        let sent = Arc::new(Sent {
            method: parts.method,
            path: path_and_query(&parts.uri).to_owned(),
            headers: headers::to_node(&front.access, &parts.headers),
            body,
        });
        let (told, steps) = mpsc::channel(nodes.len());
        for node in nodes {
            let limit = front.balancer.shared.options.total_timeout;
            let change = on_node(node, Arc::clone(&sent), told.clone(), limit);
            front.balancer.shared.spawn(change);
        }
        drop(told);
        Ok(if streams {
            merged(front.clone(), steps)
        } else {
            gathered(front, steps, asks).await
        })
    };
    changed
        .await
        .unwrap_or_else(|refusal: Refusal| refusal.of(&path).into_response())
}

fn concerned(
    front: &Front,
    headers: &HeaderMap,
    model: Option<&str>,
) -> Result<Vec<Arc<Node>>, Refusal> {
    let named: Option<Vec<&str>> = headers
        .get(headers::NODE)
        .and_then(|value| value.to_str().ok())
        .map(|names| names.split(',').map(str::trim).collect());
    let nodes = front.balancer.shared.pool.nodes();
    let up = nodes.iter().filter(|node| {
        node.offer().is_some_and(|offer| {
            named
                .as_ref()
                .is_none_or(|named| named.contains(&node.name.as_str()))
                && model.is_none_or(|model| offer.has(&full_name(model)))
        })
    });
    let concerned: Vec<_> = up.cloned().collect();
    if !concerned.is_empty() {
        return Ok(concerned);
    }
    Err(match model {
        Some(model) => Refusal::new(StatusCode::NOT_FOUND, format!("model '{model}' not found")),
        None => Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "no such node can be reached right now",
        ),
    })
}

/// What happens on one node: its records with its name, then its end.
enum Step {
    Record(Value),
    Done(String, Result<StatusCode, Failed>),
}

/// Makes the change on one node and tells how it goes. Ends when nobody listens any more.
async fn on_node(node: Arc<Node>, sent: Arc<Sent>, told: mpsc::Sender<Step>, limit: Duration) {
    let outcome = tokio::select! {
        outcome = change(&node, &sent, &told, limit) => outcome,
        () = told.closed() => return,
    };
    let _ = told.send(Step::Done(node.name.clone(), outcome)).await;
}

async fn change(
    node: &Node,
    sent: &Sent,
    told: &mpsc::Sender<Step>,
    limit: Duration,
) -> Result<StatusCode, Failed> {
    let request = Outgoing {
        method: &sent.method,
        path: &sent.path,
        headers: &sent.headers,
        body: sent.body.clone(),
    };
    let unreached = |error: TransportError| Failed::unreached(&error);
    let response = node.send_within(request, limit).await.map_err(unreached)?;
    let status = response.status();
    let told_by_node = |message| Failed {
        status: if status.is_success() {
            StatusCode::BAD_GATEWAY
        } else {
            status
        },
        message,
    };
    let mut body = response.into_body();
    let mut lines = LineDecoder::new(MAX_RECORD);
    let mut last = Ok(status);
    loop {
        let frame = body.frame().await;
        let ended = frame.is_none();
        if let Some(frame) = frame {
            lines.push(&frame.map_err(unreached)?.into_data().unwrap_or_default());
        }
        let mut records = Vec::new();
        let too_long = |error: DecodeError| told_by_node(error.to_string());
        while let Some(line) = lines.next_line().map_err(too_long)? {
            records.push(line);
        }
        if ended {
            records.extend(lines.finish());
        }
        for record in records {
            let Ok(mut record) = serde_json::from_slice::<Value>(&record) else {
                continue;
            };
            if let Some(error) = record["error"].as_str() {
                last = Err(told_by_node(error.to_owned()));
            }
            if let Some(object) = record.as_object_mut() {
                object.insert("node".to_owned(), json!(node.name));
                if told.send(Step::Record(record)).await.is_err() {
                    return last;
                }
            }
        }
        if ended {
            break;
        }
    }
    if status.is_success() {
        last
    } else {
        last.and_then(|_| Err(told_by_node(status.to_string())))
    }
}

/// All records as they come, but for each node's own end; then one end for all.
fn merged(front: Front, steps: mpsc::Receiver<Step>) -> Response {
    let state = (front, steps, Vec::new(), false);
    let records = stream::unfold(state, |(front, mut steps, mut failed, ended)| async move {
        if ended {
            return None;
        }
        loop {
            match steps.recv().await {
                Some(Step::Record(record)) if is_end(&record) => {}
                Some(Step::Record(record)) => {
                    return Some((line(&record), (front, steps, failed, false)));
                }
                Some(Step::Done(_, Ok(_))) => {}
                Some(Step::Done(node, Err(error))) => {
                    failed.push(format!("{node}: {}", error.message));
                }
                None => {
                    front.balancer.refresh().await;
                    let end = if failed.is_empty() {
                        json!({"status": "success"})
                    } else {
                        json!({"error": failed.join("; ")})
                    };
                    return Some((line(&end), (front, steps, failed, true)));
                }
            }
        }
    });
    let kind = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    )];
    (kind, Body::from_stream(records)).into_response()
}

/// A record that ends one node's part.
fn is_end(record: &Value) -> bool {
    record["error"].is_string() || record["status"] == "success"
}

fn line(record: &Value) -> Result<Bytes, serde_json::Error> {
    ndjson::encode(record)
}

/// Waits for all of them. `asks`: nothing is changed, so that one node's answer may be that of all.
async fn gathered(front: &Front, mut steps: mpsc::Receiver<Step>, asks: bool) -> Response {
    let mut created = StatusCode::OK;
    let (mut failed, mut statuses, mut done) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(step) = steps.recv().await {
        if let Step::Done(node, outcome) = step {
            match outcome {
                Ok(status) => {
                    if status == StatusCode::CREATED {
                        created = status;
                    }
                    done.push(node);
                }
                Err(error) => {
                    failed.push(format!("{node}: {}", error.message));
                    statuses.push(error.status);
                }
            }
        }
    }
    front.balancer.refresh().await;
    if failed.is_empty() {
        return (created, Json(json!({"status": "success", "nodes": done}))).into_response();
    }
    // What all of them say is the answer; where they differ, or some have done it, there is none. Of a question, what those say
    // that do not agree: what some lack (404) is not there.
    let first = statuses.first().copied();
    let agreed =
        first.filter(|first| (asks || done.is_empty()) && statuses.iter().all(|one| one == first));
    let status = agreed.unwrap_or(StatusCode::BAD_GATEWAY);
    Refusal::new(status, failed.join("; ")).into_response()
}
