//! Many streamed answers at once, every record of each counted.

use crate::{Failure, Target, rendered::Plan, report, response::Response};
use serde::Deserialize;
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

/// The load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    target: Target,
    /// How many at once.
    streams: usize,
    /// How many may be on their way to their first byte at a time.
    opening: usize,
}

/// What became of one stream.
#[derive(Debug)]
struct Seen {
    connected: Instant,
    begun: Instant,
    ended: Instant,
    records: usize,
    bytes: usize,
}

/// Prints `{"open": N}` when all have begun, then what came. All must be open at once, and all must end whole.
pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let expected = Plan::of(&options.target.model).records(options.target.dialect);
    let gate = Arc::new(Semaphore::new(options.opening));
    let target = Arc::new(options.target);
    let tracker = TaskTracker::new();
    let started = Instant::now();
    let streams: Vec<JoinHandle<Result<Seen, Failure>>> = (0..options.streams)
        .map(|number| tracker.spawn(one(target.clone(), number, gate.clone())))
        .collect();
    let opening = u32::try_from(options.opening)?;
    tracker.spawn(async move {
        // Waits in turn behind every stream that asked before it, then for those that are still opening.
        tokio::time::sleep(Duration::from_millis(1)).await;
        if gate.acquire_many(opening).await.is_ok() {
            let _ = report(
                &json!({"open": options.streams, "seconds": started.elapsed().as_secs_f64()}),
            );
        }
    });
    let mut seen = Vec::with_capacity(options.streams);
    for stream in streams {
        seen.push(stream.await??);
    }
    let (last_begun, first_ended) = (
        seen.iter().map(|one| one.begun).max(),
        seen.iter().map(|one| one.ended).min(),
    );
    let short = seen.iter().filter(|one| one.records != expected).count();
    if short > 0 {
        let records = seen.iter().map(|one| one.records).min();
        return Err(
            format!("{short} streams have not {expected} records but {records:?}, say").into(),
        );
    }
    report(&json!({
        "streams": seen.len(),
        "records": seen.iter().map(|one| one.records).sum::<usize>(),
        "bytes": seen.iter().map(|one| one.bytes).sum::<usize>(),
        "all_at_once": last_begun < first_ended,
        "slowest_first_byte_seconds": seen.iter().map(|one| (one.begun - one.connected).as_secs_f64()).fold(0.0, f64::max),
        "begun_after_a_second": seen.iter().filter(|one| one.begun - started > Duration::from_secs(1)).count(),
        "seconds": started.elapsed().as_secs_f64(),
    }))
}

async fn one(target: Arc<Target>, number: usize, gate: Arc<Semaphore>) -> Result<Seen, Failure> {
    let opening = gate.acquire().await?;
    let mut connection = target.connect(number).await?;
    let connected = Instant::now();
    connection.write_all(&target.request(true)).await?;
    let mut response = Response::default();
    let mut buffer = Vec::new();
    let first = read(&mut connection, &mut buffer, &mut response).await;
    let begun = Instant::now();
    drop(opening);
    first.map_err(|failure| format!("stream {number}: {failure}"))?;
    while !response.whole() {
        read(&mut connection, &mut buffer, &mut response)
            .await
            .map_err(|failure| {
                format!(
                    "stream {number}, {} bytes into its body: {failure}",
                    response.bytes
                )
            })?;
    }
    let records = response.feeds / target.dialect.feeds_per_record();
    Ok(Seen {
        connected,
        begun,
        ended: Instant::now(),
        records,
        bytes: response.bytes,
    })
}

/// Reads what is there, through a buffer that holds nothing while the stream is silent.
async fn read(
    connection: &mut tokio::net::TcpStream,
    buffer: &mut Vec<u8>,
    response: &mut Response,
) -> Result<(), Failure> {
    buffer.clear();
    buffer.reserve(16 * 1024);
    if connection.read_buf(buffer).await? == 0 {
        return Err("the connection ended".into());
    }
    response.feed(buffer)
}
