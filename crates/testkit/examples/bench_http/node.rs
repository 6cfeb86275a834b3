//! Nodes: what a balancer asks a node, answered as fast as possible or at the pace that the model's name says.

use crate::{
    Failure,
    rendered::{Dialect, Rendered, head},
    report,
    request::Request,
    stamped,
};
use bytes::BytesMut;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    time::{Interval, MissedTickBehavior},
};
use tokio_util::task::TaskTracker;

/// The nodes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// One node on each.
    listen: Vec<SocketAddr>,
    /// What they say to have.
    models: Vec<String>,
}

type Cache = Mutex<HashMap<String, Arc<Rendered>>>;

#[derive(Debug)]
struct Nodes {
    models: Vec<String>,
    ollama: Cache,
    openai: Cache,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let nodes = Arc::new(Nodes {
        models: options.models,
        ollama: Cache::default(),
        openai: Cache::default(),
    });
    let tracker = TaskTracker::new();
    for address in options.listen {
        let listener = TcpListener::bind(address).await?;
        tracker.spawn(accept(listener, nodes.clone(), tracker.clone()));
    }
    report(&json!({"ready": true}))?;
    tracker.close();
    tracker.wait().await;
    Ok(())
}

async fn accept(listener: TcpListener, nodes: Arc<Nodes>, tracker: TaskTracker) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let nodes = nodes.clone();
                tracker.spawn(async move {
                    if let Err(failure) = nodes.serve(stream).await {
                        eprintln!("node: {failure}");
                    }
                });
            }
            Err(error) => {
                eprintln!("node: accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

impl Nodes {
    async fn serve(&self, mut stream: TcpStream) -> Result<(), Failure> {
        stream.set_nodelay(true)?;
        let mut buffer = BytesMut::new();
        loop {
            let request = match Request::read(&mut stream, &mut buffer).await {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                // A load that ends takes its connections with it.
                Err(failure) => return gone(failure),
            };
            let written = match request.path() {
                "/api/chat" => self.chat(&mut stream, &request, Dialect::Ollama).await,
                "/v1/chat/completions" => self.chat(&mut stream, &request, Dialect::Openai).await,
                path => stream
                    .write_all(&whole(&self.described(path)))
                    .await
                    .map_err(Failure::from),
            };
            if let Err(failure) = written {
                return gone(failure);
            }
        }
    }

    async fn chat(
        &self,
        stream: &mut TcpStream,
        request: &Request,
        dialect: Dialect,
    ) -> Result<(), Failure> {
        let model = request.member(b"\"model\"").ok_or("no model is named")?;
        if let Some(plan) = stamped::Plan::of(model) {
            return stamped::answer(stream, model, plan).await;
        }
        let rendered = self.rendered(dialect, model);
        let streamed = request
            .member(b"\"stream\"")
            .map_or(dialect == Dialect::Ollama, |value| value == "true");
        if !streamed {
            return Ok(stream.write_all(&rendered.small).await?);
        }
        stream.write_all(&rendered.opening).await?;
        if rendered.plan.count > 0 {
            paced(stream, &rendered).await?;
        }
        Ok(stream.write_all(&rendered.closing).await?)
    }

    fn rendered(&self, dialect: Dialect, model: &str) -> Arc<Rendered> {
        let cache = match dialect {
            Dialect::Ollama => &self.ollama,
            Dialect::Openai => &self.openai,
        };
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rendered) = cache.get(model) {
            return rendered.clone();
        }
        let rendered = Arc::new(Rendered::new(dialect, model));
        cache.insert(model.to_owned(), rendered.clone());
        rendered
    }

    /// What a balancer asks to know the node, in Ollama's form or that of the peers' own servers.
    fn described(&self, path: &str) -> Value {
        let digest = "0f8d2c5e7a9b1346c8e0d2f4a6b8c0e2d4f6a8b0c2e4d6f8a0b2c4d6e8f0a2b4";
        let details = json!({"format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "3.2B",
            "quantization_level": "Q4_K_M", "parent_model": ""});
        let each =
            |make: &dyn Fn(&String) -> Value| self.models.iter().map(make).collect::<Vec<_>>();
        match path {
            "/api/version" => json!({"version": "0.12.0"}),
            "/api/tags" => {
                json!({"models": each(&|name| json!({"name": name, "model": name, "digest": digest,
                "size": 2_019_393_189_u64, "modified_at": "2026-01-01T12:00:00Z", "details": details}))})
            }
            "/api/ps" => {
                json!({"models": each(&|name| json!({"name": name, "model": name, "digest": digest,
                "size": 2_019_393_189_u64, "size_vram": 0, "expires_at": "2099-01-01T12:00:00Z", "details": details,
                "context_length": 4096}))})
            }
            "/v1/models" => {
                json!({"object": "list", "data": each(&|name| json!({"id": name, "object": "model",
                "created": 1_767_268_800, "owned_by": "library"}))})
            }
            // A router that heard of a model's path would look for its tokenizer elsewhere.
            _ => json!({"status": "ok"}),
        }
    }
}

/// Writes a plan's later records, each alone, until the client leaves.
async fn paced(stream: &mut TcpStream, rendered: &Rendered) -> Result<(), Failure> {
    let first = tokio::time::Instant::now() + rendered.plan.every;
    let mut ticks = tokio::time::interval_at(first, rendered.plan.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for chunk in rendered.chunks.iter().cycle().take(rendered.plan.count) {
        tick(stream, &mut ticks).await?;
        stream.write_all(chunk).await?;
    }
    Ok(())
}

/// Waits for the next tick; an error where the client leaves before.
pub(crate) async fn tick(stream: &TcpStream, ticks: &mut Interval) -> Result<(), Failure> {
    loop {
        tokio::select! {
            _ = ticks.tick() => return Ok(()),
            ready = stream.readable() => {
                ready?;
                match stream.try_read(&mut [0; 1]) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                    Ok(0) => return Err(std::io::Error::from(ErrorKind::ConnectionReset).into()),
                    Ok(_) => return Err("a second request came before the first was answered".into()),
                }
            }
        }
    }
}

fn whole(value: &Value) -> Vec<u8> {
    let body = value.to_string();
    let mut bytes = head(
        "application/json",
        &format!("Content-Length: {}", body.len()),
    );
    bytes.extend(body.as_bytes());
    bytes
}

/// A connection that the other side gave up is no failure of the node.
fn gone(failure: Failure) -> Result<(), Failure> {
    match failure
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind)
    {
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(()),
        _ => Err(failure),
    }
}
