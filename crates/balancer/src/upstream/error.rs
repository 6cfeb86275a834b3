//! What goes wrong between the balancer and a node, told apart by how far the exchange had come.

use std::{error::Error, io, time::Duration};

type BoxError = Box<dyn Error + Send + Sync>;

/// Why a node could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is not `http://host[:port]`.
    #[error("`{0}` is not an address of the form http://host:port")]
    Address(String),
    /// The request cannot be written as HTTP/1.1; nothing was sent.
    #[error("the request cannot be sent: {0}")]
    Request(&'static str),
    /// The node's name has no address.
    #[error("the name of the node cannot be resolved")]
    Resolve(#[source] io::Error),
    /// None of the node's addresses accepts a connection.
    #[error("the node cannot be connected to")]
    Connect(#[source] io::Error),
    /// Resolving and connecting took longer than allowed.
    #[error("the node could not be connected to within {} ms", .0.as_millis())]
    ConnectTimeout(Duration),
    /// The node was reached and closed the connection without a byte of answer.
    #[error("the node closed the connection without an answer")]
    NoAnswer(#[source] io::Error),
    /// The node was reached and no answer began within the time allowed.
    #[error("no answer began within {} ms", .0.as_millis())]
    HeadTimeout(Duration),
    /// The connection broke while the head of the answer was coming.
    #[error("the connection broke in the head of the answer")]
    HeadCut(#[source] io::Error),
    /// The head of the answer is not HTTP/1.1, or can be read in two ways.
    #[error("the head of the answer is malformed")]
    Head(#[source] Malformed),
    /// The framing of the body is not HTTP/1.1, or can be read in two ways.
    #[error("the body of the answer is malformed")]
    Body(#[source] Malformed),
    /// The connection broke in the middle of the body.
    #[error("the connection broke in the middle of the answer")]
    Broken(#[source] io::Error),
    /// The node cannot be connected to, or broke the connection off.
    #[error("the connection failed")]
    Connection(#[source] BoxError),
    /// Nothing came within the time allowed.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// The stream ended without saying that it was done.
    #[error("the stream was cut off")]
    Cut,
    /// What came is not what the protocol allows.
    #[error("the node sent something that is not of the protocol: {0}")]
    Malformed(String),
    /// The node ended its answer with an error of its own.
    #[error("the node gave up: {0}")]
    Failed(String),
    /// The node answered with a status that is no success.
    #[error("the node answered {0}")]
    Status(http::StatusCode),
}

/// How far an exchange had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    /// The node has seen nothing of the request.
    Nothing,
    /// The node may have seen the request; no byte of an answer came.
    Request,
    /// A head began to come, and is not usable.
    Head,
    /// The body had begun: what was handed out stays true, the rest is missing.
    Body,
}

impl TransportError {
    /// Of an address that is none. What stands before an `@` may be a password and is not repeated.
    pub(crate) fn address(given: &str) -> Self {
        let shown = given.rsplit_once('@').map_or(given, |(_, host)| host);
        Self::Address(shown.to_owned())
    }

    /// How far the exchange had come. `Connection`, `Silent` and `Malformed` are made by callers of this client, which
    /// use them for answers under way.
    pub(crate) const fn reached(&self) -> Reached {
        match self {
            Self::Address(_)
            | Self::Request(_)
            | Self::Resolve(_)
            | Self::Connect(_)
            | Self::ConnectTimeout(_) => Reached::Nothing,
            Self::NoAnswer(_) | Self::HeadTimeout(_) => Reached::Request,
            Self::HeadCut(_) | Self::Head(_) => Reached::Head,
            Self::Body(_)
            | Self::Broken(_)
            | Self::Connection(_)
            | Self::Silent(_)
            | Self::Cut
            | Self::Malformed(_)
            | Self::Failed(_)
            | Self::Status(_) => Reached::Body,
        }
    }

    /// Whether the connection broke: the node itself may be gone. Silence and faults in what it sent concern one request.
    pub(crate) const fn is_broken(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer(_)
                | Self::HeadCut(_)
                | Self::Broken(_)
                | Self::Connection(_)
                | Self::Cut
        )
    }

    /// Whether the same request may succeed on another node, or later on this one. Only what is wrong with the request
    /// or the configured address cannot; whether a client has already been sent a part is for the caller to know.
    pub(crate) const fn retryable(&self) -> bool {
        !matches!(self, Self::Address(_) | Self::Request(_))
    }
}

/// In what way an answer is not HTTP/1.1 as this client accepts it. What two readers might understand differently is
/// refused, never guessed at: the next answer on the connection would be read from the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with `HTTP/1.`.
    #[error("it does not begin with an HTTP/1.0 or HTTP/1.1 status line")]
    NotHttp,
    /// The head is longer than the limit.
    #[error("the head is longer than {0} bytes")]
    HeadTooLong(usize),
    /// A line ends in LF without CR.
    #[error("a line ends without CR LF")]
    BareLf,
    /// The status line or a header is not of the grammar.
    #[error("{0}")]
    Syntax(#[from] httparse::Error),
    /// A status no answer to our requests can have: 101, or one out of range.
    #[error("the status {0} is no answer to what was asked")]
    Status(u16),
    /// One interim answer after the other.
    #[error("there are too many interim answers")]
    TooManyInterim,
    /// More than one `Content-Length`, or one that is no number.
    #[error("the Content-Length is not one number")]
    ContentLength,
    /// A `Transfer-Encoding` other than exactly `chunked`, or in HTTP/1.0.
    #[error("the Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("there are both a Content-Length and a Transfer-Encoding")]
    TwoLengths,
    /// A chunk's size is not 1 to 16 hexadecimal digits.
    #[error("the size of a chunk is not 1 to 16 hexadecimal digits")]
    ChunkSize,
    /// A chunk extension is too long or holds a control character.
    #[error("a chunk extension is too long or holds a control character")]
    ChunkExtension,
    /// A chunk or its size is not followed by CR LF.
    #[error("a chunk is not followed by CR LF")]
    ChunkEnd,
    /// The trailers are too long or not of the grammar.
    #[error("the trailers are too long or malformed")]
    Trailer,
}
