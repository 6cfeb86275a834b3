//! Answers that go on for long. hyper writes the head of every answer, and what there is of its body at once. When it then
//! has to wait for more, the connection's task takes the body over and writes the rest itself: while nothing comes this
//! needs no buffer, where hyper keeps two of 8 KiB, and a piece goes through fewer hands. At the body's end the connection
//! is hyper's again.

use crate::{connection::Connection, framing::Head};
use axum::body::{Body, Bytes};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::{Body as HttpBody, Frame, SizeHint},
    header::{self, HeaderValue},
};
use std::{
    io::{self, IoSlice},
    mem::{self, MaybeUninit},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

/// What hyper, the connection below it and the task above it know of the answer under way. All of them run in one task.
#[derive(Debug)]
pub(crate) struct Seam {
    /// The request was read to its end: what follows on the connection is another.
    read: AtomicBool,
    /// What has come of the next request's head.
    head: Mutex<Head>,
    /// The body, while hyper writes it and it may be taken over.
    body: Mutex<Option<Body>>,
    /// It had nothing more when hyper last asked.
    dry: AtomicBool,
    /// The client does not take what hyper has for it.
    blocked: AtomicBool,
}

impl Default for Seam {
    fn default() -> Self {
        Self {
            read: AtomicBool::new(true),
            head: Mutex::default(),
            body: Mutex::default(),
            dry: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
        }
    }
}

impl Seam {
    /// The client has said this.
    pub(crate) fn heard(&self, bytes: &[u8]) {
        if self.read.load(Relaxed) {
            self.head().hear(bytes);
        }
    }

    /// What the head of the request said that is there now.
    pub(crate) fn take_head(&self) -> Head {
        mem::take(&mut *self.head())
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request with a body whose end is noticed.
    pub(crate) fn asked<B: HttpBody>(self: &Arc<Self>, request: Request<B>) -> Request<Asked<B>> {
        self.read.store(request.body().is_end_stream(), Relaxed);
        request.map(|body| Asked {
            body,
            seam: Arc::clone(self),
        })
    }

    /// The answer as hyper is to write it: `open` says whether its body may be taken over.
    pub(crate) fn answered(
        self: &Arc<Self>,
        mut answer: Response<Body>,
        open: bool,
    ) -> Response<Answer> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // No other request follows.
            self.read.store(false, Relaxed);
        } else if !self.read.load(Relaxed) {
            // Nobody reads the rest of the request, so the next one's head would not be heard.
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
        }
        if !(open && is_open(&answer)) {
            return answer.map(Answer::Kept);
        }
        self.dry.store(false, Relaxed);
        answer.map(|body| {
            *self.body() = Some(body);
            Answer::Lent(Arc::clone(self))
        })
    }

    /// The client takes what is written, or does not.
    pub(crate) fn wrote(&self, all: bool) {
        self.blocked.store(!all, Relaxed);
    }

    /// The body under way, if the client was sent all that came of it.
    pub(crate) fn take(&self) -> Option<Body> {
        let waits =
            self.dry.load(Relaxed) && self.read.load(Relaxed) && !self.blocked.load(Relaxed);
        waits.then(|| self.body().take()).flatten()
    }

    fn body(&self) -> MutexGuard<'_, Option<Body>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the connection outlives the answer to this request, and the answer has chunks if nobody knows its length. Where the
/// request has chunks itself, it is for hyper to say: it closes behind one that said a length too.
pub(crate) fn may_stay<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && !matches!(*request.method(), Method::HEAD | Method::CONNECT)
        && !request.headers().contains_key(header::TRANSFER_ENCODING)
        && stays(request.headers())
}

/// Whether hyper will write chunks, and keep the connection.
fn is_open(answer: &Response<Body>) -> bool {
    let headers = answer.headers();
    answer.body().size_hint().exact().is_none()
        && answer.status() == StatusCode::OK
        && !headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && !headers.contains_key(header::TRAILER)
        && stays(headers)
}

fn stays(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::CONNECTION).into_iter();
    said.all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Asked<B> {
    body: B,
    seam: Arc<Seam>,
}

impl<B: HttpBody + Unpin> HttpBody for Asked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.seam.read.store(true, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, as hyper writes it.
#[derive(Debug)]
pub(crate) enum Answer {
    Kept(Body),
    Lent(Arc<Seam>),
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let seam = match self.get_mut() {
            Self::Kept(body) => return Pin::new(body).poll_frame(context),
            Self::Lent(seam) => seam,
        };
        let mut lent = seam.body();
        let Some(body) = &mut *lent else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        seam.dry.store(polled.is_pending(), Relaxed);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            *lent = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(body) => body.is_end_stream(),
            Self::Lent(seam) => seam.body().as_ref().is_none_or(HttpBody::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(body) => body.size_hint(),
            // Only what has no exact length is lent.
            Self::Lent(_) => SizeHint::default(),
        }
    }
}

/// The rest of an answer that was taken over.
#[derive(Debug)]
pub(crate) struct Rest {
    connection: Connection,
    body: Body,
    /// What the client has not taken yet.
    unsent: Vec<u8>,
    ended: bool,
    /// What the client has sent already of its next request.
    ahead: Vec<u8>,
}

/// How much is read of a client that should be silent, in bytes: nearly always it is that it has left.
const AHEAD: usize = 512;

impl Rest {
    /// `ahead` was read after the request.
    pub(crate) fn new(connection: Connection, body: Body, ahead: &[u8]) -> Self {
        Self {
            connection,
            body,
            unsent: Vec::new(),
            ended: false,
            ahead: ahead.to_vec(),
        }
    }

    /// Writes until the body ends; then the connection is free for the next request.
    ///
    /// # Errors
    /// The client has left or does not read, or the answer broke off: the connection is of no use any more.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let flushed = self.poll_flush(context)?;
            if self.ended && flushed.is_ready() {
                return Poll::Ready(Ok(()));
            }
            let frame = match flushed {
                Poll::Ready(()) => Pin::new(&mut self.body).poll_frame(context),
                Poll::Pending => Poll::Pending,
            };
            let Poll::Ready(frame) = frame else {
                self.look(context)?;
                return Poll::Pending;
            };
            let frame = frame.transpose().map_err(io::Error::other)?;
            self.ended = frame.is_none() || self.body.is_end_stream();
            let piece = frame.and_then(|frame| frame.into_data().ok());
            self.write(context, &piece.unwrap_or_default())?;
        }
    }

    /// The connection, on which what came ahead is read first.
    pub(crate) fn into_connection(self) -> Connection {
        self.connection.rewound(self.ahead.into())
    }

    /// Writes a chunk, and the last one behind it if the body has ended. What cannot be written now is kept.
    fn write(&mut self, context: &mut Context<'_>, piece: &[u8]) -> io::Result<()> {
        let mut size = [0; DIGITS + 2];
        let mut parts: [&[u8]; 4] = [b""; 4];
        if !piece.is_empty() {
            parts = [size_line(piece.len(), &mut size), piece, b"\r\n", b""];
        }
        if self.ended {
            parts[3] = b"0\r\n\r\n";
        }
        if parts.iter().all(|part| part.is_empty()) {
            return Ok(());
        }
        let slices = parts.map(IoSlice::new);
        let written = Pin::new(&mut self.connection).poll_write_vectored(context, &slices)?;
        let mut written = match written {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        for part in parts {
            let skipped = written.min(part.len());
            self.unsent.extend_from_slice(&part[skipped..]);
            written -= skipped;
        }
        Ok(())
    }

    /// Writes what was kept.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            let rest = &self.unsent[sent..];
            match Pin::new(&mut self.connection).poll_write(context, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(more) => sent += more,
                Poll::Pending => {
                    self.unsent.drain(..sent);
                    return Poll::Pending;
                }
            }
        }
        if sent > 0 {
            self.unsent = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// # Errors
    /// The client has left.
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        // One look ahead is enough: what else comes waits in the kernel.
        while self.ahead.is_empty() {
            let mut space = [MaybeUninit::uninit(); AHEAD];
            let mut read = ReadBuf::uninit(&mut space);
            let Poll::Ready(looked) = Pin::new(&mut self.connection).poll_read(context, &mut read)
            else {
                break;
            };
            looked?;
            if read.filled().is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.ahead.extend_from_slice(read.filled());
        }
        Ok(())
    }
}

/// As many digits as a length may have.
const DIGITS: usize = 16;

/// The line before a chunk of `length` bytes, written from the end of `space` on.
fn size_line(length: usize, space: &mut [u8; DIGITS + 2]) -> &[u8] {
    let (digits, end) = space.split_at_mut(DIGITS);
    end.copy_from_slice(b"\r\n");
    let mut left = length;
    let mut begin = DIGITS;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEF"[left & 15];
        left >>= 4;
        begin -= 1;
        if left == 0 {
            break;
        }
    }
    &space[begin..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal() {
        for length in [1, 15, 16, 255, 0x1234_ABCD, usize::MAX] {
            let line = format!("{length:X}\r\n");
            assert_eq!(size_line(length, &mut [0; DIGITS + 2]), line.as_bytes());
        }
    }

    fn unknown() -> Body {
        Body::from_stream(futures_util::stream::pending::<io::Result<Bytes>>())
    }

    #[test]
    fn a_body_is_taken_over_when_it_waits_and_nothing_else_is_left_to_do() {
        let seam = Arc::new(Seam::default());
        let _asked = seam.asked(Request::new(Body::empty()));
        let mut answer = seam.answered(Response::new(unknown()), true).into_body();
        assert!(seam.take().is_none(), "hyper has not asked for any of it");
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut answer).poll_frame(&mut context).is_pending());
        seam.wrote(false);
        assert!(seam.take().is_none(), "the client takes nothing");
        seam.wrote(true);
        let _asked = seam.asked(Request::new(unknown()));
        assert!(seam.take().is_none(), "the request is not read");
        let _asked = seam.asked(Request::new(Body::empty()));
        assert!(seam.take().is_some());
        assert!(seam.take().is_none(), "it is taken once");
    }

    #[test]
    fn only_what_hyper_would_write_in_chunks_is_taken_over() {
        let open = |answer: Response<Body>| is_open(&answer);
        assert!(open(Response::new(unknown())));
        assert!(!open(Response::new("whole".into())));
        for (name, value) in [
            (header::CONTENT_LENGTH, "7"),
            (header::TRANSFER_ENCODING, "chunked"),
            (header::TRAILER, "x-behind"),
            (header::CONNECTION, "close"),
        ] {
            let mut answer = Response::new(unknown());
            answer.headers_mut().insert(name, value.parse().unwrap());
            assert!(!open(answer), "{value}");
        }
        let mut answer = Response::new(unknown());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        assert!(!open(answer));
    }

    #[test]
    fn only_connections_that_stay_are_taken_over() {
        let request = |method: Method, version, said: &str| {
            let request = Request::builder().method(method).version(version);
            may_stay(&request.header(header::CONNECTION, said).body(()).unwrap())
        };
        assert!(request(Method::POST, Version::HTTP_11, "Keep-Alive"));
        assert!(!request(Method::POST, Version::HTTP_11, "close"));
        assert!(!request(Method::POST, Version::HTTP_10, "keep-alive"));
        assert!(!request(Method::HEAD, Version::HTTP_11, "keep-alive"));
        assert!(may_stay(&Request::new(())));
    }
}
