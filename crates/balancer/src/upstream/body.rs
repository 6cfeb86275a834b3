//! The body of an answer, which reads the node's socket itself.

use super::{TransportError, chunked::Chunked, error::Malformed, pool::Pool, scratch};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::net::TcpStream;

/// How a body is delimited, and how much of it is still to come.
#[derive(Debug)]
pub(super) enum Framing {
    /// This many bytes more.
    Length(u64),
    /// As its chunks say.
    Chunked(Chunked),
    /// All until the node closes.
    UntilClose,
}

/// What a piece of the stream holds for a body.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) payload: Bytes,
    /// Whether no byte came that is not of this body.
    exact: bool,
    pub(super) error: Option<Malformed>,
}

impl Framing {
    pub(super) const fn until_close(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    pub(super) const fn done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.done(),
            Self::UntilClose => false,
        }
    }

    /// Copies the payload of `bytes`, of all chunks together, into memory of exactly its length.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Piece {
        let (payload, used, error) = match self {
            Self::Chunked(chunked) => {
                let decoded = chunked.decode(bytes);
                (decoded.payload, decoded.used, decoded.error)
            }
            Self::UntilClose => (0..bytes.len(), bytes.len(), None),
            Self::Length(left) => {
                let used = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= used as u64;
                (0..used, used, None)
            }
        };
        Piece {
            payload: Bytes::copy_from_slice(&bytes[payload]),
            exact: used == bytes.len(),
            error,
        }
    }
}

/// Reads the node's socket itself when polled: no task, no channel, and no buffer while it waits. A frame is what one
/// read brought, of as many chunks as there were. Trailers are checked and dropped.
///
/// Read to its end, it gives the connection back to the pool; dropped before, it closes it, which is how a node learns
/// that nobody listens any more. After an error it has ended.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    /// `None` once the end has been read or something broke.
    stream: Option<TcpStream>,
    framing: Framing,
    /// What came together with the head.
    first: Bytes,
    /// What is wrong after what has been handed out.
    error: Option<TransportError>,
    /// Where the connection goes at the end; `None` closes it.
    pool: Option<Arc<Pool>>,
}

impl UpstreamBody {
    /// The body whose first piece came together with its head.
    pub(super) fn new(
        stream: TcpStream,
        framing: Framing,
        first: Piece,
        pool: Option<Arc<Pool>>,
    ) -> Self {
        let mut body = Self {
            stream: Some(stream),
            framing,
            first: Bytes::new(),
            error: None,
            pool,
        };
        body.first = body.settle(first);
        body
    }

    /// The connection, if it is not at the body's end.
    pub(crate) fn into_connection(self) -> Option<TcpStream> {
        self.stream
    }

    /// Lets go of the connection when the body is at its end: to the pool, unless more came than was asked for.
    fn settle(&mut self, piece: Piece) -> Bytes {
        if let Some(error) = piece.error {
            self.fail(TransportError::Body(error));
        } else if self.framing.done()
            && let Some(stream) = self.stream.take()
            && let Some(pool) = self.pool.take()
            && piece.exact
        {
            pool.put(stream);
        }
        piece.payload
    }

    fn fail(&mut self, error: TransportError) {
        self.stream = None;
        self.error = Some(error);
    }

    /// What the node's closing means.
    fn closed(&mut self) {
        if self.framing.until_close() {
            self.stream = None;
        } else {
            self.fail(TransportError::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        let this = self.get_mut();
        let mut payload = std::mem::take(&mut this.first);
        loop {
            if !payload.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(payload))));
            }
            let Some(stream) = &mut this.stream else {
                return Poll::Ready(this.error.take().map(Err));
            };
            let framing = &mut this.framing;
            let read = scratch::poll_read(stream, cx, |bytes| {
                (!bytes.is_empty()).then(|| framing.take(bytes))
            });
            match ready!(read) {
                Ok(Some(piece)) => payload = this.settle(piece),
                Ok(None) => this.closed(),
                Err(error) => this.fail(TransportError::Broken(error)),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.stream.is_none() && self.error.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.len() as u64;
        match self.framing {
            Framing::Length(left) => SizeHint::with_exact(first.saturating_add(left)),
            _ if self.stream.is_none() && self.error.is_none() => SizeHint::with_exact(first),
            _ => SizeHint::default(),
        }
    }
}
