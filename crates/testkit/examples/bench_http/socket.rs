//! Jarvis' WebSocket as its page uses it, written by hand: text frames of JSON that are looked at no further than needed.

use crate::Failure;
use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// The bit that says that a payload is masked.
const MASKED: u8 = 0x80;
/// Says that the length stands in the next two bytes.
const TWO_BYTES: u8 = 126;
/// The same of the next eight.
const EIGHT_BYTES: u8 = 127;

/// One socket, signed in.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Socket {
    /// Connects and signs in.
    pub(crate) async fn open(to: SocketAddr, token: &str) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {to}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut socket = Self {
            stream,
            buffer: BytesMut::new(),
        };
        let end = loop {
            if let Some(end) = memmem::find(&socket.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            socket.fill().await?;
        };
        let head = socket.buffer.split_to(end);
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(format!("no WebSocket: {}", head.escape_ascii()).into());
        }
        let auth = serde_json::json!({"type": "auth", "access_token": token});
        socket.send(&auth.to_string()).await?;
        socket.wait_for("ready").await?;
        Ok(socket)
    }

    /// Sends a text.
    pub(crate) async fn send(&mut self, text: &str) -> Result<(), Failure> {
        self.frame(TEXT, text.as_bytes()).await
    }

    /// The next text; who pings is answered meanwhile.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            let (kind, payload) = loop {
                if let Some(frame) = self.take()? {
                    break frame;
                }
                self.fill().await?;
            };
            match kind {
                TEXT => return Ok(payload),
                PING => self.frame(PONG, &payload).await?,
                PONG => {}
                _ => {
                    let text = format!("a frame {kind:#x}: {}", payload.escape_ascii());
                    return Err(text.into());
                }
            }
        }
    }

    /// The next text of a type, others thrown away; an error where that is a refusal.
    pub(crate) async fn wait_for(&mut self, wanted: &str) -> Result<Bytes, Failure> {
        loop {
            let text = self.next().await?;
            match kind(&text) {
                found if found == wanted.as_bytes() => return Ok(text),
                b"error" => return Err(format!("refused: {}", text.escape_ascii()).into()),
                _ => {}
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Failure> {
        self.buffer.reserve(4096);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err("the socket was closed".into());
        }
        Ok(())
    }

    /// The next frame, once it is whole.
    fn take(&mut self) -> Result<Option<(u8, Bytes)>, Failure> {
        let Some(&[kind, short]) = self.buffer.first_chunk() else {
            return Ok(None);
        };
        let (head, length) = match short {
            TWO_BYTES => match self.buffer.get(2..4) {
                Some(bytes) => (4, usize::from(u16::from_be_bytes(bytes.try_into()?))),
                None => return Ok(None),
            },
            EIGHT_BYTES => match self.buffer.get(2..10) {
                Some(bytes) => (10, usize::try_from(u64::from_be_bytes(bytes.try_into()?))?),
                None => return Ok(None),
            },
            short => (2, usize::from(short)),
        };
        if self.buffer.len() < head + length {
            return Ok(None);
        }
        self.buffer.advance(head);
        Ok(Some((kind, self.buffer.split_to(length).freeze())))
    }

    /// Masked with zeros, which a server must accept, so that the bytes stay as they are.
    async fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), Failure> {
        let mut bytes = vec![kind];
        match u16::try_from(payload.len())? {
            length @ 0..126 => bytes.push(MASKED | u8::try_from(length)?),
            length => {
                bytes.push(MASKED | TWO_BYTES);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(payload);
        Ok(self.stream.write_all(&bytes).await?)
    }
}

/// The type of a text frame, which stands first in it.
pub(crate) fn kind(text: &[u8]) -> &[u8] {
    let rest = text.strip_prefix(br#"{"type":""#).unwrap_or_default();
    rest.split(|&byte| byte == b'"').next().unwrap_or_default()
}

/// The value of a member that needs no unescaping: what stands after its name, up to `end`.
pub(crate) fn member<'a>(text: &'a [u8], name: &str, end: u8) -> Option<&'a [u8]> {
    let begin = memmem::find(text, name.as_bytes())? + name.len();
    let length = memchr::memchr(end, &text[begin..])?;
    Some(&text[begin..begin + length])
}
