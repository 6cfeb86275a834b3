//! A scripted node: what it lists, and what it does with a chat.

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use jarvis_balancer::{NodeSpec, Transport};
use jarvis_protocol::ollama::{ChatRequest, ModelExtension, ModelInfo, PsResponse, TagsResponse};
use jarvis_testkit::Gate;
use std::{
    convert::Infallible,
    io,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// One thing a chat does.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Sends these bytes.
    Send(String),
    /// Waits until the test opens the gate.
    Gate(Arc<Notify>),
    /// Says nothing for ever.
    Stall,
    /// Breaks the connection.
    Break,
}

pub(crate) fn text(content: &str) -> Act {
    Act::Send(format!(
        "{}\n",
        serde_json::json!({"model": "m", "created_at": "", "message": {"role": "assistant", "content": content}, "done": false})
    ))
}

pub(crate) fn done() -> Act {
    let end = serde_json::json!({"model": "m", "created_at": "", "message": {"role": "assistant", "content": ""}, "done": true,
        "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3});
    Act::Send(format!("{end}\n"))
}

#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) models: Vec<ModelInfo>,
    pub(crate) status: StatusCode,
    /// Once open, it says what it has; from the beginning if there is none.
    pub(crate) shows: Option<Gate>,
    pub(crate) script: Vec<Act>,
    /// The chats received.
    pub(crate) asked: Arc<Mutex<Vec<ChatRequest>>>,
    /// Chats whose body was dropped before its end, or read to it.
    pub(crate) closed: Arc<Notify>,
}

pub(crate) fn model(name: &str, digest: &str) -> ModelInfo {
    ModelInfo {
        name: name.into(),
        digest: digest.into(),
        ..ModelInfo::default()
    }
}

/// A model as Jarvis's own engine lists it.
pub(crate) fn own(name: &str) -> ModelInfo {
    ModelInfo {
        jarvis: Some(ModelExtension::default()),
        ..model(name, "d")
    }
}

impl Fake {
    pub(crate) fn new(script: Vec<Act>) -> Self {
        Self {
            models: vec![model("m:latest", "d")],
            status: StatusCode::OK,
            shows: None,
            script,
            asked: Arc::default(),
            closed: Arc::default(),
        }
    }

    /// A node that says nothing of what it has until the gate is open.
    pub(crate) fn shown_by(shows: &Gate, script: Vec<Act>) -> Self {
        Self {
            shows: Some(shows.clone()),
            ..Self::new(script)
        }
    }

    pub(crate) fn refusing(status: StatusCode) -> Self {
        Self {
            status,
            ..Self::new(vec![Act::Send(r#"{"error":"not today"}"#.into())])
        }
    }

    pub(crate) fn spec(&self, name: &str) -> NodeSpec {
        let fake = self.clone();
        let service =
            tower::service_fn(move |request| fake.clone().answer(request).map(Ok::<_, Infallible>));
        NodeSpec {
            name: name.into(),
            transport: Transport::in_process(service),
            slots: None,
            weight: 1,
            optional: false,
        }
    }

    pub(crate) fn spec_with_slots(&self, name: &str, slots: u32) -> NodeSpec {
        NodeSpec {
            slots: NonZeroU32::new(slots),
            ..self.spec(name)
        }
    }

    async fn answer(self, request: Request<Full<Bytes>>) -> Response<Body> {
        let json = |value: Vec<u8>| {
            Full::new(Bytes::from(value))
                .map_err(|never| match never {})
                .boxed_unsync()
        };
        if let Some(shows) = &self.shows
            && request.uri().path() == "/api/tags"
        {
            shows.pass().await;
            shows.open();
        }
        match request.uri().path() {
            "/api/version" => Response::new(json(br#"{"version":"0.9.0"}"#.to_vec())),
            "/api/tags" => Response::new(json(
                serde_json::to_vec(&TagsResponse {
                    models: self.models,
                })
                .unwrap(),
            )),
            "/api/ps" => Response::new(json(serde_json::to_vec(&PsResponse::default()).unwrap())),
            _ => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                if body.windows(18).any(|part| part == b"_debug_render_only") {
                    // A version that does not show its prompts.
                    return Response::new(json(br#"{"done":true}"#.to_vec()));
                }
                self.asked
                    .lock()
                    .unwrap()
                    .push(serde_json::from_slice(&body).unwrap());
                let stream = frames(self.script, Closing(self.closed));
                Response::builder()
                    .status(self.status)
                    .body(StreamBody::new(stream).boxed_unsync())
                    .unwrap()
            }
        }
    }
}

/// Tells that it was dropped.
struct Closing(Arc<Notify>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn frames(
    script: Vec<Act>,
    closing: Closing,
) -> impl Stream<Item = Result<Frame<Bytes>, io::Error>> {
    stream::iter(script).then(move |act| {
        let _ = &closing;
        async move {
            match act {
                Act::Send(bytes) => Ok(Frame::data(bytes.into())),
                Act::Gate(gate) => {
                    gate.notified().await;
                    Ok(Frame::data(Bytes::new()))
                }
                Act::Stall => std::future::pending().await,
                Act::Break => Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    })
}
