//! Leaving an answer before its end.

use super::scratch;
use std::{future::poll_fn, time::Duration};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::Instant};

/// What a node sent before it could notice arrives within this time.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
/// And is no more than this, in bytes.
const MOST_ON_ITS_WAY: usize = 1 << 20;

/// Leaves the answer that is expected on `stream`, and waits until the node is done with it. Our side is closed at once, which
/// most servers notice and close theirs too: theirs is open as long as they are at it. A server that does not look sends
/// its next piece; then the connection is closed altogether, which it notices as it sends another. While a node does
/// neither, it works, and this does not end.
pub(crate) async fn noticed(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let until = Instant::now() + ON_ITS_WAY;
    let mut seen = 0;
    while let Ok(read @ 1..) =
        poll_fn(|context| scratch::poll_read(&mut stream, context, |bytes| bytes.len())).await
    {
        seen += read;
        if seen > MOST_ON_ITS_WAY || Instant::now() >= until {
            return;
        }
    }
}
