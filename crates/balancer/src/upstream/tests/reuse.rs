//! Which connections serve again, and which do not.

use super::*;
use crate::upstream::pool::Pool;
use std::sync::Arc;
use tokio::{join, time};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn exchange(client: &Upstream) -> String {
    text(get(client).await.unwrap()).await
}

/// Serves one request after the other, on as many connections as it takes; gives how many that were.
async fn count(node: &Node, answer: &[u8], requests: usize) -> usize {
    let (mut connections, mut served) = (0, 0);
    while served < requests {
        let mut peer = node.accept().await;
        connections += 1;
        while served < requests {
            if peer.stream.peek(&mut [0]).await.unwrap_or(0) == 0 {
                break;
            }
            peer.request().await;
            peer.send(answer).await;
            served += 1;
        }
    }
    connections
}

#[tokio::test]
async fn one_connection_serves_as_long_as_both_keep_it() {
    for (answer, expected) in [
        (OK, 1),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 5),
        (b"HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok", 5),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 5),
        // More than was asked for: nobody's bytes, and never the next answer's.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 5),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n", 5),
    ] {
        let node = Node::bind().await;
        let client = node.client();
        let (connections, ()) = join!(count(&node, answer, 5), async {
            for _ in 0..5 {
                assert_eq!(exchange(&client).await, "ok");
            }
        });
        assert_eq!(connections, expected, "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn two_at_once_take_two_and_the_last_used_serves_first() {
    let node = Node::bind().await;
    let client = node.client();
    let (first, (mut one, mut two)) = join!(async { join!(get(&client), get(&client)) }, async {
        let mut one = node.accept().await;
        let mut two = node.accept().await;
        one.request().await;
        two.request().await;
        one.send(OK).await;
        two.send(OK).await;
        (one, two)
    });
    for response in [first.0, first.1] {
        assert_eq!(text(response.unwrap()).await, "ok");
    }
    assert_eq!(client.pool.len(), 2);
    // Three requests in a row: all on the one of them that was put back last.
    join!(
        async {
            for _ in 0..3 {
                assert_eq!(exchange(&client).await, "ok");
            }
        },
        async {
            let (mut seen, mut one_seen, mut byte_one, mut byte_two) = (0, 0, [0], [0]);
            while seen < 3 {
                tokio::select! {
                    _ = one.stream.peek(&mut byte_one) => { one.request().await; one.send(OK).await; one_seen += 1; }
                    _ = two.stream.peek(&mut byte_two) => { two.request().await; two.send(OK).await; }
                }
                seen += 1;
            }
            assert!(matches!(one_seen, 0 | 3), "{one_seen} of 3 on the first");
        }
    );
}

#[tokio::test]
async fn a_body_not_read_to_its_end_closes_the_connection() {
    let node = Node::bind().await;
    for answer in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nok",
    ] {
        let client = node.client();
        let (response, mut peer) = join!(get(&client), node.serve(answer));
        let mut body = response.unwrap().into_body();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "ok"
        );
        drop(body);
        peer.closed().await;
        assert_eq!(client.pool.len(), 0);
    }
}

#[tokio::test]
async fn a_request_given_up_closes_the_connection() {
    let node = Node::bind().await;
    let client = node.client();
    let mut peer = tokio::select! {
        _ = get(&client) => panic!("there was no answer"),
        peer = async { let mut peer = node.accept().await; peer.request().await; peer } => peer,
    };
    peer.closed().await;
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    let node = Node::bind().await;
    let client = node.client();
    for _ in 0..3 {
        let (answer, _closed) = join!(exchange(&client), node.serve(OK));
        assert_eq!(answer, "ok");
    }
}

#[tokio::test]
async fn a_connection_with_unasked_bytes_is_replaced() {
    let node = Node::bind().await;
    let client = node.client();
    let (answer, mut peer) = join!(exchange(&client), node.serve(OK));
    assert_eq!(answer, "ok");
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
        .await;
    // The client's runtime has to hear of the bytes; a turn of the driver is enough.
    while client.pool.len() == 1
        && client.pool.take().is_some_and(|stream| {
            client.pool.put(stream);
            true
        })
    {
        tokio::task::yield_now().await;
    }
    let (answer, _peer) = join!(exchange(&client), node.serve(OK));
    assert_eq!(answer, "ok");
    peer.closed().await;
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_is_sent_once_more() {
    let node = Node::bind().await;
    let client = node.client();
    let (answers, seen) = join!(
        async { [exchange(&client).await, exchange(&client).await] },
        async {
            let mut peer = node.serve(OK).await;
            // The second request arrives; the node closes without a word.
            let first = peer.request().await;
            drop(peer);
            let mut peer = node.accept().await;
            let second = peer.request().await;
            peer.send(OK).await;
            (first, second)
        }
    );
    assert_eq!(answers, ["ok", "ok"]);
    assert_eq!(seen.0, seen.1);
}

#[tokio::test]
async fn it_is_not_sent_a_third_time_nor_again_on_a_new_connection() {
    let node = Node::bind().await;
    let client = node.client();
    let refuse = async || {
        let mut peer = node.accept().await;
        peer.request().await;
    };
    let (error, ()) = join!(get(&client), refuse());
    assert!(
        matches!(error, Err(TransportError::NoAnswer(_))),
        "a new connection"
    );
    let ((answer, error), ()) = join!(
        async { (exchange(&client).await, get(&client).await) },
        async {
            node.serve(OK).await.request().await;
            refuse().await;
        }
    );
    assert_eq!(answer, "ok");
    assert!(
        matches!(error, Err(TransportError::NoAnswer(_))),
        "the second attempt"
    );
}

#[tokio::test]
async fn an_answer_that_began_is_not_asked_for_again() {
    let node = Node::bind().await;
    let client = node.client();
    let ((answer, error), ()) = join!(
        async { (exchange(&client).await, get(&client).await) },
        async {
            let mut peer = node.serve(OK).await;
            peer.request().await;
            peer.send(b"HTTP/1.1 2").await;
        }
    );
    assert_eq!(answer, "ok");
    assert!(matches!(error, Err(TransportError::HeadCut(_))));
}

#[tokio::test]
async fn old_connections_are_closed() {
    let node = Node::bind().await;
    let client = node.client();
    let (answer, mut old) = join!(exchange(&client), node.serve(OK));
    assert_eq!(answer, "ok");
    time::pause();
    time::advance(LIMITS.idle.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(client.pool.len(), 1);
    time::advance(Duration::from_millis(1)).await;
    assert_eq!(client.pool.len(), 0);
    time::resume();
    old.closed().await;
}

#[tokio::test]
async fn the_number_of_idle_connections_is_bounded() {
    let node = Node::bind().await;
    let pool = Arc::new(Pool::new(LIMITS.idle));
    let mut peers = Vec::new();
    for _ in 0..=256 {
        let (stream, peer) = join!(
            TcpStream::connect(("127.0.0.1", node.port())),
            node.accept()
        );
        pool.put(stream.unwrap());
        peers.push(peer);
    }
    assert_eq!(pool.len(), 256);
    peers.remove(0).closed().await;
    let newest = peers.pop().unwrap().stream.peer_addr().unwrap();
    assert_eq!(pool.take().unwrap().local_addr().unwrap(), newest);
}
