//! Leaving out of a stream what the client did not ask for.

use super::text::Malformed;
use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Where the member with Jarvis's extension stands, the comma before it included. The engine writes it so, and last.
pub(super) fn span(json: &str, extension: &str) -> Result<Range<usize>, Malformed> {
    const KEY: &str = ",\"jarvis\":";
    let value = extension.as_ptr() as usize - json.as_ptr() as usize;
    let start = value.checked_sub(KEY.len()).ok_or(Malformed)?;
    if json.get(start..value) != Some(KEY) {
        return Err(Malformed);
    }
    Ok(start..value + extension.len())
}

/// What is forwarded of whole records: all of them as they are, unless something was hidden.
#[derive(Default)]
pub(super) struct Shown {
    out: BytesMut,
    copied: usize,
}

impl Shown {
    /// Leaves out `hidden` of `payload`, which is part of the record at `record`.
    pub(super) fn hide(
        &mut self,
        whole: &[u8],
        record: &Range<usize>,
        payload: &[u8],
        hidden: &Range<usize>,
    ) {
        // An event in several lines does not hold its payload in one piece; the client may well see a field more.
        let Some(lead) = memchr::memmem::find(&whole[record.clone()], payload) else {
            return;
        };
        let start = record.start + lead;
        self.out
            .extend_from_slice(&whole[self.copied..start + hidden.start]);
        self.copied = start + hidden.end;
    }

    pub(super) fn rest(mut self, whole: &Bytes, upto: usize) -> Bytes {
        if self.copied == 0 {
            return whole.slice(..upto);
        }
        self.out.extend_from_slice(&whole[self.copied..upto]);
        self.out.freeze()
    }
}
