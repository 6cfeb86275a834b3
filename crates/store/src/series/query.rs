//! Asking for sums over time. The texts read the views by hour, which every engine has under the same names; a day is made of hours.

use super::{Series, task::micros};
use crate::{
    StoreError,
    sql::{Row, Text, Value, args},
};
use jarvis_domain::{Timestamp, UserId};
use std::time::Duration;

/// From one moment to another, the latter not included; both are cut to the beginning of a [`Width`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Timestamp,
    /// The first one after it.
    pub to: Timestamp,
}

/// How much time one row sums up. Days are days of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Width {
    fn micros(self) -> i64 {
        micros(match self {
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        })
    }

    /// `moment` cut down to the beginning of its hour or day.
    fn begin(self, moment: Timestamp) -> i64 {
        moment.micros().div_euclid(self.micros()) * self.micros()
    }
}

/// Whose usage, by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageFilter {
    /// When.
    pub span: Span,
    /// How much time one row sums up.
    pub width: Width,
    /// One user's, or everybody's.
    pub user: Option<UserId>,
}

/// What answers of one model on one node for one user cost in one hour or day. Spans are sums where not said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// When the hour or day began.
    pub begin: Timestamp,
    /// Who asked.
    pub user: UserId,
    /// The model.
    pub model: String,
    /// The node; empty where none is known.
    pub node: String,
    /// Answers that ended.
    pub answers: u64,
    /// Of these, the whole ones.
    pub done: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// From acceptance to the end, all answers together.
    pub total: Duration,
    /// The longest.
    pub longest: Duration,
    /// Answers whose first character's time is known.
    pub first_tokens: u64,
    /// From acceptance to the first character, all of these together.
    pub first_token: Duration,
    /// The longest.
    pub first_token_longest: Duration,
}

/// How a node looked in one hour or day.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSpan {
    /// When the hour or day began.
    pub begin: Timestamp,
    /// The node.
    pub node: String,
    /// How often it was looked at.
    pub samples: u64,
    /// The share of looks at which it was up, 0 to 1.
    pub up: f64,
    /// Requests at once, on average.
    pub active: f64,
    /// At most.
    pub active_most: u64,
    /// Waiting, at most.
    pub waiting_most: u64,
    /// Mean time to the first byte.
    pub response: Duration,
    /// At most.
    pub response_longest: Duration,
    /// The mean share of requests that failed, 0 to 1.
    pub error_share: f64,
    /// The mean health score, 0 to 1.
    pub health: f64,
    /// At worst.
    pub health_worst: f64,
}

impl Series {
    /// What answers cost, by hour or day, user, model and node, in this order.
    ///
    /// # Errors
    /// [`StoreError::Deadline`] while the store has not been reached yet, else what it says.
    pub async fn usage(&self, filter: UsageFilter) -> Result<Vec<Usage>, StoreError> {
        const TEXT: &str = "SELECT hour / $1 * $1 AS begin_at, user_id, model, node,
                CAST(SUM(answers) AS BIGINT) AS answers,
                CAST(SUM(CASE WHEN status = 'done' THEN answers ELSE 0 END) AS BIGINT) AS done,
                CAST(SUM(prompt_tokens) AS BIGINT) AS prompt_tokens,
                CAST(SUM(completion_tokens) AS BIGINT) AS completion_tokens,
                CAST(SUM(total_time) AS BIGINT) AS total_time,
                MAX(total_time_max) AS total_time_max,
                CAST(SUM(first_tokens) AS BIGINT) AS first_tokens,
                CAST(SUM(COALESCE(first_token_time, 0)) AS BIGINT) AS first_token_time,
                MAX(COALESCE(first_token_time_max, 0)) AS first_token_time_max
            FROM series_answers_by_hour
            WHERE hour >= $2 AND hour < $3 AND (CAST($4 AS TEXT) IS NULL OR user_id = $4)
            GROUP BY hour / $1 * $1, user_id, model, node";
        let (width, span) = (filter.width, filter.span);
        let user = filter.user.map(|user| user.to_string());
        let values = args![
            width.micros(),
            width.begin(span.from),
            width.begin(span.to),
            user
        ];
        let mut usage = self.rows(TEXT, values, read_usage).await?;
        // Not left to the engines, which sort text each in its own way.
        usage.sort_by(|a, b| {
            let order = |row: &Usage| (row.begin, row.user);
            (order(a), &a.model, &a.node).cmp(&(order(b), &b.model, &b.node))
        });
        Ok(usage)
    }

    /// How nodes looked, by hour or day and node, in this order.
    ///
    /// # Errors
    /// As [`usage`](Self::usage).
    pub async fn nodes(&self, span: Span, width: Width) -> Result<Vec<NodeSpan>, StoreError> {
        const TEXT: &str = "SELECT hour / $1 * $1 AS begin_at, node,
                CAST(SUM(samples) AS BIGINT) AS samples,
                CAST(SUM(up) AS BIGINT) AS up,
                CAST(SUM(active) AS BIGINT) AS active,
                MAX(active_max) AS active_max,
                MAX(waiting_max) AS waiting_max,
                CAST(SUM(response_time) AS BIGINT) AS response_time,
                MAX(response_time_max) AS response_time_max,
                CAST(SUM(error_share) AS BIGINT) AS error_share,
                CAST(SUM(health) AS BIGINT) AS health,
                MIN(health_min) AS health_min
            FROM series_nodes_by_hour
            WHERE hour >= $2 AND hour < $3
            GROUP BY hour / $1 * $1, node";
        let values = args![width.micros(), width.begin(span.from), width.begin(span.to)];
        let mut nodes = self.rows(TEXT, values, read_node).await?;
        nodes.sort_by(|a, b| (a.begin, &a.node).cmp(&(b.begin, &b.node)));
        Ok(nodes)
    }

    async fn rows<T>(
        &self,
        text: impl Into<Text>,
        values: &[Value<'_>],
        read: fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut conn = self.db()?.reader().await?;
        let rows = conn.fetch_all("series", text, values).await?;
        rows.iter().map(read).collect()
    }
}

fn read_usage(row: &Row) -> Result<Usage, StoreError> {
    Ok(Usage {
        begin: row.moment("begin_at")?,
        user: row.parsed("user_id")?,
        model: row.text("model")?,
        node: row.text("node")?,
        answers: whole(row, "answers")?,
        done: whole(row, "done")?,
        prompt_tokens: whole(row, "prompt_tokens")?,
        completion_tokens: whole(row, "completion_tokens")?,
        total: span(row, "total_time")?,
        longest: span(row, "total_time_max")?,
        first_tokens: whole(row, "first_tokens")?,
        first_token: span(row, "first_token_time")?,
        first_token_longest: span(row, "first_token_time_max")?,
    })
}

fn read_node(row: &Row) -> Result<NodeSpan, StoreError> {
    let samples = whole(row, "samples")?.max(1);
    let share = |column, unit| Ok::<_, StoreError>(mean(row.integer(column)?, samples) / unit);
    let response = whole(row, "response_time")? / samples;
    Ok(NodeSpan {
        begin: row.moment("begin_at")?,
        node: row.text("node")?,
        samples,
        up: share("up", 1.0)?,
        active: share("active", 1.0)?,
        active_most: whole(row, "active_max")?,
        waiting_most: whole(row, "waiting_max")?,
        response: Duration::from_micros(response),
        response_longest: span(row, "response_time_max")?,
        error_share: share("error_share", MILLION)?,
        health: share("health", MILLION)?,
        health_worst: mean(row.integer("health_min")?, 1) / MILLION,
    })
}

/// Shares are kept in millionths.
const MILLION: f64 = 1e6;

fn whole(row: &Row, column: &'static str) -> Result<u64, StoreError> {
    Ok(row.integer(column)?.max(0).unsigned_abs())
}

fn span(row: &Row, column: &'static str) -> Result<Duration, StoreError> {
    whole(row, column).map(Duration::from_micros)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people; sums stay far below 2^53"
)]
fn mean(sum: i64, count: u64) -> f64 {
    sum as f64 / count as f64
}
