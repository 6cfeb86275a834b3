mod requests;
mod seam;
mod streams;
mod transcript;
mod ways;

use super::*;

/// Pushes all chunks; gives what was forwarded and how it broke.
fn follow<'a>(
    transcript: &mut Transcript,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<u8>, Option<Cause>) {
    let mut out = Vec::new();
    for chunk in chunks {
        match transcript.push(Bytes::copy_from_slice(chunk)) {
            Ok(bytes) => out.extend_from_slice(&bytes),
            Err(broken) => {
                out.extend_from_slice(&broken.before);
                return (out, Some(broken.cause));
            }
        }
    }
    (out, None)
}

fn of(dialect: Dialect) -> Transcript {
    Transcript::new(dialect, Limits::default())
}
