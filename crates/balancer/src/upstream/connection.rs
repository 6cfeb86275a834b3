//! One connection: opened, and one exchange on it.

use super::{
    Limits, TransportError, UpstreamBody,
    body::Piece,
    head::{Head, HeadReader},
    pool::Pool,
    request::Encoded,
    scratch,
};
use http::{Method, Response};
use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// Opens a connection to `host`, within `limit` for resolving and connecting together.
pub(super) async fn open(
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<TcpStream, TransportError> {
    let deadline = Instant::now() + limit;
    let addresses: Vec<SocketAddr> = timeout_at(deadline, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| TransportError::ConnectTimeout(limit))?
        .map_err(TransportError::Resolve)?
        .collect();
    connect(&addresses, limit, deadline).await
}

/// Connects to the first address that accepts. Each gets its equal share of the time left, so that one that swallows
/// packets does not use it up. When none accepts, the last one's failure is reported.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
    deadline: Instant,
) -> Result<TcpStream, TransportError> {
    let mut last = TransportError::Resolve(io::ErrorKind::NotFound.into());
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let now = Instant::now();
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / left;
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(TransportError::Connect)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = TransportError::Connect(error),
            Err(_) => last = TransportError::ConnectTimeout(limit),
        }
    }
    Err(last)
}

/// One request on the connection that is `awaited`, and the head of its answer. The connection stays there when the limit has
/// passed.
pub(super) async fn exchange(
    awaited: &mut Option<TcpStream>,
    method: &Method,
    request: &Encoded,
    limits: &Limits,
    pool: &Arc<Pool>,
) -> Result<Response<UpstreamBody>, TransportError> {
    let closed = || TransportError::NoAnswer(io::ErrorKind::NotConnected.into());
    let stream = awaited.as_mut().ok_or_else(closed)?;
    let whole = async {
        let sent = write(stream, request).await;
        let mut reader = HeadReader::new(method, limits.max_head);
        let head = read_head(stream, &mut reader).await;
        match (head, sent) {
            (Err(TransportError::NoAnswer(_)), Err(unsent)) => {
                Err(TransportError::NoAnswer(unsent))
            }
            (head, sent) => Ok((head?, sent.is_ok_and(|whole| whole))),
        }
    };
    let answered = timeout_at(Instant::now() + limits.head, whole)
        .await
        .map_err(|_| TransportError::HeadTimeout(limits.head))?;
    let stream = awaited.take().ok_or_else(closed)?;
    let ((head, first), sent) = answered?;
    let Head {
        parts,
        framing,
        keep_alive,
    } = head;
    let pool = (keep_alive && sent).then(|| Arc::clone(pool));
    let body = UpstreamBody::new(stream, framing, first, pool);
    Ok(Response::from_parts(parts, body))
}

/// Reads up to the end of the head, and takes what of the body came with it.
async fn read_head(
    stream: &mut TcpStream,
    reader: &mut HeadReader,
) -> Result<(Head, Piece), TransportError> {
    loop {
        let read = poll_fn(|cx| {
            scratch::poll_read(stream, cx, |bytes| {
                if bytes.is_empty() {
                    return Err(cut(reader, io::ErrorKind::UnexpectedEof.into()));
                }
                let taken = reader.take(bytes, |mut head, rest| {
                    let first = head.framing.take(rest);
                    (head, first)
                });
                taken.map_err(TransportError::Head)
            })
        });
        match read.await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => return Err(error),
            Err(error) => return Err(cut(reader, error)),
        }
    }
}

/// What it means that the connection ended before the head did.
fn cut(reader: &HeadReader, error: io::Error) -> TransportError {
    if reader.begun() {
        TransportError::HeadCut(error)
    } else {
        TransportError::NoAnswer(error)
    }
}

/// Sends the request, and stops when an answer comes before it is through: a node that refuses a long request need not
/// read it to its end. Says whether all was sent.
async fn write(stream: &mut TcpStream, request: &Encoded) -> io::Result<bool> {
    let (mut reads, mut writes) = stream.split();
    let mut seen = [0];
    let whole = async {
        writes.write_all(&request.head).await?;
        writes.write_all(&request.body).await
    };
    tokio::select! {
        biased;
        sent = whole => sent.map(|()| true),
        _ = reads.peek(&mut seen) => Ok(false),
    }
}
