//! Answers as streams of records.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header::CONTENT_TYPE};
use jarvis_protocol::{ndjson, ollama::ErrorBody};
use serde::Serialize;

use crate::{
    error::EngineError,
    service::{Answer, Piece},
};

/// Writes the pieces of an answer in one dialect.
pub(super) trait Dialect: Send + 'static {
    /// The record of a piece.
    fn record(&mut self, piece: Piece) -> Bytes;
    /// The record that ends a broken answer.
    fn failure(&mut self, error: &EngineError) -> Bytes;
    /// The stream's content type.
    const CONTENT_TYPE: &'static str;
}

/// The answer as a body. Dropping the body stops the answer.
pub(super) fn response<D: Dialect>(answer: Answer, dialect: D) -> Response {
    let records = stream::unfold(Some((answer, dialect)), |state| async {
        let (mut answer, mut dialect) = state?;
        let (record, more) = match answer.next().await {
            Ok(piece) => {
                let more = matches!(piece, Piece::Text(..));
                (dialect.record(piece), more)
            }
            Err(error) => {
                tracing::warn!(%error, "an answer broke off");
                (dialect.failure(&error), false)
            }
        };
        let state = more.then_some((answer, dialect));
        Some((Ok::<_, std::convert::Infallible>(record), state))
    });
    let mut response = Response::new(Body::from_stream(records));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(D::CONTENT_TYPE));
    response
}

/// A line of NDJSON.
pub(super) fn line<T: Serialize>(value: &T) -> Bytes {
    ndjson::encode(value).unwrap_or_else(|error| {
        tracing::error!(%error, "a record could not be written");
        Bytes::from_static(b"{\"error\":\"internal error\"}\n")
    })
}

/// The line that ends a broken stream of the Ollama dialect.
pub(super) fn error_line(error: &EngineError) -> Bytes {
    line(&ErrorBody {
        error: error.to_string(),
    })
}
