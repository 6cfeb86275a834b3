//! The head of an answer: found, parsed, and what it says about the body.

use super::{body::Framing, chunked::Chunked, error::Malformed};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response};
use std::mem::MaybeUninit;

/// The most headers one answer may have.
const MAX_HEADERS: usize = 100;
/// Headers that may be added to an answer without moving those that it has.
const ROOM: usize = 4;
/// The most interim (1xx) answers before the real one.
const MAX_INTERIM: u8 = 8;

/// A parsed head.
#[derive(Debug)]
pub(super) struct Head {
    /// Without what concerns only this connection.
    pub(super) parts: response::Parts,
    pub(super) framing: Framing,
    /// Whether another request may follow on this connection.
    pub(super) keep_alive: bool,
}

/// Collects the head of one answer from the pieces in which it comes.
#[derive(Debug)]
pub(super) struct HeadReader {
    limit: usize,
    /// Answers to HEAD have no body whatever they say.
    bodiless: bool,
    /// What came before, when a piece ended within the head.
    partial: Vec<u8>,
    scan: Scan,
    interim: u8,
    begun: bool,
}

impl HeadReader {
    pub(super) fn new(method: &Method, limit: usize) -> Self {
        Self {
            limit,
            bodiless: method == Method::HEAD,
            partial: Vec::new(),
            scan: Scan::default(),
            interim: 0,
            begun: false,
        }
    }

    /// Whether any byte of an answer has come.
    pub(super) const fn begun(&self) -> bool {
        self.begun
    }

    /// Takes the next piece. When the head is complete, `then` gets it with what follows it in the piece.
    pub(super) fn take<T>(
        &mut self,
        piece: &mut [u8],
        then: impl FnOnce(Head, &mut [u8]) -> T,
    ) -> Result<Option<T>, Malformed> {
        self.begun |= !piece.is_empty();
        if self.partial.is_empty() {
            let (used, head) = self.advance(piece)?;
            if let Some(head) = head {
                return Ok(Some(then(head, &mut piece[used..])));
            }
            self.partial.extend_from_slice(&piece[used..]);
            return Ok(None);
        }
        self.partial.extend_from_slice(piece);
        let mut partial = std::mem::take(&mut self.partial);
        let (used, head) = self.advance(&partial)?;
        if let Some(head) = head {
            return Ok(Some(then(head, &mut partial[used..])));
        }
        partial.drain(..used);
        self.partial = partial;
        Ok(None)
    }

    /// Looks for the final head from the start of `bytes`; gives what is used up, interim answers included.
    fn advance(&mut self, bytes: &[u8]) -> Result<(usize, Option<Head>), Malformed> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let Some(length) = self.scan.find_end(rest, self.limit)? else {
                return Ok((used, None));
            };
            used += length;
            if let Some(head) = parse(&rest[..length], self.bodiless)? {
                return Ok((used, Some(head)));
            }
            self.scan = Scan::default();
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(Malformed::TooManyInterim);
            }
        }
    }
}

/// Finds the empty line that ends a head, looking at each byte once however the head is cut.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes looked at.
    seen: usize,
    /// Where the line under way begins.
    line: usize,
}

impl Scan {
    const BEGIN: &[u8] = b"HTTP/1.";

    /// `bytes` always begins at the head's first byte; gives the head's length.
    fn find_end(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
        let begin = bytes.len().min(Self::BEGIN.len());
        if bytes[..begin] != Self::BEGIN[..begin] {
            return Err(Malformed::NotHttp);
        }
        for newline in memchr::memchr_iter(b'\n', &bytes[self.seen..]) {
            let newline = self.seen + newline;
            if newline >= limit {
                break;
            }
            if newline == 0 || bytes[newline - 1] != b'\r' {
                return Err(Malformed::BareLf);
            }
            if newline - 1 == self.line {
                return Ok(Some(newline + 1));
            }
            self.line = newline + 1;
        }
        self.seen = bytes.len();
        if self.seen >= limit {
            return Err(Malformed::HeadTooLong(limit));
        }
        Ok(None)
    }
}

/// Parses a whole head; `None` is an interim answer.
fn parse(bytes: &[u8], bodiless: bool) -> Result<Option<Head>, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut headers,
    )?;
    // The scan has found the end where the grammar has it.
    if status != httparse::Status::Complete(bytes.len()) {
        return Err(Malformed::BareLf);
    }
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::Status(code))?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Malformed::Status(code));
    }
    let modern = parsed.version == Some(1);
    let mut fields = Fields::default();
    let mut map = HeaderMap::with_capacity(parsed.headers.len() + ROOM);
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| httparse::Error::HeaderName)?;
        let value =
            HeaderValue::from_bytes(header.value).map_err(|_| httparse::Error::HeaderValue)?;
        if fields.look(&name, &value)? {
            map.append(name, value);
        }
    }
    if status.is_informational() {
        return Ok(None);
    }
    let framing = fields.framing(status, modern, bodiless)?;
    if status == StatusCode::NO_CONTENT {
        map.remove(header::CONTENT_LENGTH);
    }
    for name in fields.nominated() {
        map.remove(name);
    }
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    parts.headers = map;
    Ok(Some(Head {
        parts,
        keep_alive: modern && !fields.close && !framing.until_close(),
        framing,
    }))
}

/// What the headers say about the connection and the body's length.
#[derive(Debug, Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    connection: Vec<HeaderValue>,
}

impl Fields {
    /// Looks at one header and says whether it is to be handed on.
    fn look(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Malformed> {
        match *name {
            header::CONTENT_LENGTH => {
                if self.length.is_some() {
                    return Err(Malformed::ContentLength);
                }
                self.length = Some(decimal(value.as_bytes()).ok_or(Malformed::ContentLength)?);
                Ok(true)
            }
            header::TRANSFER_ENCODING => {
                if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                self.chunked = true;
                Ok(false)
            }
            header::CONNECTION => {
                self.close |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"close"));
                self.connection.push(value.clone());
                Ok(false)
            }
            _ => Ok(!is_hop_by_hop(name)),
        }
    }

    /// How the body is delimited (RFC 9112, 6.3).
    fn framing(
        &self,
        status: StatusCode,
        modern: bool,
        bodiless: bool,
    ) -> Result<Framing, Malformed> {
        if self.chunked && self.length.is_some() {
            return Err(Malformed::TwoLengths);
        }
        if self.chunked && !modern {
            return Err(Malformed::TransferEncoding);
        }
        let none = bodiless || matches!(status.as_u16(), 204 | 304);
        Ok(match self.length {
            _ if none => Framing::Length(0),
            _ if self.chunked => Framing::Chunked(Chunked::new()),
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }

    /// The headers that `Connection` says are for this connection alone. Never the length: it has been acted on.
    fn nominated(&self) -> impl Iterator<Item = HeaderName> {
        self.connection
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .filter(|name| name != header::CONTENT_LENGTH)
    }
}

/// The members of a comma-separated list.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
}

/// Digits and nothing else, within `u64`.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a header concerns one connection only (RFC 9110, 7.6.1).
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || name == "keep-alive"
        || name == "proxy-connection"
}
