//! Writing a request.

use super::{Outgoing, TransportError, head::is_hop_by_hop};
use bytes::Bytes;
use http::{HeaderName, Method, header};
use std::io::Write as _;

/// Up to this length a body is copied behind the head: cheaper than a second write.
const COPIED: usize = 8 * 1024;

/// A request as bytes.
#[derive(Debug)]
pub(super) struct Encoded {
    /// With the body, where that is short.
    pub(super) head: Vec<u8>,
    /// What comes after it.
    pub(super) body: Bytes,
}

/// Writes a request down, for the node at `authority`.
pub(super) fn encode(request: &Outgoing<'_>, authority: &str) -> Result<Encoded, TransportError> {
    if !request.path.starts_with('/')
        || request
            .path
            .bytes()
            .any(|byte| byte <= b' ' || byte == 0x7f)
    {
        return Err(TransportError::Request("its path is not of a URL"));
    }
    let copied = if request.body.len() <= COPIED {
        &request.body[..]
    } else {
        &[]
    };
    let headers: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    let mut head =
        Vec::with_capacity(96 + request.path.len() + authority.len() + headers + copied.len());
    let mut line = |parts: [&[u8]; 4]| parts.iter().for_each(|part| head.extend_from_slice(part));
    line([
        request.method.as_str().as_bytes(),
        b" ",
        request.path.as_bytes(),
        b" HTTP/1.1\r\n",
    ]);
    line([b"host: ", authority.as_bytes(), b"\r\n", b""]);
    for (name, value) in request.headers {
        if !is_ours(name) {
            line([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    let says_length = matches!(*request.method, Method::POST | Method::PUT | Method::PATCH);
    if says_length || !request.body.is_empty() {
        // Writing to memory cannot fail.
        let _ = write!(head, "content-length: {}\r\n", request.body.len());
    }
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(copied);
    let body = request.body.slice(copied.len()..);
    Ok(Encoded { head, body })
}

/// Headers that are for this client to say, or that concern the caller's connection only.
fn is_ours(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST | header::CONTENT_LENGTH | header::EXPECT
    ) || is_hop_by_hop(name)
}
