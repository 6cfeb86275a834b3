//! The one error type of the REST interface: what the client sees is here, what went wrong inside goes to the log.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jarvis_balancer::ChatError;
use jarvis_domain::{TextError, sentence};
use jarvis_store::{LogError, StoreError};
use serde::Serialize;
use std::{borrow::Cow, error::Error, time::Duration};
use utoipa::ToSchema;

/// A refused request: `application/problem+json`, with a stable `code`.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    models: Option<Vec<String>>,
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// Always `about:blank`: `code` tells errors apart.
    #[serde(rename = "type")]
    kind: &'a str,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// A sentence for people.
    detail: &'a str,
    /// A stable name for programs.
    code: &'a str,
    /// With `unknown_model`: the models there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<&'a [String]>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after: None,
            models: None,
        }
    }

    /// Whatever is not there, or not this user's.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "there is no such thing here",
        )
    }

    pub(crate) fn unauthorized(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail)
    }

    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", detail)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("the body has more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
    }

    pub(crate) fn registration_closed() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "registration_closed",
            "this installation takes no new accounts",
        )
    }

    pub(crate) fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(1);
        let detail = format!("too many tries; the next one in {seconds} s");
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
        problem.retry_after = Some(seconds);
        problem
    }

    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        let mut problem = Self::too_many(wait);
        let seconds = problem.retry_after.unwrap_or(1);
        problem.detail = format!("too many requests; there is room again in {seconds} s").into();
        problem
    }

    pub(crate) fn unknown_model(name: &str, models: Vec<String>) -> Self {
        let detail = format!(
            "there is no model `{name}`; there are: {}",
            models.join(", ")
        );
        let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_model", detail);
        problem.models = Some(models);
        problem
    }

    /// Every node answers, and none has a model to chat with: waiting does not help.
    pub(crate) fn no_model() -> Self {
        let detail = "no model to chat with is installed: `jarvis model fetch` fetches a small one, \
            `jarvis model add FILE --name NAME` adds a GGUF file, `ollama pull NAME` brings one to an Ollama node";
        Self::new(StatusCode::CONFLICT, "no_model", detail)
    }

    pub(crate) fn no_chat_model(name: &str) -> Self {
        let detail = format!("`{name}` makes embeddings and cannot chat; choose another model");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no_chat_model", detail)
    }

    pub(crate) fn key_reused() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this idempotency key was used for another request; make a new one for each",
        )
    }

    pub(crate) fn no_node() -> Self {
        let detail = "no model server is ready; try again in a moment";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_node_available", detail);
        problem.retry_after = Some(2);
        problem
    }

    pub(crate) fn stopping() -> Self {
        let detail = "this server is stopping; try again in a moment";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail);
        problem.retry_after = Some(1);
        problem
    }

    pub(crate) fn too_many_followed(limit: usize) -> Self {
        let detail = format!("this socket follows {limit} answers already");
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_subscriptions",
            detail,
        )
    }

    /// A fault of ours: the cause goes to the log, not to the client.
    pub(crate) fn internal(what: &str, error: &dyn Error) -> Self {
        tracing::error!(error = sentence(error), "{what}");
        let detail = "something went wrong here; it has been logged";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn models(&self) -> Option<&[String]> {
        self.models.as_deref()
    }

    pub(crate) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

fn storage_full() -> Problem {
    Problem::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "storage_full",
        "no space is left to keep this; nothing has been lost",
    )
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Full => {
                tracing::error!("no space is left for the database");
                storage_full()
            }
            StoreError::Nul => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "text_invalid",
                error.to_string(),
            ),
            outage if outage.is_outage() => {
                tracing::error!(error = sentence(&error), "the store failed");
                let detail = "the database does not answer; try again in a moment";
                let mut problem =
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail);
                problem.retry_after = Some(2);
                problem
            }
            _ => Self::internal("the store failed", &error),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match &error {
            LogError::Full(_) => {
                tracing::error!("no space is left for the answer log");
                storage_full()
            }
            LogError::Away(_) => {
                tracing::error!(error = sentence(&error), "the answer log failed");
                let detail = "the log of this answer does not answer; try again in a moment";
                let mut problem =
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "log_unavailable", detail);
                problem.retry_after = Some(2);
                problem
            }
            LogError::Io(_) | LogError::Fenced => Self::internal("the answer log failed", &error),
        }
    }
}

impl From<TextError> for Problem {
    fn from(error: TextError) -> Self {
        let code = match error {
            TextError::Empty => "message_empty",
            TextError::Nul => "text_invalid",
            TextError::TooLong { .. } => "message_too_long",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string())
    }
}

/// What an answer that could not be made says about itself.
pub(crate) fn of_chat(error: &ChatError) -> jarvis_domain::GenerationError {
    jarvis_domain::GenerationError {
        code: error.code().to_owned(),
        message: error.to_string(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            models: self.models.as_deref(),
        };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
