//! Request bodies: JSON of bounded size, with every refusal as a problem.

use crate::{app::App, problem::Problem};
use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, rejection::PathRejection},
    http::{HeaderMap, Request, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use std::str::FromStr;

/// A JSON body in, or out. Fields we do not know are ignored.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, app: &App) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "the body must be JSON, with `Content-Type: application/json`",
            ));
        }
        let bytes = read(request.into_body(), app.options.body_bytes).await?;
        parse(&bytes).map(Self)
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Problem::too_large(limit)),
        Err(_) => Err(Problem::malformed("the body did not arrive whole")),
    }
}

/// How deep JSON may be nested; none of our requests has more than two levels.
const MAX_DEPTH: usize = 64;

/// Reads JSON text; what is no JSON is told apart from JSON that is not what was asked for.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if is_too_deep(bytes) {
        let detail = format!("the JSON is nested more than {MAX_DEPTH} levels deep");
        return Err(Problem::malformed(detail));
    }
    // As a whole: the parser would let bad bytes pass in fields that are not read.
    let text =
        std::str::from_utf8(bytes).map_err(|_| Problem::malformed("the body is not UTF-8"))?;
    // A list would be taken for the fields in their order.
    if text.trim_ascii_start().starts_with('[') {
        return Err(Problem::invalid("the JSON must be an object"));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => Problem::invalid(error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => {
            Problem::malformed(format!("the body is not JSON: {error}"))
        }
    })
}

/// Whether brackets outside of strings are nested too deep. The parser refuses that only in fields that are read.
fn is_too_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str())
    else {
        return false;
    };
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => {
                Problem::internal("an answer could not be written", &error).into_response()
            }
        }
    }
}

/// The identifier in a field: one that may name nothing, but an identifier.
pub(crate) fn identifier<T: FromStr>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|_| Problem::invalid(format!("`{field}` is not an identifier")))
}

/// The identifier in a path; what is none is as absent as one that does not exist.
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr + Send> FromRequestParts<App> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, app).await;
        text.ok()
            .and_then(|Path(text)| text.parse().ok())
            .map(Self)
            .ok_or_else(Problem::not_found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(!is_too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(is_too_deep(nested(MAX_DEPTH + 1).as_bytes()));
        assert!(!is_too_deep("[]".repeat(1000).as_bytes()));
        let text = serde_json::to_string(&format!("\"{}\\", nested(1000))).unwrap();
        assert!(!is_too_deep(text.as_bytes()), "{text}");
        assert!(is_too_deep(
            format!("[{text}, {}]", nested(MAX_DEPTH)).as_bytes()
        ));
    }
}
