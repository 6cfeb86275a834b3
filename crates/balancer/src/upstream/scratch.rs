//! Reading without a buffer per connection.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::TcpStream,
};

/// How much is read at once, in bytes: each thread has this much once, and fewer reads cost less.
pub(super) const SIZE: usize = 64 * 1024;

thread_local! {
    /// A stream that waits for its next token needs no buffer: what arrives is read here, and only what is handed on is
    /// copied, into memory of exactly its length. Ten thousand waiting streams share one buffer per thread.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Reads once and shows `take` what came; nothing is the end of the stream.
pub(super) fn poll_read<T>(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&mut [u8]) -> T,
) -> Poll<io::Result<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled_mut())))
    })
}
