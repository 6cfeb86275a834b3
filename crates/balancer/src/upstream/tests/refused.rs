//! Answers that could be read in two ways, or are too long: an error, and the connection is closed.

use super::*;
use crate::upstream::{Malformed, Reached};
use tokio::join;

/// What the client makes of an answer that stays open after its last byte.
async fn refused(answer: &[u8]) -> (String, TransportError) {
    let node = Node::bind().await;
    let client = node.client();
    let (outcome, ()) = join!(
        async {
            match get(&client).await {
                Ok(response) => {
                    let (frames, error) = frames(response.into_body()).await;
                    let error = error.unwrap_or_else(|| panic!("accepted"));
                    (String::from_utf8(frames.concat()).unwrap(), error)
                }
                Err(error) => (String::new(), error),
            }
        },
        async {
            let mut peer = node.accept().await;
            peer.request().await;
            // The client may have had enough before all is sent.
            let _ = peer.stream.write_all(answer).await;
            peer.closed().await;
        }
    );
    assert_eq!(client.pool.len(), 0);
    outcome
}

async fn bad_head(headers: &str) -> Malformed {
    let answer = format!("HTTP/1.1 200 OK\r\n{headers}\r\n5\r\nhello\r\n0\r\n\r\n");
    let (text, error) = refused(answer.as_bytes()).await;
    assert_eq!(text, "", "{headers:?}");
    match error {
        TransportError::Head(malformed) => malformed,
        other => panic!("{headers:?}: {other:?}"),
    }
}

#[tokio::test]
async fn two_lengths() {
    for headers in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ] {
        assert_eq!(bad_head(headers).await, Malformed::TwoLengths);
    }
}

#[tokio::test]
async fn lengths_that_are_not_one_number() {
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\ncontent-length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999\r\n",
    ] {
        assert_eq!(
            bad_head(headers).await,
            Malformed::ContentLength,
            "{headers}"
        );
    }
}

#[tokio::test]
async fn obscured_transfer_encodings() {
    for headers in [
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(
            bad_head(headers).await,
            Malformed::TransferEncoding,
            "{headers}"
        );
    }
    let (_, old) = refused(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert!(matches!(
        old,
        TransportError::Head(Malformed::TransferEncoding)
    ));
}

#[tokio::test]
async fn headers_outside_of_the_grammar() {
    for headers in [
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "x: 1\r\n folded\r\n",
        "Transfer-Encoding\r\n",
        "Transfer\0-Encoding: chunked\r\n",
        "Transfer-Encoding: chun\0ked\r\n",
        "x: a\0b\r\n",
        "x: a\x0bb\r\n",
        "x: a\rb\r\n",
        "x\u{e9}: a\r\n",
        ": a\r\n",
    ] {
        assert!(
            matches!(bad_head(headers).await, Malformed::Syntax(_)),
            "{headers:?}"
        );
    }
    let many = "x: 1\r\n".repeat(101);
    assert_eq!(
        bad_head(&many).await,
        Malformed::Syntax(httparse::Error::TooManyHeaders)
    );
}

#[tokio::test]
async fn lines_that_end_in_a_bare_lf() {
    for headers in ["x: 1\n", "x: 1\r\ny: 1\n", "\n", "x: 1\r\n\n"] {
        assert_eq!(bad_head(headers).await, Malformed::BareLf, "{headers:?}");
    }
    let (_, error) = refused(b"HTTP/1.1 200 OK\ncontent-length: 0\n\n").await;
    assert!(matches!(error, TransportError::Head(Malformed::BareLf)));
}

#[tokio::test]
async fn what_is_no_answer() {
    for (answer, expected) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], Malformed::NotHttp),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", Malformed::NotHttp),
        (b" HTTP/1.1 200 OK\r\n\r\n", Malformed::NotHttp),
        (b"HTTP/2 200\r\n\r\n", Malformed::NotHttp),
        (b"http/1.1 200 OK\r\n\r\n", Malformed::NotHttp),
        (
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
            Malformed::Status(101),
        ),
        (b"HTTP/1.1 099 Low\r\n\r\n", Malformed::Status(99)),
    ] {
        let (_, error) = refused(answer).await;
        assert_eq!(error.reached(), Reached::Head);
        assert!(
            matches!(error, TransportError::Head(found) if found == expected),
            "{answer:?}: {error:?}"
        );
    }
    for answer in [
        &b"HTTP/1.2 200 OK\r\n\r\n"[..],
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
    ] {
        let (_, error) = refused(answer).await;
        assert!(
            matches!(error, TransportError::Head(Malformed::Syntax(_))),
            "{answer:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn heads_without_end() {
    let limit = LIMITS.max_head;
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(limit));
    let lines = format!("HTTP/1.1 200 OK\r\n{}", "x: 1\r\n".repeat(limit));
    let line = format!("HTTP/1.1 200 {}", "a".repeat(100 * limit));
    for answer in [long, lines, line] {
        let (_, error) = refused(answer.as_bytes()).await;
        assert!(
            matches!(error, TransportError::Head(Malformed::HeadTooLong(at)) if at == limit),
            "{error:?}"
        );
    }
    let interim = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(9);
    let (_, error) = refused(&interim).await;
    assert!(matches!(
        error,
        TransportError::Head(Malformed::TooManyInterim)
    ));
}

#[tokio::test]
async fn the_longest_head_that_is_allowed() {
    let limit = LIMITS.max_head;
    let frame = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\nx: \r\n\r\n".len();
    for (spare, fits) in [(0, true), (1, false)] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\nx: {}\r\n\r\n",
            "a".repeat(limit - frame + spare)
        );
        let node = Node::bind().await;
        let client = node.client();
        let answer = head + "ok";
        let (response, _peer) = join!(get(&client), node.serve(answer.as_bytes()));
        match response {
            Ok(response) => assert_eq!((text(response).await.as_str(), fits), ("ok", true)),
            Err(error) => assert!(!fits, "{error:?}"),
        }
    }
}

/// A chunked body that begins well: what was well is handed out, then the error.
async fn bad_chunk(rest: &str) -> Malformed {
    let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n{rest}");
    let (text, error) = refused(answer.as_bytes()).await;
    assert!(text.starts_with("ok"), "{rest:?}: {text:?}");
    assert_eq!(error.reached(), Reached::Body);
    match error {
        TransportError::Body(malformed) => malformed,
        other => panic!("{rest:?}: {other:?}"),
    }
}

#[tokio::test]
async fn chunks_outside_of_the_grammar() {
    for rest in [
        "\r\n",
        "+2\r\nok",
        "-2\r\nok",
        " 2\r\nok",
        "2 \r\nok",
        "2\t;x\r\nok",
        "0x2\r\nok",
        "g\r\n",
        ";x\r\nok",
        "2\nok",
        "11112222333344445\r\n",
        "00000000000000002\r\nok",
        "2_0\r\n",
        "\0",
    ] {
        assert_eq!(bad_chunk(rest).await, Malformed::ChunkSize, "{rest:?}");
    }
    for rest in [
        "2\rok",
        "2;x\rok",
        "2\r\nokX\n",
        "2\r\nok\rX",
        "2\r\nok\n",
        "2\r\nok2\r\n",
    ] {
        assert_eq!(bad_chunk(rest).await, Malformed::ChunkEnd, "{rest:?}");
    }
    for rest in ["2;x\nok", "2;\0\r\nok", "2;\x7f\r\nok"] {
        assert_eq!(bad_chunk(rest).await, Malformed::ChunkExtension, "{rest:?}");
    }
    for rest in [
        "0\r\n\n",
        "0\r\nx\r\n\r\n",
        "0\r\n: 1\r\n\r\n",
        "0\r\n x: 1\r\n\r\n",
        "0\r\nx: 1\n\r\n",
        "0\r\nx: \0\r\n\r\n",
        "0\r\nx : 1\r\n\r\n",
        "0\r\nx: 1\r\n y\r\n\r\n",
        "0\r\n\rX",
    ] {
        assert_eq!(bad_chunk(rest).await, Malformed::Trailer, "{rest:?}");
    }
}

#[tokio::test]
async fn chunk_lines_and_trailers_without_end() {
    let long = "a".repeat(100_000);
    assert_eq!(
        bad_chunk(&format!("2;{long}")).await,
        Malformed::ChunkExtension
    );
    assert_eq!(
        bad_chunk(&format!("0\r\nx: {long}")).await,
        Malformed::Trailer
    );
    let many = "x: 1\r\n".repeat(10_000);
    assert_eq!(bad_chunk(&format!("0\r\n{many}")).await, Malformed::Trailer);
}
