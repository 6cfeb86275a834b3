//! What is counted, through the `metrics` facade. The guide fixes `ollama_lb_request_duration_seconds`,
//! `ollama_lb_queue_size` and `ollama_lb_upstream_status`.

use crate::node::Node;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use std::{collections::HashSet, time::Duration};

/// Handles of one node; looked up once and kept.
pub(crate) struct NodeMeter {
    answered: Counter,
    failed: Counter,
    left: Counter,
    duration: Histogram,
    first_token: Histogram,
    gap: Histogram,
    rate: Histogram,
    error: Histogram,
    cached: Histogram,
    status: Gauge,
    queue: Gauge,
    active: Gauge,
    score: Gauge,
}

impl std::fmt::Debug for NodeMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeMeter")
    }
}

/// What one answered request showed. Seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    pub(crate) duration: f64,
    pub(crate) first_token: Option<f64>,
    /// The longest silence between two pieces.
    pub(crate) gap: Option<f64>,
    pub(crate) tokens_per_second: Option<f64>,
    /// How far the policy's estimate of the whole was off.
    pub(crate) error: Option<f64>,
    /// The share of the prompt that was expected in the node's cache.
    pub(crate) cached: Option<f64>,
}

impl NodeMeter {
    pub(crate) fn new(node: &str) -> Self {
        let name = node.to_owned();
        let requests = |outcome: &'static str| counter!("ollama_lb_requests_total", "upstream" => name.clone(), "outcome" => outcome);
        Self {
            answered: requests("answered"),
            failed: requests("failed"),
            left: requests("client_left"),
            duration: histogram!("ollama_lb_request_duration_seconds", "upstream" => name.clone()),
            first_token: histogram!("ollama_lb_first_token_seconds", "upstream" => name.clone()),
            gap: histogram!("ollama_lb_token_gap_seconds", "upstream" => name.clone()),
            rate: histogram!("ollama_lb_tokens_per_second", "upstream" => name.clone()),
            error: histogram!("ollama_lb_prediction_error_seconds", "upstream" => name.clone()),
            cached: histogram!("ollama_lb_expected_cache_ratio", "upstream" => name.clone()),
            status: gauge!("ollama_lb_upstream_status", "upstream" => name.clone()),
            queue: gauge!("ollama_lb_queue_size", "upstream" => name.clone()),
            active: gauge!("ollama_lb_active_connections", "upstream" => name.clone()),
            score: gauge!("ollama_lb_health_score", "upstream" => name),
        }
    }

    pub(crate) fn status(&self, up: bool) {
        self.status.set(f64::from(u8::from(up)));
    }

    /// How many requests the node works on.
    pub(crate) fn active(&self, active: u32) {
        self.active.set(f64::from(active));
    }

    /// How many wait for it.
    pub(crate) fn queue(&self, queued: f64) {
        self.queue.set(queued);
    }

    pub(crate) fn answered(&self, measured: Measured) {
        self.answered.increment(1);
        self.duration.record(measured.duration);
        let some = [
            (&self.first_token, measured.first_token),
            (&self.gap, measured.gap),
            (&self.rate, measured.tokens_per_second),
            (&self.error, measured.error),
            (&self.cached, measured.cached),
        ];
        for (histogram, value) in some {
            if let Some(value) = value {
                histogram.record(value);
            }
        }
    }

    pub(crate) fn failed(&self) {
        self.failed.increment(1);
    }

    pub(crate) fn left(&self) {
        self.left.increment(1);
    }
}

/// Sets the gauges, of which the score changes as time passes.
pub(crate) fn gauges(node: &Node, queued: f64) {
    let figures = node.figures();
    node.meter.queue(queued);
    node.meter.active(figures.active);
    node.meter.score.set(figures.health_score);
}

/// The lines of `text` that tell of these nodes, or of no node.
pub(crate) fn of_nodes<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> String {
    // As the text format writes them.
    let escaped = |name: &str| name.replace('\\', r"\\").replace('"', r#"\""#);
    let known: HashSet<String> = names.map(escaped).collect();
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if upstream(line).is_none_or(|name| known.contains(name)) {
            kept.push_str(line);
        }
    }
    kept
}

/// The node that a line tells of, escaped.
fn upstream(line: &str) -> Option<&str> {
    let (_, value) = line.split_once("upstream=\"")?;
    let mut escaped = false;
    let end = value.find(|character| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    })?;
    (!line.starts_with('#')).then(|| &value[..end])
}

pub(crate) fn retried() {
    counter!("ollama_lb_retries_total").increment(1);
}

/// `how`: `resumed`, or why not.
pub(crate) fn resumed(how: &'static str) {
    counter!("ollama_lb_resumes_total", "outcome" => how).increment(1);
}

/// `why`: `queue_full`, `deadline`, `no_node`.
pub(crate) fn shed(why: &'static str) {
    counter!("ollama_lb_shed_total", "reason" => why).increment(1);
}

pub(crate) fn waited(time: Duration) {
    histogram!("ollama_lb_queue_wait_seconds").record(time.as_secs_f64());
}

/// Says what each metric is.
pub(crate) fn describe() {
    describe_histogram!(
        "ollama_lb_request_duration_seconds",
        "From a request's arrival at a node to its answer's end."
    );
    describe_gauge!(
        "ollama_lb_queue_size",
        "Requests that wait for this node: its share of the queue."
    );
    describe_gauge!(
        "ollama_lb_upstream_status",
        "1 while the node answers, 0 while it does not."
    );
    describe_gauge!(
        "ollama_lb_active_connections",
        "Requests that the node works on."
    );
    describe_gauge!(
        "ollama_lb_health_score",
        "The mean of time, connection and error score, 0 to 1."
    );
    describe_counter!(
        "ollama_lb_requests_total",
        "Requests given to the node, by outcome."
    );
    describe_histogram!(
        "ollama_lb_first_token_seconds",
        "From a request's arrival at a node to the first byte of its answer."
    );
    describe_histogram!(
        "ollama_lb_token_gap_seconds",
        "The longest silence within an answer."
    );
    describe_histogram!(
        "ollama_lb_tokens_per_second",
        "Tokens of the answer by the time between its first byte and its end."
    );
    describe_histogram!(
        "ollama_lb_prediction_error_seconds",
        "How far the estimate of a request's duration was off."
    );
    describe_histogram!(
        "ollama_lb_expected_cache_ratio",
        "The share of a prompt that was expected in the node's cache."
    );
    describe_histogram!(
        "ollama_lb_queue_wait_seconds",
        "How long a request waited for a slot."
    );
    describe_counter!(
        "ollama_lb_retries_total",
        "Requests sent to another node because the first failed before it answered."
    );
    describe_counter!(
        "ollama_lb_resumes_total",
        "Answers whose node was lost in mid-stream, by outcome."
    );
    describe_counter!(
        "ollama_lb_shed_total",
        "Requests refused with 503, by reason."
    );
    // From the start, so that the first event is a change.
    counter!("ollama_lb_retries_total").increment(0);
    counter!("ollama_lb_resumes_total", "outcome" => "resumed").increment(0);
    for reason in ["queue_full", "deadline", "no_node"] {
        counter!("ollama_lb_shed_total", "reason" => reason).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::of_nodes;

    #[test]
    fn only_nodes_that_are_there_are_told_of() {
        let text = concat!(
            "# HELP up upstream=\"gone\"\n",
            "up{upstream=\"10.0.0.1:11434\"} 1\n",
            "up{upstream=\"gone\"} 0\n",
            "up{upstream=\"a \\\"b\\\\\",le=\"1\"} 2\n",
            "retries 3\n",
        );
        let names = ["10.0.0.1:11434", "a \"b\\"];
        let kept = of_nodes(text, names.into_iter());
        assert_eq!(kept, text.replace("up{upstream=\"gone\"} 0\n", ""));
    }
}
