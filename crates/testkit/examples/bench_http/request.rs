//! Requests as a node reads them: only as much as the answers depend on.

use crate::Failure;
use bytes::{Buf as _, BytesMut};
use memchr::memmem;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

/// A whole request, still in the connection's buffer.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: BytesMut,
    head: usize,
}

impl Request {
    /// Reads one; none at the end of the connection.
    pub(crate) async fn read(
        stream: &mut TcpStream,
        buffer: &mut BytesMut,
    ) -> Result<Option<Self>, Failure> {
        loop {
            if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
                let head = end + 4;
                let whole = head + content_length(&buffer[..head])?;
                if buffer.len() >= whole {
                    return Ok(Some(Self {
                        bytes: buffer.split_to(whole),
                        head,
                    }));
                }
            }
            buffer.reserve(4096);
            if stream.read_buf(buffer).await? == 0 {
                return if buffer.is_empty() {
                    Ok(None)
                } else {
                    Err("a request broke off".into())
                };
            }
        }
    }

    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        let line = self
            .bytes
            .chunk()
            .split(|&byte| byte == b'\r')
            .next()
            .unwrap_or_default();
        let path = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        std::str::from_utf8(path).unwrap_or_default()
    }

    /// The value of a member of the body that is named nowhere else, up to the comma or brace that follows.
    pub(crate) fn member(&self, name: &[u8]) -> Option<&str> {
        let body = &self.bytes[self.head..];
        let after = &body[memmem::find(body, name)? + name.len()..];
        let end = memchr::memchr3(b',', b'}', b'\n', after)?;
        let value = std::str::from_utf8(&after[..end]).ok()?;
        Some(value.trim_start_matches(':').trim().trim_matches('"'))
    }
}

fn content_length(head: &[u8]) -> Result<usize, Failure> {
    for line in std::str::from_utf8(head)?.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            return Ok(value.trim().parse()?);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("requests in chunks are not read here".into());
        }
    }
    Ok(0)
}
