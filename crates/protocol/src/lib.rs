//! Wire types of the two dialects that models are reached by, and the codecs of their streams.
//!
//! Everything here is pure: no socket, no clock, no task. Engine and balancer speak these types to the
//! outside, the API and the tests speak them to engine and balancer.
//!
//! - [`ollama`]: the Ollama API.
//! - [`openai`]: the OpenAI API as far as Jarvis serves it.
//! - [`RequestExtension`], [`ResponseExtension`]: the one field that Jarvis adds to both.
//! - [`ndjson`] and [`sse`]: incremental encoders and decoders, bounded in memory.

mod de;
mod extension;
pub mod ndjson;
pub mod ollama;
pub mod openai;
pub mod sse;

pub use extension::{Continue, RequestExtension, ResponseExtension};

/// Why a stream could not be decoded any further. The decoder that returned it stays unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A line or event grew beyond the limit before its end was seen.
    #[error("line longer than {limit} bytes")]
    TooLong {
        /// The limit, bytes.
        limit: usize,
    },
}
