//! A client's connection: it counts as one of the listener's as long as it is open, upgraded or not, and ends when the
//! client has stopped reading.

use crate::long::Seam;
use hyper::body::Bytes;
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};

/// Parts that are no longer than this together go out as one piece, in bytes: to copy them costs less than the kernel's way
/// through a list.
const SHORT: usize = 2 << 10;

thread_local! {
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Read before, and to be read again.
    ahead: Bytes,
    /// Told what the client says, and whether it takes what is written.
    seam: Arc<Seam>,
    /// How long a write may wait for the client.
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, patience: Duration, slot: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            ahead: Bytes::new(),
            seam: Arc::default(),
            patience,
            waiting: None,
            _slot: slot,
        }
    }

    /// What this connection's answers are watched by.
    pub(crate) fn seam(&self) -> Arc<Seam> {
        Arc::clone(&self.seam)
    }

    /// The same, with bytes of it to be read again.
    pub(crate) fn rewound(self, ahead: Bytes) -> Self {
        Self { ahead, ..self }
    }

    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.seam.wrote(written.is_ready());
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client has stopped reading",
        )))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let fitting = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(fitting));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.seam.heard(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let written = if parts.iter().map(|part| part.len()).sum::<usize>() > SHORT {
            stream.poll_write_vectored(context, parts)
        } else {
            JOINED.with_borrow_mut(|joined| {
                joined.clear();
                for part in parts {
                    joined.extend_from_slice(part);
                }
                stream.poll_write(context, joined)
            })
        };
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
