//! What a listener serves: what a role answers, and what holds for all of it. Pages of other sites stay out, a pause in a
//! body ends the request, a panic ends it alone.

use crate::{guard::Guard, refusal::Shape};
use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode},
    response::Response,
};
use futures_util::FutureExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use jarvis_balancer::Public;
use std::{
    error::Error,
    future::ready,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tower::ServiceExt as _;

/// How long a client may pause while it sends a body.
const BODY_PAUSE: Duration = Duration::from_secs(30);

type BoxError = Box<dyn Error + Send + Sync>;

/// What a role answers.
#[derive(Clone, Debug)]
pub(crate) enum App {
    /// The balancer, which finds its few routes itself.
    Balancer(Public),
    /// Anything else.
    Router(Router),
}

impl From<Router> for App {
    fn from(router: Router) -> Self {
        Self::Router(router)
    }
}

/// What one listener serves.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) app: App,
    pub(crate) guard: Guard,
}

// What an answer goes through is put together before it is waited for, instead of in one async function within another: each of
// those would keep a copy of the request for as long as the answer takes.

impl Site {
    /// Answers a request that came from `peer`.
    pub(crate) fn answer<B>(
        &self,
        peer: SocketAddr,
        request: Request<B>,
    ) -> impl Future<Output = Response> + Send + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let shape = Shape::of(request.uri().path());
        if let Some(refused) = self.guard.refusal(shape, request.headers()) {
            return ready(refused).left_future();
        }
        let answer = self.app.answer(peer, request.map(Unpaused::new));
        let answer = AssertUnwindSafe(answer).catch_unwind();
        answer
            .map(move |answer| answer.unwrap_or_else(|_| panicked(shape)))
            .right_future()
    }
}

impl App {
    fn answer<B>(
        &self,
        peer: SocketAddr,
        mut request: Request<B>,
    ) -> impl Future<Output = Response> + Send + use<B>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match self {
            Self::Balancer(public) => public.answer(peer, request).left_future(),
            Self::Router(router) => {
                request.extensions_mut().insert(ConnectInfo(peer));
                let answer = router.clone().oneshot(request.map(Body::new));
                answer
                    .map(|answer| match answer {
                        Ok(response) => response,
                        Err(never) => match never {},
                    })
                    .right_future()
            }
        }
    }
}

fn panicked(shape: Shape) -> Response {
    let why = "Something went wrong inside Jarvis; the log of the server says what.";
    shape.refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", why)
}

/// The body of a request, whose client may not pause for long.
struct Unpaused<B> {
    body: B,
    /// Runs while nothing comes.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<B> Unpaused<B> {
    fn new(body: B) -> Self {
        Self { body, alarm: None }
    }
}

impl<B> HttpBody for Unpaused<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.alarm = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(sleep(BODY_PAUSE)));
        ready!(alarm.as_mut().poll(context));
        Poll::Ready(Some(Err("the client has paused for too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::{get, post};
    use futures_util::stream;
    use std::convert::Infallible;
    use tokio::time::Instant;

    async fn answer(router: Router, request: Request<Body>) -> Response {
        let site = Site {
            app: router.into(),
            guard: Guard::default(),
        };
        site.answer(SocketAddr::from(([127, 0, 0, 1], 9)), request)
            .await
    }

    #[tokio::test]
    async fn a_panic_ends_its_request_alone() {
        async fn clumsy() -> &'static str {
            panic!("on purpose, by a test")
        }
        let router = Router::new()
            .route("/clumsy", get(clumsy))
            .route("/fine", get(|| async {}));
        for (path, status) in [("/clumsy", 500), ("/fine", 200)] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            assert_eq!(answer(router.clone(), request).await.status(), status);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_pauses_in_a_body_is_not_waited_for() {
        let router = Router::new().route("/", post(|body: Bytes| async { body }));
        let silent = stream::pending::<Result<Bytes, Infallible>>();
        let request = Request::post("/").body(Body::from_stream(silent)).unwrap();
        let begun = Instant::now();
        assert_eq!(answer(router, request).await.status(), 400);
        assert!(begun.elapsed() >= BODY_PAUSE);
    }
}
