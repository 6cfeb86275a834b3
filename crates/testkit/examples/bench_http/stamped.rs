//! Streams whose every record says when it was sent, so that whoever reads it, in whichever process, knows how long it took.
//!
//! A model named `stamped:EVERY-COUNT` answers with COUNT records, EVERY milliseconds apart, each with one stamp as its text, in
//! Ollama's dialect. Streams are out of step with each other, as those of real nodes are.

use crate::{Failure, node::tick, rendered::head};
use rustix::time::{ClockId, clock_gettime};
use std::{
    io::Write as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::MissedTickBehavior};

/// Bytes of one stamp: a space and twelve digits.
pub(crate) const STAMP: usize = 13;

/// How a stamped answer comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    every: Duration,
    pub(crate) count: usize,
}

impl Plan {
    pub(crate) fn of(model: &str) -> Option<Self> {
        let (every, count) = model.strip_prefix("stamped:")?.split_once('-')?;
        Some(Self {
            every: Duration::from_millis(every.parse().ok()?),
            count: count.parse().ok()?,
        })
    }
}

/// Microseconds of the clock that all processes of this machine share; they fit into a stamp.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    (part(time.tv_sec) * 1_000_000 + part(time.tv_nsec) / 1000) % 1_000_000_000_000
}

/// When what is read now was sent; `None` for what is no stamp.
pub(crate) fn sent(stamp: &[u8]) -> Option<u64> {
    let digits = stamp.strip_prefix(b" ")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Answers a request for `model`, until the client leaves.
pub(crate) async fn answer(stream: &mut TcpStream, model: &str, plan: Plan) -> Result<(), Failure> {
    let head = head("application/x-ndjson", "Transfer-Encoding: chunked");
    stream.write_all(&head).await?;
    let mut ticks = tokio::time::interval_at(first(plan.every), plan.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut bytes = Vec::new();
    for _ in 0..plan.count {
        tick(stream, &mut ticks).await?;
        chunk(&mut bytes, model, &format!(" {:012}", now()), "false")?;
        stream.write_all(&bytes).await?;
    }
    let last = format!(
        r#"true,"done_reason":"stop","prompt_eval_count":18,"eval_count":{}"#,
        plan.count
    );
    chunk(&mut bytes, model, "", &last)?;
    bytes.extend(b"0\r\n\r\n");
    Ok(stream.write_all(&bytes).await?)
}

/// When a stream's first record is due: each stream's own place in the beat, by the golden ratio.
fn first(every: Duration) -> tokio::time::Instant {
    static STREAMS: AtomicU32 = AtomicU32::new(0);
    let number = STREAMS.fetch_add(1, Ordering::Relaxed);
    let share = (f64::from(number) * 0.618_033_988_75).fract();
    tokio::time::Instant::now() + every.mul_f64(1.0 + share)
}

/// One record as an HTTP chunk, in place of what `bytes` held.
fn chunk(bytes: &mut Vec<u8>, model: &str, content: &str, done: &str) -> Result<(), Failure> {
    let record = format!(
        "{{\"model\":\"{model}\",\"created_at\":\"2026-01-01T12:00:00.123456789Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"{content}\"}},\"done\":{done}}}\n"
    );
    bytes.clear();
    write!(bytes, "{:x}\r\n{record}\r\n", record.len())?;
    Ok(())
}
