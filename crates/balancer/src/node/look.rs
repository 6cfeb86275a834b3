//! Looking at a node: what it offers, and whether it answers at all.

use super::Node;
use crate::{
    quick::QuickMap,
    transport::{TransportError, read},
    upstream::Outgoing,
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use jarvis_domain::sentence;
use jarvis_protocol::ollama::{ModelInfo, VersionResponse};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use std::{sync::Arc, time::Duration};
use tokio::time::{self, Instant};

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
    pub(crate) version: String,
    /// By name.
    pub(crate) models: QuickMap<String, Listed>,
    /// Models in memory, by name; the entries as the node sent them.
    pub(crate) loaded: QuickMap<String, Box<RawValue>>,
}

/// A model in a node's list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) info: ModelInfo,
    /// The entry as the node sent it: it may say more than is known here.
    pub(crate) sent: Box<RawValue>,
}

/// `/api/tags` and `/api/ps`.
#[derive(Deserialize)]
struct List {
    #[serde(default)]
    models: Option<Vec<Box<RawValue>>>,
}

/// What is read of a model in memory.
#[derive(Deserialize)]
struct Running {
    name: String,
}

impl Offer {
    pub(crate) fn has(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }

    /// Whether the node is Jarvis's own engine, by what it says of this model.
    pub(crate) fn is_engine(&self, model: &str) -> bool {
        let info = self.models.get(model);
        info.is_some_and(|listed| listed.info.jarvis.is_some())
    }
}

/// A catalogue of more than this many bytes is refused.
const MAX_LIST: usize = 16 << 20;

impl Node {
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// What it offers, while it answers.
    pub(crate) fn offer(&self) -> Option<Arc<Offer>> {
        match &*self.seen.borrow() {
            Seen::Up(offer) => Some(Arc::clone(offer)),
            Seen::Nothing | Seen::Down { .. } => None,
        }
    }

    /// Whether the model is in this node's memory.
    pub(crate) fn has_loaded(&self, model: &str) -> bool {
        matches!(&*self.seen.borrow(), Seen::Up(offer) if offer.loaded.contains_key(model))
    }

    /// Whether it offers a model of this name.
    pub(crate) fn has(&self, model: &str) -> bool {
        self.listed(model, |_| ()).is_some()
    }

    /// Whether its model of this name has these weights; `None`: it has no such model.
    pub(crate) fn has_weights(&self, model: &str, digest: &str) -> Option<bool> {
        self.listed(model, |listed| listed.digest == digest)
    }

    /// The digest of its model of this name.
    pub(crate) fn digest(&self, model: &str) -> Option<String> {
        self.listed(model, |listed| listed.digest.clone())
    }

    fn listed<T>(&self, model: &str, read: impl FnOnce(&ModelInfo) -> T) -> Option<T> {
        match &*self.seen.borrow() {
            Seen::Up(offer) => offer.models.get(model).map(|listed| read(&listed.info)),
            Seen::Nothing | Seen::Down { .. } => None,
        }
    }

    /// Whether nobody has looked yet.
    pub(crate) fn is_unseen(&self) -> bool {
        matches!(&*self.seen.borrow(), Seen::Nothing)
    }

    /// Waits until somebody has looked.
    pub(crate) async fn first_look(&self) {
        let mut seen = self.seen.subscribe();
        let _ = seen.wait_for(|seen| !matches!(seen, Seen::Nothing)).await;
    }

    /// The same, at most `limit`.
    pub(crate) async fn seen_once(&self, limit: Duration) {
        let _ = time::timeout(limit, self.first_look()).await;
    }

    /// Looks at the node now.
    pub(crate) async fn look(&self, limit: Duration) {
        let began = Instant::now();
        let looked = time::timeout(limit, self.ask_for_offer(limit)).await;
        match looked.unwrap_or(Err(TransportError::Silent(limit))) {
            Ok(offer) => {
                if offer.loaded.is_empty() {
                    // Without a model in memory nothing can run.
                    self.slots.seen_idle(began);
                }
                let was_down = self.offer().is_none();
                self.seen.send_replace(Seen::Up(Arc::new(offer)));
                if was_down {
                    tracing::info!(node = self.name, "node is up");
                }
            }
            Err(error) => self.down(&error),
        }
        self.meter.status(self.offer().is_some());
    }

    /// A request was lost to it: it counts as down until the next look, which is due at once, says otherwise.
    pub(crate) fn note_down(&self, error: &TransportError) {
        self.down(error);
        self.doubted.notify_one();
    }

    /// Whether what a request was told is reason enough to look at it now: once a second.
    pub(crate) fn may_look(&self) -> bool {
        self.looked.is_due()
    }

    /// Waits until a request has cast doubt on it.
    pub(crate) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Whether it was only looked for, and never there.
    pub(crate) fn is_absent(&self) -> bool {
        self.optional && matches!(&*self.seen.borrow(), Seen::Down { was_up: false, .. })
    }

    fn down(&self, error: &TransportError) {
        let reason = sentence(error);
        self.seen.send_modify(|seen| {
            let was_up = matches!(seen, Seen::Up(_) | Seen::Down { was_up: true, .. });
            if was_up && matches!(seen, Seen::Up(_)) {
                tracing::warn!(node = self.name, reason, "node is down");
            }
            *seen = Seen::Down { reason, was_up };
        });
        let now = self.now();
        self.health().breaker.trip(now);
        self.meter.status(false);
    }

    async fn ask_for_offer(&self, limit: Duration) -> Result<Offer, TransportError> {
        let models = self.list("/api/tags", |info: ModelInfo, sent| {
            (info.name.clone(), Listed { info, sent })
        });
        let models = models.await?;
        let running = self.list("/api/ps", |running: Running, sent| (running.name, sent));
        let loaded = running.await?;
        // Not every server of the API says which version it is.
        let version = time::timeout(limit / 2, self.get::<VersionResponse>("/api/version")).await;
        Ok(Offer {
            version: match version {
                Ok(Ok(version)) => version.version,
                _ => String::new(),
            },
            models,
            loaded,
        })
    }

    /// A list, of each entry what is read of it and how it was sent, by name.
    async fn list<T: DeserializeOwned, E>(
        &self,
        path: &str,
        entry: impl Fn(T, Box<RawValue>) -> (String, E),
    ) -> Result<QuickMap<String, E>, TransportError> {
        let list: List = self.get(path).await?;
        let read = |sent: Box<RawValue>| {
            let known = serde_json::from_str(sent.get());
            known.map(|known| entry(known, sent))
        };
        let entries = list.models.into_iter().flatten().map(read);
        entries
            .collect::<Result<_, _>>()
            .map_err(|error| TransportError::Malformed(format!("{path}: {error}")))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, TransportError> {
        let request = Outgoing {
            method: &Method::GET,
            path,
            headers: &HeaderMap::new(),
            body: Bytes::new(),
        };
        let response = self.send(request).await?;
        if response.status() != StatusCode::OK {
            return Err(TransportError::Malformed(format!(
                "{path} answered {}",
                response.status()
            )));
        }
        let body = read(response.into_body(), MAX_LIST).await?;
        serde_json::from_slice(&body)
            .map_err(|error| TransportError::Malformed(format!("{path}: {error}")))
    }
}
