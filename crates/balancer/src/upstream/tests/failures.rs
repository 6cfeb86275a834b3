//! How far a failed exchange had come.

use super::*;
use crate::upstream::{Reached, connection};
use tokio::{
    join,
    time::{self, Instant},
};

#[tokio::test]
async fn a_node_that_is_not_there() {
    let node = Node::bind().await;
    let client = node.client();
    drop(node);
    let error = get(&client).await.unwrap_err();
    assert!(matches!(error, TransportError::Connect(_)), "{error:?}");
    assert_eq!(error.reached(), Reached::Nothing);
    assert!(error.retryable());
}

#[tokio::test]
async fn a_name_without_an_address() {
    // Longer than a label may be: refused without asking anyone.
    let client = Upstream::new(&"a".repeat(64), 1, LIMITS);
    let error = get(&client).await.unwrap_err();
    assert!(matches!(error, TransportError::Resolve(_)), "{error:?}");
    assert_eq!(error.reached(), Reached::Nothing);
}

#[test]
fn what_is_wrong_with_the_request_is_not_tried_again() {
    assert!(!TransportError::Request("path").retryable());
    assert!(!TransportError::Address("x".into()).retryable());
}

#[tokio::test]
async fn every_address_is_tried() {
    let (node, gone) = (Node::bind().await, Node::bind().await);
    let addresses = [&gone, &node].map(|node| node.listener.local_addr().unwrap());
    drop(gone);
    let deadline = Instant::now() + LIMITS.connect;
    let stream = connection::connect(&addresses, LIMITS.connect, deadline)
        .await
        .unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
    assert!(stream.nodelay().unwrap());
    let unresolved = connection::connect(&[], LIMITS.connect, deadline).await;
    assert!(matches!(unresolved, Err(TransportError::Resolve(_))));
}

#[tokio::test]
async fn an_address_that_swallows_packets_leaves_time_for_the_next() {
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = deaf.listen(1).unwrap();
    let address = deaf.local_addr().unwrap();
    // Nobody accepts: a full backlog answers no further connection.
    let (limit, mut waiting) = (Duration::from_millis(50), Vec::new());
    let error = loop {
        let connected = connection::connect(&[address], limit, Instant::now() + limit).await;
        match connected {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
        assert!(waiting.len() < 64, "the backlog never fills");
    };
    assert!(
        matches!(error, TransportError::ConnectTimeout(at) if at == limit),
        "{error:?}"
    );
    assert_eq!(error.reached(), Reached::Nothing);
    let node = Node::bind().await;
    let addresses = [address, node.listener.local_addr().unwrap()];
    let (limit, started) = (LIMITS.connect, Instant::now());
    let (stream, ()) = join!(
        connection::connect(&addresses, limit, started + limit),
        async {
            // A little more than the first one's half.
            time::pause();
            time::advance(limit / 2 + Duration::from_secs(1)).await;
            time::resume();
        }
    );
    assert_eq!(stream.unwrap().peer_addr().unwrap(), addresses[1]);
    assert!(started.elapsed() < limit, "the first took it all");
}

#[tokio::test]
async fn a_node_that_closes_without_an_answer() {
    let node = Node::bind().await;
    let client = node.client();
    let (error, ()) = join!(get(&client), async { drop(node.serve(b"").await) });
    let error = error.unwrap_err();
    assert!(matches!(error, TransportError::NoAnswer(_)), "{error:?}");
    assert_eq!(error.reached(), Reached::Request);
}

#[tokio::test]
async fn a_node_that_is_silent() {
    let node = Node::bind().await;
    let client = node.client();
    for begun in [&b""[..], b"HTTP/1.1 200 OK\r\n"] {
        let (error, _peer) = join!(get(&client), async {
            let peer = node.serve(begun).await;
            time::pause();
            time::advance(LIMITS.head + Duration::from_millis(1)).await;
            time::resume();
            peer
        });
        let error = error.unwrap_err();
        assert!(matches!(error, TransportError::HeadTimeout(at) if at == LIMITS.head));
        assert_eq!(error.reached(), Reached::Request);
    }
}

#[tokio::test]
async fn a_node_that_dies_within_the_head() {
    let node = Node::bind().await;
    let client = node.client();
    let (error, ()) = join!(get(&client), async {
        drop(node.serve(b"HTTP/1.1 200 OK\r\nx").await);
    });
    let error = error.unwrap_err();
    assert!(matches!(error, TransportError::HeadCut(_)), "{error:?}");
    assert_eq!(error.reached(), Reached::Head);
}

#[tokio::test]
async fn a_node_that_dies_within_the_body_loses_nothing_that_came() {
    let node = Node::bind().await;
    for (answer, came) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"[..],
            "hello",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", ""),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello",
            "hello",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "hello",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            "hello",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r",
            "hello",
        ),
    ] {
        for reset in [false, true] {
            let client = node.client();
            let ((frames, error), ()) = join!(
                async {
                    let mut body = get(&client).await.unwrap().into_body();
                    let first = if came.is_empty() {
                        None
                    } else {
                        body.frame().await
                    };
                    let (mut rest, error) = frames(body).await;
                    if let Some(first) = first {
                        rest.insert(0, first.unwrap().into_data().unwrap());
                    }
                    (rest, error)
                },
                async {
                    let mut peer = node.serve(answer).await;
                    if reset {
                        // Closing is a reset; the client must have read the answer before it.
                        for _ in 0..10 {
                            tokio::task::yield_now().await;
                        }
                        peer.stream.set_zero_linger().unwrap();
                    }
                    let _ = peer.stream.flush().await;
                }
            );
            assert_eq!(frames.concat(), came.as_bytes());
            let error = error.unwrap();
            assert!(matches!(error, TransportError::Broken(_)), "{error:?}");
            assert_eq!(error.reached(), Reached::Body);
        }
    }
}

#[tokio::test]
async fn an_answer_before_the_request_is_through() {
    let node = Node::bind().await;
    let client = node.client();
    let headers = HeaderMap::new();
    let request = Outgoing {
        method: &Method::POST,
        path: "/",
        headers: &headers,
        body: vec![b'x'; 64 << 20].into(),
    };
    let (response, _peer) = join!(client.send(request), async {
        let mut peer = node.accept().await;
        peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
            .await;
        peer
    });
    let response = response.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "big");
    assert_eq!(
        client.pool.len(),
        0,
        "the rest of the request is still owed"
    );
}
