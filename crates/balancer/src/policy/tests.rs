//! What the strategies promise.

mod learning;
mod rules;

use super::{Choice, Job, Link, Outcome, Policy, View};
use std::time::Duration;

fn view(node: u64) -> View {
    View {
        node,
        weight: 1,
        slots: Some(4),
        active: 0,
        queued: 0.0,
        response_time: Some(0.2),
        error_rate: 0.0,
        loaded: true,
    }
}

fn job(prefix: &[Link]) -> Job<'_> {
    Job {
        model: "m",
        prompt_bytes: 2000,
        prefix,
        max_tokens: None,
    }
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The node that is taken.
fn taken(policy: &Policy, job: &Job<'_>, views: &[View], now: Duration) -> usize {
    match policy.choose(job, views, now) {
        Some(Choice::Take(index)) => index,
        other => panic!("a node should have been taken: {other:?}"),
    }
}

/// How a node answers: seconds of load, per byte of prefill, and per token.
#[derive(Clone, Copy)]
struct Answer {
    load: f64,
    byte: f64,
    token: f64,
    tokens: u32,
}

const QUICK: Answer = Answer {
    load: 0.0,
    byte: 0.0001,
    token: 0.01,
    tokens: 100,
};

/// One request served alone, `cached` bytes of it from the node's cache, reported as a node of ours does; when it ended.
fn served(
    policy: &Policy,
    job: &Job<'_>,
    view: &View,
    answer: Answer,
    cached: u32,
    now: Duration,
) -> Duration {
    let guess = policy.started(job, view, now);
    let prefill = f64::from(job.prompt_bytes - cached) * answer.byte;
    let first = now + at(answer.load + prefill + 0.01);
    policy.first_byte(&guess, first);
    let decode = f64::from(answer.tokens) * answer.token;
    let end = first + at(decode);
    let outcome = Outcome {
        ok: true,
        tokens: Some(answer.tokens),
        prompt_tokens: Some(job.prompt_bytes / 4),
        prompt_cached: Some(cached / 4),
        load_seconds: Some(answer.load),
        prompt_seconds: Some(prefill),
        decode_seconds: Some(decode),
    };
    policy.finished(guess, outcome, end);
    end
}
