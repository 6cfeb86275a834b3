//! One node: what it offers, as last seen, and who is at it.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the pool, which follows")
)]
mod breaker;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the pool, which follows")
)]
mod budget;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "called by the pool, which follows")
)]
mod window;

use crate::{NodeSpec, Options, Transport, TransportError, slots::Slots, transport::ResponseBody};
use bytes::{Bytes, BytesMut};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use jarvis_protocol::ollama::{ModelInfo, PsResponse, TagsResponse};
use serde::de::DeserializeOwned;
use std::{collections::HashSet, error::Error, sync::Arc, time::Duration};
use tokio::{sync::watch, time};

/// What a look at a node showed.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// Nobody has looked yet.
    Nothing,
    /// It answers.
    Up(Arc<Offer>),
    /// It does not, and why. Whether it ever did decides if an optional node is mentioned.
    Down { reason: String, was_up: bool },
}

/// What a node that answers has to offer.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    pub(crate) models: Vec<ModelInfo>,
    /// Names of the models in memory.
    pub(crate) loaded: HashSet<String>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) optional: bool,
    pub(crate) slots: Arc<Slots>,
    transport: Transport,
    seen: watch::Sender<Seen>,
}

/// A catalogue of more than this many bytes is refused.
const MAX_LIST: usize = 16 << 20;

impl Node {
    pub(crate) fn new(spec: NodeSpec, options: &Options) -> Self {
        Self {
            name: spec.name,
            optional: spec.optional,
            slots: Arc::new(Slots::new(spec.slots, options.max_queue)),
            transport: spec.transport,
            seen: watch::Sender::new(Seen::Nothing),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Whether the model is in this node's memory.
    pub(crate) fn has_loaded(&self, model: &str) -> bool {
        matches!(&*self.seen.borrow(), Seen::Up(offer) if offer.loaded.contains(model))
    }

    /// Whether this node goes on with a text exactly where it stops: Jarvis's own engine does, and says so by its extension.
    pub(crate) fn resumes(&self, model: &str) -> bool {
        let own = |info: &ModelInfo| info.name == model && info.jarvis.is_some();
        matches!(&*self.seen.borrow(), Seen::Up(offer) if offer.models.iter().any(own))
    }

    /// Looks at the node for ever, more rarely while it is down.
    pub(crate) async fn watch(&self, options: Options) {
        let mut pause = options.probe_interval;
        loop {
            self.look(options.probe_timeout).await;
            let down = matches!(*self.seen.borrow(), Seen::Down { .. });
            pause = if down {
                (pause * 2).min(options.probe_interval * 4)
            } else {
                options.probe_interval
            };
            time::sleep(pause).await;
        }
    }

    /// Waits until somebody has looked, at most `limit`.
    pub(crate) async fn seen_once(&self, limit: Duration) {
        let mut seen = self.seen.subscribe();
        let _ = time::timeout(limit, seen.wait_for(|seen| !matches!(seen, Seen::Nothing))).await;
    }

    /// Looks at the node now.
    pub(crate) async fn look(&self, limit: Duration) {
        let looked = time::timeout(limit, self.offer()).await;
        match looked.unwrap_or(Err(TransportError::Silent(limit))) {
            Ok(offer) => {
                self.seen.send_replace(Seen::Up(Arc::new(offer)));
            }
            Err(error) => self.note_down(&error),
        }
    }

    /// Remembers that the node failed, until the next look says otherwise.
    pub(crate) fn note_down(&self, error: &TransportError) {
        let reason = sentence(error);
        self.seen.send_modify(|seen| {
            let was_up = matches!(seen, Seen::Up(_) | Seen::Down { was_up: true, .. });
            if was_up && matches!(seen, Seen::Up(_)) {
                tracing::warn!(node = self.name, reason, "node is down");
            }
            *seen = Seen::Down { reason, was_up };
        });
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<Response<ResponseBody>, TransportError> {
        self.transport.send(Method::POST, path, body).await
    }

    async fn offer(&self) -> Result<Offer, TransportError> {
        let tags: TagsResponse = self.get("/api/tags").await?;
        let running: PsResponse = self.get("/api/ps").await?;
        Ok(Offer {
            models: tags.models,
            loaded: running.models.into_iter().map(|model| model.name).collect(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, TransportError> {
        let response = self.transport.send(Method::GET, path, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(TransportError::Malformed(format!(
                "{path} answered {}",
                response.status()
            )));
        }
        let body = read(response, MAX_LIST).await?;
        serde_json::from_slice(&body)
            .map_err(|error| TransportError::Malformed(format!("{path}: {error}")))
    }
}

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read(
    response: Response<ResponseBody>,
    limit: usize,
) -> Result<Bytes, TransportError> {
    let mut body = response.into_body();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let data = frame
            .map_err(TransportError::Connection)?
            .into_data()
            .unwrap_or_default();
        if whole.len() + data.len() > limit {
            return Err(TransportError::Malformed(format!(
                "more than {limit} bytes"
            )));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// An error with its causes, as one line.
fn sentence(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}
