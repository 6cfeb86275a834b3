//! `/admin`: the state of everything, and changes of the set of nodes.

use super::{Front, access, refusal::Refusal};
use crate::{
    Catalog, NodeSpec, Strategy, Transport,
    node::{Node, Seen, State as Breaker},
    queue::Capacity,
};
use axum::{
    Json, Router,
    extract::{Path, State, rejection::JsonRejection},
    http::StatusCode,
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, patch, post, put},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

pub(super) fn router(front: Front) -> Router {
    let administrators = middleware::from_fn_with_state(front.clone(), access::administrators);
    Router::new()
        .route("/admin/state", get(state))
        .route("/admin/strategy", put(switch))
        .route("/admin/nodes", post(add))
        .route("/admin/nodes/{name}", patch(change).delete(remove))
        .route("/admin/nodes/{name}/drain", post(drain).delete(undrain))
        .route_layer(administrators)
        .with_state(front)
}

type Answered = Result<Response, Refusal>;

/// `GET /admin/state`.
async fn state(State(front): State<Front>) -> Json<Value> {
    let shared = &front.balancer.shared;
    let nodes = shared.pool.nodes();
    let queued = shared.shares(&nodes);
    let catalog = Catalog::of(shared);
    let models: Vec<_> = catalog
        .models
        .iter()
        .map(|model| {
            json!({"name": model.name, "digest": model.digest, "nodes": model.nodes,
                "differing_nodes": model.differing, "loaded": model.loaded, "resumes": model.way})
        })
        .collect();
    let waiting: BTreeMap<_, _> = shared
        .queue
        .by_tag()
        .into_iter()
        .map(|(model, count)| (model.to_string(), count))
        .collect();
    Json(json!({
        "strategy": shared.policy.strategy(),
        "uptime_seconds": shared.now().as_secs_f64(),
        "queue": {
            "waiting": shared.queue.len(),
            "limit": shared.options.max_queue,
            "by_model": waiting,
            "mean_hold_seconds": shared.queue.mean_hold().map(|hold| hold.as_secs_f64()),
        },
        "nodes": nodes.iter().map(|node| node_state(node, queued.of(node))).collect::<Vec<_>>(),
        "models": models,
    }))
}

fn node_state(node: &Arc<Node>, queued: f64) -> Value {
    let figures = node.figures();
    let (up, error, offer) = match node.seen() {
        Seen::Up(offer) => (true, None, Some(offer)),
        Seen::Down { reason, .. } => (false, Some(reason), None),
        Seen::Nothing => (false, Some("it has not answered yet".to_owned()), None),
    };
    let breaker = match node.breaker() {
        Breaker::Closed => "closed",
        Breaker::Open { .. } => "open",
        Breaker::HalfOpen => "half_open",
    };
    let names = |names: Vec<&String>| {
        let mut names = names;
        names.sort();
        json!(names)
    };
    json!({
        "name": node.name,
        "address": node.address(),
        "up": up,
        "error": error,
        "version": offer.as_ref().map(|offer| offer.version.clone()),
        "weight": node.weight(),
        "drained": node.is_drained(),
        "breaker": breaker,
        "slots": node.slots.capacity(),
        "active": figures.active,
        "draining": node.slots.draining(),
        "queue_size": queued,
        "health_score": figures.health_score,
        "avg_response_time": figures.response_time,
        "error_rate": figures.error_rate,
        "models": offer.as_ref().map(|offer| names(offer.models.keys().collect())),
        "loaded": offer.as_ref().map(|offer| names(offer.loaded.keys().collect())),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    strategy: Strategy,
}

async fn switch(State(front): State<Front>, body: Result<Json<Switch>, JsonRejection>) -> Answered {
    let Json(Switch { strategy }) = body.map_err(unreadable)?;
    front.balancer.switch(strategy);
    tracing::info!(%strategy, "strategy switched");
    Ok(Json(json!({"strategy": strategy})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    /// As `http://host:11434`.
    url: String,
    /// Its authority if left out.
    name: Option<String>,
    slots: Option<NonZeroU32>,
    weight: Option<u32>,
}

async fn add(State(front): State<Front>, body: Result<Json<Added>, JsonRejection>) -> Answered {
    let Json(added) = body.map_err(unreadable)?;
    let transport = Transport::http(&added.url)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let name = added.name.unwrap_or_else(|| transport.name());
    let visible =
        !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "a node's name has 1 to 255 visible ASCII characters",
        ));
    }
    let spec = NodeSpec {
        slots: added.slots,
        weight: added.weight.unwrap_or(1),
        ..NodeSpec::new(name.clone(), transport)
    };
    let balancer = &front.balancer;
    let node = balancer
        .watched(spec)
        .map_err(|taken| Refusal::new(StatusCode::CONFLICT, taken.to_string()))?;
    // Once this is answered another one may be taken out: so that is done when this one can be asked.
    node.seen_once(balancer.shared.options.probe_timeout).await;
    tracing::info!(node = name, "node added");
    Ok((StatusCode::CREATED, Json(json!({"name": name}))).into_response())
}

async fn remove(State(front): State<Front>, Path(name): Path<String>) -> Answered {
    if !front.balancer.remove_node(&name) {
        return Err(absent(&name));
    }
    tracing::info!(node = name, "node taken out");
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    weight: Option<u32>,
    slots: Option<NonZeroU32>,
}

async fn change(
    State(front): State<Front>,
    Path(name): Path<String>,
    body: Result<Json<Changed>, JsonRejection>,
) -> Answered {
    let Json(changed) = body.map_err(unreadable)?;
    let node = find(&front, &name)?;
    if let Some(weight) = changed.weight {
        node.set_weight(weight);
    }
    if let Some(slots) = changed.slots {
        node.slots.set_capacity(Capacity::Fixed(slots.get()));
    }
    front.balancer.shared.queue.wake();
    Ok(Json(node_state(&node, 0.0)).into_response())
}

async fn drain(State(front): State<Front>, Path(name): Path<String>) -> Answered {
    set_drained(&front, &name, true)
}

async fn undrain(State(front): State<Front>, Path(name): Path<String>) -> Answered {
    set_drained(&front, &name, false)
}

fn set_drained(front: &Front, name: &str, drained: bool) -> Answered {
    let node = find(front, name)?;
    node.set_drained(drained);
    front.balancer.shared.queue.wake();
    Ok(
        Json(json!({"name": name, "drained": drained, "active": node.slots.active()}))
            .into_response(),
    )
}

fn find(front: &Front, name: &str) -> Result<Arc<Node>, Refusal> {
    front
        .balancer
        .shared
        .pool
        .find(name)
        .ok_or_else(|| absent(name))
}

fn absent(name: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("there is no node '{name}'"))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(rejection: JsonRejection) -> Refusal {
    Refusal::new(rejection.status(), rejection.body_text())
}
