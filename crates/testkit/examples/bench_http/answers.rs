//! Answers as users see them: questions asked over WebSockets, and every chunk's way from the node to the frame that shows it.

use crate::{
    Failure, report,
    socket::{Socket, kind, member},
    stamped::{Plan, STAMP, now, sent},
};
use serde::Deserialize;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinHandle, time::sleep};
use tokio_util::task::TaskTracker;

/// The load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// The instance that is asked, and so makes the answers.
    ask: SocketAddr,
    /// The instance over which they are read.
    follow: SocketAddr,
    /// Of the accounts that ask, in turn.
    tokens: Vec<String>,
    /// See [`Plan`].
    model: String,
    /// Answers at once, each over a socket of its own.
    streams: usize,
    /// How many may be on their way to their first chunk at a time.
    opening: usize,
    /// Seconds between the last answer's first chunk and the beginning of what is measured.
    warm_up: f64,
    /// Seconds that are measured.
    seconds: f64,
}

/// What all answers share.
#[derive(Debug)]
struct Load {
    options: Options,
    plan: Plan,
    gate: Arc<Semaphore>,
    /// Whether what arrives is measured.
    measuring: AtomicBool,
    chunks: AtomicUsize,
    frames: AtomicUsize,
}

/// Prints `{"open": N}` when all answers have begun and warmed up, `{"closed": …}` after the time that is measured, then, when
/// all have ended, how long the chunks took that arrived between. All must be there at once for that time, and all must be whole.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let plan = Plan::of(&options.model).ok_or("the model's answers are not stamped")?;
    let opening = u32::try_from(options.opening)?;
    let load = Arc::new(Load {
        plan,
        gate: Arc::new(Semaphore::new(options.opening)),
        measuring: AtomicBool::new(false),
        chunks: AtomicUsize::new(0),
        frames: AtomicUsize::new(0),
        options,
    });
    let tracker = TaskTracker::new();
    let answers: Vec<JoinHandle<Result<Vec<u32>, Failure>>> = (0..load.options.streams)
        .map(|number| {
            let load = load.clone();
            tracker.spawn(async move {
                let seen = load.one(number).await;
                seen.map_err(|failure| format!("answer {number}: {failure}").into())
            })
        })
        .collect();
    let window = tracker.spawn(load.clone().window(opening));
    let mut took = Vec::new();
    for answer in answers {
        took.extend(answer.await??);
    }
    let (chunks, frames) = window.await??;
    took.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list of some hundred thousand"
        )]
        let place = (took.len() as f64 * share) as usize;
        f64::from(took[place.min(took.len() - 1)]) / 1e3
    };
    report(&json!({
        "chunks": chunks, "frames": frames, "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "max_ms": at(1.0),
    }))
}

impl Load {
    /// Measures for a while once all have begun: chunks and frames that came then.
    async fn window(self: Arc<Self>, opening: u32) -> Result<(usize, usize), Failure> {
        // Waits in turn behind every answer that asked before it, then for those that are still opening.
        sleep(Duration::from_millis(1)).await;
        let all = self.gate.acquire_many(opening).await?;
        sleep(Duration::from_secs_f64(self.options.warm_up)).await;
        self.measuring.store(true, Ordering::Relaxed);
        report(&json!({"open": self.options.streams}))?;
        sleep(Duration::from_secs_f64(self.options.seconds)).await;
        self.measuring.store(false, Ordering::Relaxed);
        let seen = (
            self.chunks.load(Ordering::Relaxed),
            self.frames.load(Ordering::Relaxed),
        );
        report(&json!({"closed": seen.0}))?;
        drop(all);
        Ok(seen)
    }

    /// One answer from the question to its end: microseconds from the node to here of each chunk that was measured.
    async fn one(&self, number: usize) -> Result<Vec<u32>, Failure> {
        let opening = self.gate.acquire().await?;
        let token = &self.options.tokens[number % self.options.tokens.len()];
        let (mut socket, generation) = self.ask(number, token).await?;
        if self.options.follow != self.options.ask {
            socket = Socket::open(self.options.follow, token).await?;
            let subscribe =
                json!({"type": "subscribe", "generation_id": generation, "offset": 0, "epoch": 0});
            socket.send(&subscribe.to_string()).await?;
        }
        let mut opening = Some(opening);
        let (mut held, mut took) = (0, Vec::new());
        let mut measured = false;
        loop {
            let frame = socket.next().await?;
            match kind(&frame) {
                b"delta" => {
                    self.delta(&frame, &mut held, &mut took)?;
                    measured |= self.measuring.load(Ordering::Relaxed);
                    opening = None;
                }
                b"done" if opening.is_some() => return Err("it has ended at once".into()),
                b"done" => break,
                b"conversation" | b"queued" => {}
                _ => return Err(format!("not expected: {}", frame.escape_ascii()).into()),
            }
        }
        if held != self.plan.count * STAMP {
            return Err(format!("{held} bytes of {} chunks", self.plan.count).into());
        }
        if !measured || self.measuring.load(Ordering::Relaxed) {
            return Err("it was not there for all of the time that is measured".into());
        }
        Ok(took)
    }

    async fn ask(&self, number: usize, token: &str) -> Result<(Socket, String), Failure> {
        let mut socket = Socket::open(self.options.ask, token).await?;
        let question = json!({"type": "send", "id": format!("{}-{number}", now()), "conversation_id": null,
            "content": "Good morning Jarvis, how are you today?", "model": self.options.model});
        socket.send(&question.to_string()).await?;
        let accepted = socket.wait_for("accepted").await?;
        let generation = member(&accepted, r#""generation_id":""#, b'"');
        let generation = generation.ok_or("an answer without a name")?;
        Ok((socket, std::str::from_utf8(generation)?.to_owned()))
    }

    /// Takes in a frame's chunks, which must follow those before.
    fn delta(&self, frame: &[u8], held: &mut usize, took: &mut Vec<u32>) -> Result<(), Failure> {
        let arrived = now();
        let offset = member(frame, r#""offset":"#, b',');
        let offset: usize = std::str::from_utf8(offset.unwrap_or_default())?.parse()?;
        let text = member(frame, r#""text":""#, b'"').unwrap_or_default();
        if offset != *held || !text.len().is_multiple_of(STAMP) {
            return Err(format!("{held} bytes are held, and now: {}", frame.escape_ascii()).into());
        }
        *held += text.len();
        if self.measuring.load(Ordering::Relaxed) {
            for stamp in text.chunks_exact(STAMP) {
                let sent = sent(stamp).ok_or("a chunk without a stamp")?;
                took.push(u32::try_from(arrived.saturating_sub(sent))?);
            }
            let chunks = text.len() / STAMP;
            self.chunks.fetch_add(chunks, Ordering::Relaxed);
            self.frames.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
