//! How a streamed answer begins: with its first whole record. Until then the client has seen nothing, and another node may be
//! asked.

use crate::resume::{Cause, Transcript};
use bytes::Bytes;

/// The beginning of an answer, which its transcript has taken.
pub(super) struct Begun {
    /// What the client shall see first.
    pub(super) first: Bytes,
    /// What broke the stream right after.
    pub(super) fault: Option<Cause>,
    /// The node's body is at its end, and the answer complete.
    pub(super) ended: bool,
}

impl Begun {
    /// What comes of a piece of the node's body, or of its end. `None`: no whole record yet.
    pub(super) fn of(
        transcript: &mut Transcript,
        piece: Option<Bytes>,
    ) -> Result<Option<Self>, Cause> {
        let ended = piece.is_none();
        let taken = match piece {
            Some(piece) => transcript.push(piece),
            None => transcript.finish(),
        };
        let (first, fault) = match taken {
            Ok(first) => (first, None),
            Err(broken) if broken.before.is_empty() => return Err(broken.cause),
            Err(broken) => (broken.before, Some(broken.cause)),
        };
        let begun = ended || !first.is_empty() || transcript.is_complete();
        Ok(begun.then_some(Self {
            first,
            fault,
            ended,
        }))
    }
}
