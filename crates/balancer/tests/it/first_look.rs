//! Requests that come before a node was looked at. Time stands still but where everybody waits for it.

use crate::{
    Started,
    node::{Act, Fake, done, model, text},
    start,
};
use axum::{body::Body, response::Response};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jarvis_balancer::{Access, Options, Public};
use jarvis_testkit::Gate;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, time::Instant};

fn public(started: &Started) -> Public {
    let access = Access::new(None, None, false).unwrap();
    started.balancer.public(access)
}

/// A request that has come: as far as it gets by itself.
fn ask(public: &Public, name: &str) -> BoxFuture<'static, Response> {
    ask_at(public, "/api/chat", name)
}

fn ask_at(public: &Public, path: &str, name: &str) -> BoxFuture<'static, Response> {
    let body = format!(r#"{{"model":"{name}","messages":[{{"role":"user","content":"q"}}]}}"#);
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let peer = ([127, 0, 0, 1], 9).into();
    public.answer(peer, request).boxed()
}

/// The status, who answered, and the body, read to its end.
async fn read(answer: Response) -> (StatusCode, String, String) {
    let (head, body) = answer.into_parts();
    let node = head.headers.get("x-jarvis-node");
    let node = node.map_or("", |node| node.to_str().unwrap()).to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, node, String::from_utf8(body.into()).unwrap())
}

fn answering() -> Vec<Act> {
    vec![text("Salut"), done()]
}

fn patience() -> Duration {
    Options::default().probe_timeout
}

#[tokio::test(start_paused = true)]
async fn one_that_a_node_not_looked_at_may_serve_waits_for_the_look() {
    let gate = Gate::default();
    let late = Fake::shown_by(&gate, answering());
    let other = Fake {
        models: vec![model("other:latest", "o")],
        ..Fake::new(answering())
    };
    for others in [vec![], vec![other.spec("other")]] {
        let alone = others.is_empty();
        let started = start(others);
        started.balancer.catalog().await;
        started.balancer.add_node(late.spec("late")).unwrap();
        let public = public(&started);
        let mut asked = ask(&public, "m");
        assert!((&mut asked).now_or_never().is_none(), "alone: {alone}");
        let began = Instant::now();
        gate.open();
        let (status, node, body) = read(asked.await).await;
        assert_eq!((status, &*node), (StatusCode::OK, "late"), "{body}");
        assert!(body.contains("Salut"), "{body}");
        assert_eq!(began.elapsed(), Duration::ZERO);
        gate.pass().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_for_a_route_that_nobody_knows_waits_too() {
    let gate = Gate::default();
    let late = Fake::shown_by(&gate, answering());
    let started = start(vec![late.spec("late")]);
    let mut asked = ask_at(&public(&started), "/api/tomorrow", "m");
    assert!((&mut asked).now_or_never().is_none());
    gate.open();
    let (_, node, body) = read(asked.await).await;
    assert_eq!(node, "late", "{body}");
}

#[tokio::test(start_paused = true)]
async fn it_goes_to_the_first_that_turns_out_to_have_the_model() {
    let gate = Gate::default();
    let late = Fake::shown_by(&gate, answering());
    let never = Fake::shown_by(&Gate::default(), answering());
    let other = Fake {
        models: vec![model("other:latest", "o")],
        ..Fake::shown_by(&gate, answering())
    };
    let nodes = vec![never.spec("never"), other.spec("other"), late.spec("late")];
    let started = start(nodes);
    let public = public(&started);
    let mut asked = ask(&public, "m");
    assert!((&mut asked).now_or_never().is_none());
    let began = Instant::now();
    gate.open();
    let (status, node, body) = read(asked.await).await;
    assert_eq!((status, &*node), (StatusCode::OK, "late"), "{body}");
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "it waited for the silent one"
    );
}

#[tokio::test(start_paused = true)]
async fn it_waits_so_where_others_queue_for_another_model() {
    let (gate, hold) = (Gate::default(), Arc::new(Notify::new()));
    let busy = Fake {
        models: vec![model("other:latest", "o")],
        ..Fake::new(vec![text("Salut"), Act::Gate(Arc::clone(&hold)), done()])
    };
    let started = start(vec![busy.spec_with_slots("busy", 1)]);
    started.balancer.catalog().await;
    let public = public(&started);
    let running = ask(&public, "other").await;
    let mut queued = ask(&public, "other");
    assert!((&mut queued).now_or_never().is_none());
    let late = Fake::shown_by(&gate, answering());
    started.balancer.add_node(late.spec("late")).unwrap();
    let mut asked = ask(&public, "m");
    assert!((&mut asked).now_or_never().is_none());
    gate.open();
    let (status, node, body) = read(asked.await).await;
    assert_eq!((status, &*node), (StatusCode::OK, "late"), "{body}");
    hold.notify_one();
    assert_eq!(read(running).await.1, "busy");
    hold.notify_one();
    assert_eq!(read(queued.await).await.1, "busy");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_whom_another_node_can_serve() {
    let never = Fake::shown_by(&Gate::default(), answering());
    let started = start(vec![Fake::new(answering()).spec("here")]);
    started.balancer.catalog().await;
    started.balancer.add_node(never.spec("never")).unwrap();
    let began = Instant::now();
    let (status, node, body) = read(ask(&public(&started), "m").await).await;
    assert_eq!((status, &*node), (StatusCode::OK, "here"), "{body}");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn none_waits_longer_than_a_look_may_take() {
    let never = Fake::shown_by(&Gate::default(), answering());
    let started = start(vec![never.spec("never")]);
    let public = public(&started);
    let began = Instant::now();
    let (status, _, body) = read(ask(&public, "m").await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    let waited = began.elapsed();
    // The clock of timers goes by the millisecond.
    assert!(waited >= patience(), "{waited:?}");
    assert!(
        waited <= patience() + Duration::from_millis(2),
        "{waited:?}"
    );
    let began = Instant::now();
    let (status, ..) = read(ask(&public, "m").await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(began.elapsed(), Duration::ZERO, "it is known to be down");
}
