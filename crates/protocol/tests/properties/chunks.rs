//! The ways in which the same bytes may arrive.

/// Limits that short inputs reach and stay under.
pub(super) const LIMITS: [usize; 5] = [0, 3, 16, 64, usize::MAX];

/// The stream in one piece, in single bytes, and in pieces of up to 3 and up to 17 bytes, empty ones
/// among them.
pub(super) fn chunkings(stream: &[u8]) -> [Vec<&[u8]>; 4] {
    [
        vec![stream],
        stream.chunks(1).collect(),
        pieces(stream, 3),
        pieces(stream, 17),
    ]
}

/// Pieces of 0 to `most` bytes, their sizes drawn from the bytes themselves: a fuzzer can choose them, and
/// the same input always gives the same cuts.
fn pieces(stream: &[u8], most: usize) -> Vec<&[u8]> {
    let mut dice = stream.len();
    let mut rest = stream;
    let mut pieces = Vec::new();
    while let Some(&first) = rest.first() {
        dice = dice
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(usize::from(first) + 1);
        let size = (dice >> 33) % (most + 1);
        let (piece, tail) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}
