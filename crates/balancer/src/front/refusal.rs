//! An error in the shape of its dialect.

use crate::{
    dispatch::NoNode, forward::Unanswered, metrics, resume::openai_failure, shared::Shared,
    upstream::Reached,
};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jarvis_protocol::{ollama::ErrorBody, openai::ErrorEnvelope};

/// Why a request is not answered.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    /// Seconds.
    retry_after: Option<u64>,
    openai: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
            openai: false,
        }
    }

    /// No node is up.
    pub(super) fn unreachable(shared: &Shared) -> Self {
        metrics::shed("no_node");
        Self {
            retry_after: Some(patience(shared)),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "no node can be reached right now",
            )
        }
    }

    /// As the last event of a stream in OpenAI's dialect.
    pub(super) fn event(&self) -> Bytes {
        openai_failure(self.status.as_u16(), &self.message)
    }

    /// In the dialect of `path`.
    #[must_use]
    pub(super) fn of(mut self, path: &str) -> Self {
        self.openai = path.starts_with("/v1/");
        self
    }

    /// What became of a request for `model`.
    pub(super) fn unanswered(shared: &Shared, model: &str, error: &Unanswered) -> Self {
        let busy = |message: &str| Self {
            retry_after: Some(patience(shared)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        };
        match error {
            Unanswered::NoNode(NoNode::UnknownModel) => {
                Self::new(StatusCode::NOT_FOUND, format!("model '{model}' not found"))
            }
            Unanswered::NoNode(NoNode::Unavailable) => {
                metrics::shed("no_node");
                busy(&format!(
                    "no node that has the model '{model}' can be reached right now"
                ))
            }
            Unanswered::NoNode(NoNode::NotResumable) => Self::new(
                StatusCode::CONFLICT,
                "no reachable node can continue this answer",
            ),
            Unanswered::NoNode(NoNode::QueueFull) => {
                busy("server busy, please try again.  maximum pending requests exceeded")
            }
            Unanswered::NoNode(NoNode::Late) => {
                busy("server busy: no slot became free in the time a request may wait")
            }
            // It is gone, and nobody is left to be asked instead.
            Unanswered::Failed { node, source }
                if source.reached() == Reached::Nothing || source.is_broken() =>
            {
                metrics::shed("no_node");
                busy(&format!("the node '{node}' failed: {source}"))
            }
            Unanswered::Failed { node, source } => Self::new(
                StatusCode::BAD_GATEWAY,
                format!("the node '{node}' failed: {source}"),
            ),
        }
    }
}

/// Seconds after which trying again may help.
fn patience(shared: &Shared) -> u64 {
    let hold = shared.queue.mean_hold().map_or(1, |hold| hold.as_secs());
    hold.clamp(1, 60)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = if self.openai {
            let body = ErrorEnvelope::for_status(self.status.as_u16(), self.message);
            (self.status, Json(body)).into_response()
        } else {
            let error = self.message;
            (self.status, Json(ErrorBody { error })).into_response()
        };
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
