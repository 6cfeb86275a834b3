//! However the bytes of an answer are cut, it is the same answer.

use super::*;
use crate::upstream::{
    body::Framing,
    chunked::Chunked,
    error::Malformed,
    head::{Head, HeadReader},
};
use http::StatusCode;
use proptest::prelude::*;
use tokio::join;

/// Answers with their bodies. Those until the close are the last on their connection.
const ANSWERS: &[(&str, &str)] = &[
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world",
        "hello world",
    ),
    (
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n1;a=\"b\"\r\n \r\n00000005;x\r\nworld\r\n0;last\r\nx-t: 1\r\ny:\r\n\r\n",
        "hello world",
    ),
    (
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n2\r\n\r\n\r\n0\r\n\r\n",
        "abcdefghijklmnopqrstuvwxyz\r\n",
    ),
    ("HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", ""),
];

#[tokio::test]
async fn two_pieces_cut_anywhere() {
    let node = Node::bind().await;
    let client = node.client();
    join!(
        async {
            for (answer, body) in ANSWERS {
                for _ in 0..=answer.len() {
                    let response = get(&client).await.unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                    assert_eq!(text(response).await, *body);
                }
            }
        },
        async {
            // One connection serves them all: each body's end is found exactly.
            let mut peer = node.accept().await;
            for (answer, _) in ANSWERS {
                for cut in 0..=answer.len() {
                    peer.request().await;
                    peer.send(&answer.as_bytes()[..cut]).await;
                    pass().await;
                    peer.send(&answer.as_bytes()[cut..]).await;
                }
            }
        }
    );
}

#[tokio::test]
async fn byte_by_byte() {
    let node = Node::bind().await;
    let client = node.client();
    join!(
        async {
            for (_, body) in ANSWERS {
                assert_eq!(text(get(&client).await.unwrap()).await, *body);
            }
        },
        async {
            let mut peer = node.accept().await;
            for (answer, _) in ANSWERS {
                peer.request().await;
                for byte in answer.as_bytes() {
                    peer.send(&[*byte]).await;
                    pass().await;
                }
            }
        }
    );
}

/// Lets the client see what was sent so far, usually; what it makes of it must not depend on that.
async fn pass() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}

/// What an answer, given in pieces, comes to, without a socket.
fn fed<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Option<Malformed>, bool) {
    let mut reader = HeadReader::new(&Method::GET, 1024);
    let mut found: Option<Head> = None;
    let mut payload = Vec::new();
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let mut piece = piece.to_vec();
        let taken = if let Some(head) = &mut found {
            head.framing.take(&mut piece)
        } else {
            match reader.take(&mut piece, |mut head, rest| {
                let first = head.framing.take(rest);
                (head, first)
            }) {
                Ok(Some((head, first))) => {
                    found = Some(head);
                    first
                }
                Ok(None) => continue,
                Err(error) => return (payload, Some(error), false),
            }
        };
        payload.extend_from_slice(&taken.payload);
        if taken.error.is_some() {
            return (payload, taken.error, false);
        }
    }
    let done = found.is_some_and(|head| head.framing.done());
    (payload, None, done)
}

#[test]
fn the_decoder_sees_no_cut() {
    for (answer, body) in ANSWERS {
        let bytes = answer.as_bytes();
        let whole = (body.as_bytes().to_vec(), None, true);
        assert_eq!(fed(bytes.chunks(1)), whole);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(fed(pieces.into_iter()), whole, "{first} {second}");
            }
        }
    }
}

/// A body in chunks, with extensions and trailers, and its payload.
fn encoded() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (
        proptest::collection::vec(any::<u8>(), 1..200),
        "(;[a-z]{1,9}(=\"[ -!#-~]{0,9}\")?)?",
    );
    let trailers = proptest::collection::vec("[a-z-]{1,9}:[ -~]{0,20}\r\n", 0..3);
    (proptest::collection::vec(chunk, 0..12), trailers).prop_map(|(chunks, trailers)| {
        let (mut wire, mut payload) = (Vec::new(), Vec::new());
        for (data, extension) in chunks {
            wire.extend(format!("{:x}{extension}\r\n", data.len()).bytes());
            wire.extend(&data);
            wire.extend(b"\r\n");
            payload.extend(data);
        }
        wire.extend(format!("0\r\n{}\r\n", trailers.concat()).bytes());
        (wire, payload)
    })
}

/// Decodes `wire` cut at `cuts`; gives payload, error and how much was used.
fn decoded(wire: &[u8], mut cuts: Vec<usize>) -> (Vec<u8>, Option<Malformed>, usize) {
    let mut framing = Framing::Chunked(Chunked::new());
    let (mut payload, mut used) = (Vec::new(), 0);
    cuts.push(wire.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        let mut bytes = wire[from..cut.min(wire.len())].to_vec();
        from = cut.min(wire.len());
        let Framing::Chunked(chunked) = &mut framing else {
            unreachable!()
        };
        let piece = chunked.decode(&mut bytes);
        payload.extend_from_slice(&bytes[piece.payload]);
        used += piece.used;
        if piece.error.is_some() || chunked.done() {
            return (payload, piece.error, used);
        }
    }
    (payload, None, used)
}

proptest! {
    #[test]
    fn chunks_are_put_together_as_they_were(
        (wire, payload) in encoded(),
        after in proptest::collection::vec(any::<u8>(), 0..20),
        cuts in proptest::collection::vec(0_usize..3000, 0..20),
    ) {
        let length = wire.len();
        let stream = [wire, after].concat();
        prop_assert_eq!(decoded(&stream, cuts), (payload, None, length));
    }

    #[test]
    fn any_bytes_mean_the_same_however_cut(
        wire in proptest::collection::vec(prop_oneof![
            Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'1'), Just(b';'), Just(b':'), any::<u8>()
        ], 0..200),
        cuts in proptest::collection::vec(0_usize..200, 0..20),
    ) {
        prop_assert_eq!(decoded(&wire, cuts), decoded(&wire, Vec::new()));
    }

    #[test]
    fn any_head_means_the_same_however_cut(
        tail in proptest::collection::vec(prop_oneof![
            Just("\r\n".to_owned()), Just("\n".into()), Just("\0".into()), Just("a".into()), Just(": ".into()),
            Just(" ".into()), Just("content-length: 3".into()), Just("transfer-encoding: chunked".into()),
            Just("3\r\nabc\r\n".into()), Just("HTTP/1.1 100 Go\r\n\r\n".into()), "[ -~]{0,9}",
        ], 0..12),
        size in 1_usize..40,
    ) {
        let bytes = format!("HTTP/1.1 200 OK\r\n{}", tail.concat()).into_bytes();
        prop_assert_eq!(fed(bytes.chunks(size)), fed(std::iter::once(&bytes[..])));
    }
}
