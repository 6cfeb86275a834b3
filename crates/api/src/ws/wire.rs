//! Reading and writing one socket, within bounds of size and time.

use crate::options::Options;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::time::Duration;
use tokio::{io::AsyncReadExt as _, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// What a quiet socket keeps for reading. Small: thousands are quiet at once.
const READ_BUFFER: usize = 1024;
/// Unwritten bytes at which a socket counts as broken; one part of an answer fits with ease.
const WRITE_BUFFER: usize = 1024 * 1024;
/// After our close, what the peer had under way is read and thrown away: closing on unread bytes would reset the connection
/// and take the close frame with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Why a socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The peer is gone: nothing is to be said.
    Gone,
    /// The peer has said that it closes, which is to be answered.
    Bidden,
    /// We stop.
    Stopping,
    /// The token is missing, wrong or has ended.
    Unauthorized,
    /// No token came in time.
    Late,
    TooBig,
    NotUtf8,
    NotText,
    Malformed,
}

impl Closed {
    const fn frame(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Gone | Self::Bidden => None,
            Self::Stopping => Some((1001, "the server is stopping")),
            Self::Malformed => Some((1002, "not the WebSocket protocol")),
            Self::NotText => Some((1003, "only text is understood")),
            Self::NotUtf8 => Some((1007, "not UTF-8")),
            Self::TooBig => Some((1009, "the message is too big")),
            Self::Unauthorized => Some((4401, "unauthorized")),
            Self::Late => Some((4408, "no token came in time")),
        }
    }
}

/// One socket.
pub(super) struct Wire {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    write_within: Duration,
}

impl Wire {
    pub(super) async fn new(options: &Options, upgraded: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(options.body_bytes))
            .max_frame_size(Some(options.body_bytes));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        Self {
            socket,
            write_within: options.socket.write_within,
        }
    }

    /// The next text, or `None` for a sign of life without one. Cancel safe.
    pub(super) async fn read(&mut self) -> Result<Option<Utf8Bytes>, Closed> {
        match self.socket.next().await {
            Some(Ok(Message::Text(text))) => Ok(Some(text)),
            Some(Ok(Message::Binary(_))) => Err(Closed::NotText),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(None),
            Some(Ok(Message::Close(_))) => Err(Closed::Bidden),
            None => Err(Closed::Gone),
            Some(Err(error)) => Err(match error {
                Error::Capacity(_) => Closed::TooBig,
                Error::Utf8(_) => Closed::NotUtf8,
                Error::Protocol(_) => Closed::Malformed,
                _ => Closed::Gone,
            }),
        }
    }

    pub(super) async fn tell(&mut self, frame: &impl Serialize) -> Result<(), Closed> {
        match serde_json::to_string(frame) {
            Ok(text) => self.send(Message::text(text)).await,
            Err(error) => {
                tracing::error!("a frame could not be written: {error}");
                Ok(())
            }
        }
    }

    pub(super) async fn pass_on(&mut self, text: Utf8Bytes) -> Result<(), Closed> {
        self.send(Message::Text(text)).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), Closed> {
        self.send(Message::Ping(bytes::Bytes::new())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), Closed> {
        let mut sending = self.socket.send(message);
        // Nearly always the kernel takes it at once: no time is to be kept then.
        let sent = match (&mut sending).now_or_never() {
            Some(sent) => sent,
            None => timeout(self.write_within, sending)
                .await
                .map_err(|_| Closed::Gone)?,
        };
        sent.map_err(|_| Closed::Gone)
    }

    /// Says why, and ends the connection.
    pub(super) async fn close(mut self, why: Closed) {
        let frame = why.frame().map(|(code, reason)| CloseFrame {
            code: CloseCode::from(code),
            reason: Utf8Bytes::from_static(reason),
        });
        let said = frame.is_some();
        let ending = async {
            if why == Closed::Bidden {
                // The answer lies ready, with the code that the peer gave; nothing more may be sent.
                let _ = self.socket.flush().await;
            } else if self.socket.close(frame).await.is_ok() && said {
                self.linger().await;
            }
        };
        // Whoever does not read our farewell goes without.
        let _ = timeout(LINGER, ending).await;
    }

    async fn linger(&mut self) {
        let io = self.socket.get_mut();
        let mut thrown_away = 0;
        let mut buffer = vec![0; 4096];
        while let Ok(read @ 1..) = io.read(&mut buffer).await {
            thrown_away += read;
            if thrown_away > LINGER_BYTES {
                return;
            }
        }
    }
}
