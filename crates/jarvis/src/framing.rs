//! Requests whose end can be read in two ways. Where a `Content-Length` stands beside a `Transfer-Encoding`, hyper goes by the
//! latter and hides the former, and of two equal lengths it shows one. A proxy before us that reads the same bytes otherwise
//! would take a part of one request for another, so such a request is refused by its head as it came.

use crate::refusal::Shape;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header},
};

/// The answer to a request that can be read in two ways; `None`: it cannot. `head` is how it came, and empty where that is
/// not known, because several requests came at once: then hyper's way holds, which closes behind a request with both.
pub(crate) fn refusal<B>(request: &Request<B>, head: &[u8]) -> Option<Response<Body>> {
    is_ambiguous(request.headers(), head).then(|| {
        let why = "The end of this request can be read in two ways: say either one Content-Length or \
                   `Transfer-Encoding: chunked`.";
        let shape = Shape::of(request.uri().path());
        let mut refused = shape.refusal(StatusCode::BAD_REQUEST, "ambiguous_length", why);
        let close = HeaderValue::from_static("close");
        refused.headers_mut().insert(header::CONNECTION, close);
        refused
    })
}

fn is_ambiguous(headers: &HeaderMap, head: &[u8]) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (codings.next(), codings.next()) {
        (None, _) => headers.contains_key(header::CONTENT_LENGTH) && lengths(head) > 1,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            lengths(head) > 0
        }
        _ => true,
    }
}

/// How many lines of a head say how long the body is.
fn lengths(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length";
    let lines = head.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    // Empty lines may come before a request; the one behind its headers is its head's end.
    let of_head = lines
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty());
    let says = |line: &&[u8]| {
        line.split_at_checked(NAME.len())
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case(NAME) && value.starts_with(b":"))
    };
    of_head.filter(says).count()
}
