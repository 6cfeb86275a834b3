//! What is counted, through the `metrics` facade. Handles are looked up once and kept: the recorder's registry is not
//! asked on every request.

use crate::app::App;
use axum::{
    http::{Method, Request, StatusCode},
    response::Response,
};
use jarvis_domain::Generation;
use jarvis_store::{Outcome, series::AnswerPoint};
use metrics::{Counter, Histogram, counter, gauge, histogram};
use std::{
    pin::Pin,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tower::{Layer, Service};

/// A method as a label. Methods are the client's to invent: what is not one of ours is `other`, so that neither the labels
/// nor the handles grow with what is sent.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

#[derive(Clone)]
struct Handles {
    /// See [`label`].
    method: &'static str,
    status: StatusCode,
    total: Counter,
    errors: Option<Counter>,
    time: Histogram,
}

#[derive(Default)]
struct Route {
    route: &'static str,
    handles: RwLock<Vec<Handles>>,
}

impl Route {
    fn record(&self, method: &'static str, status: StatusCode, took: Duration) {
        let fits = |known: &&Handles| known.status == status && known.method == method;
        let known = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handles) = known.iter().find(fits) {
            return handles.record(took);
        }
        drop(known);
        let handles = Handles::new(method, self.route, status);
        handles.record(took);
        let mut known = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|known| fits(&known)) {
            known.push(handles);
        }
    }
}

impl Handles {
    fn new(method: &'static str, route: &'static str, status: StatusCode) -> Self {
        let code = status.as_u16().to_string();
        Self {
            method,
            status,
            total: counter!("jarvis_requests_total", "method" => method, "route" => route, "status" => code.clone()),
            errors: status.is_server_error().then(
                || counter!("jarvis_requests_errors_total", "method" => method, "route" => route, "status" => code),
            ),
            time: histogram!("jarvis_response_time_seconds", "method" => method, "route" => route),
        }
    }

    fn record(&self, took: Duration) {
        self.total.increment(1);
        if let Some(errors) = &self.errors {
            errors.increment(1);
        }
        self.time.record(took);
    }
}

/// Counts and times the requests of one route.
#[derive(Clone)]
pub(crate) struct MeterLayer(Arc<Route>);

impl MeterLayer {
    pub(crate) fn new(route: &'static str) -> Self {
        Self(Arc::new(Route {
            route,
            ..Route::default()
        }))
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered {
            inner,
            route: Arc::clone(&self.0),
        }
    }
}

/// See [`MeterLayer`].
#[derive(Clone)]
pub(crate) struct Metered<S> {
    inner: S,
    route: Arc<Route>,
}

impl<S, B> Service<Request<B>> for Metered<S>
where
    S: Service<Request<B>, Response = Response>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Metering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Metering {
            method: label(request.method()),
            route: Arc::clone(&self.route),
            since: Instant::now(),
            inner: self.inner.call(request),
        }
    }
}

/// A request under way.
pub(crate) struct Metering<F> {
    inner: F,
    method: &'static str,
    route: Arc<Route>,
    since: Instant,
}

impl<F, E> Future for Metering<F>
where
    F: Future<Output = Result<Response, E>> + Unpin,
{
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.inner).poll(context));
        if let Ok(response) = &result {
            self.route
                .record(self.method, response.status(), self.since.elapsed());
        }
        Poll::Ready(result)
    }
}

/// A WebSocket that is counted while it is open.
pub(crate) struct OpenSocket(App);

impl OpenSocket {
    pub(crate) fn new(app: App) -> Self {
        app.sockets.fetch_add(1, Ordering::Relaxed);
        gauge!("jarvis_active_connections").increment(1.0);
        Self(app)
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
        gauge!("jarvis_active_connections").decrement(1.0);
    }
}

pub(crate) fn generation_started() {
    counter!("jarvis_generations_started_total").increment(1);
}

/// Counts an answer whose end has been kept, and records what it cost. Never waits.
pub(crate) fn generation_ended(
    app: &App,
    generation: &Generation,
    outcome: &Outcome,
    node: Option<String>,
) {
    let status = outcome.status;
    counter!("jarvis_generations_ended_total", "status" => status.as_str()).increment(1);
    if let Some(series) = &app.options.series {
        let usage = outcome.usage.as_ref();
        series.record(AnswerPoint {
            node,
            ..AnswerPoint::of(generation, status, usage, app.clock.now())
        });
    }
}

/// From acceptance to the first character.
pub(crate) fn first_character(waited: Duration) {
    histogram!("jarvis_time_to_first_character_seconds").record(waited);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn invented_methods_are_counted_as_one() {
        let layer = MeterLayer::new("/");
        let route = Arc::clone(&layer.0);
        let mut service = layer.layer(tower::service_fn(|_: Request<()>| {
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::default()))
        }));
        for method in ["GET", "POST", "PROPFIND", "M1", "M2", "M3", "get"] {
            let request = Request::builder().method(method).body(()).unwrap();
            service.call(request).await.unwrap();
        }
        let known = route.handles.read().unwrap();
        let labels: Vec<_> = known.iter().map(|handles| handles.method).collect();
        assert_eq!(labels, ["GET", "POST", "other"]);
    }
}
