//! Requests whose end can be read in two ways. Where a `Content-Length` stands beside a `Transfer-Encoding`, hyper goes by the
//! latter and hides the former, and of two equal lengths it shows one. A proxy before us that reads the same bytes otherwise
//! would take a part of one request for another, so such a request is refused by its head as it came.

use crate::refusal::Shape;
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header},
};
use memchr::memchr;
use std::mem;

/// What the head of the next request has said so far, as it comes.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// A line whose end has not come yet.
    part: Vec<u8>,
    /// Empty lines may come before a request; the one behind its headers is its head's end.
    begun: bool,
    ended: bool,
    /// Lines that say how long the body is.
    lengths: usize,
}

impl Head {
    /// The client has said this.
    pub(crate) fn hear(&mut self, mut bytes: &[u8]) {
        while !self.ended {
            let Some(end) = memchr(b'\n', bytes) else {
                self.part.extend_from_slice(bytes);
                return;
            };
            if self.part.is_empty() {
                self.line(&bytes[..end]);
            } else {
                let mut line = mem::take(&mut self.part);
                line.extend_from_slice(&bytes[..end]);
                self.line(&line);
            }
            bytes = &bytes[end + 1..];
        }
    }

    fn line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            self.ended = self.begun;
            return;
        }
        self.begun = true;
        self.lengths += usize::from(says_length(line));
    }
}

fn says_length(line: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    line.split_at_checked(NAME.len())
        .is_some_and(|(name, value)| value.starts_with(b":") && name.eq_ignore_ascii_case(NAME))
}

/// The answer to a request that can be read in two ways; `None`: it cannot. `head` is what was heard of it, and nothing where
/// several requests came at once: then hyper's way holds, which closes behind a request with both.
pub(crate) fn refusal<B>(request: &Request<B>, head: &Head) -> Option<Response<Body>> {
    is_ambiguous(request.headers(), head.lengths).then(|| {
        let why = "The end of this request can be read in two ways: say either one Content-Length or \
                   `Transfer-Encoding: chunked`.";
        let shape = Shape::of(request.uri().path());
        let mut refused = shape.refusal(StatusCode::BAD_REQUEST, "ambiguous_length", why);
        let close = HeaderValue::from_static("close");
        refused.headers_mut().insert(header::CONNECTION, close);
        refused
    })
}

/// `lengths`: how many lines of the head say how long the body is.
fn is_ambiguous(headers: &HeaderMap, lengths: usize) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (codings.next(), codings.next()) {
        (None, _) => lengths > 1,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => lengths > 0,
        _ => true,
    }
}
