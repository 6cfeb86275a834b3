//! What is sent, and what of the answer is handed on.

use super::*;
use crate::upstream::TransportError;
use http::{HeaderValue, StatusCode, header};
use hyper::body::Body as _;
use tokio::join;

#[tokio::test]
async fn a_request_is_written_with_our_own_framing() {
    let node = Node::bind().await;
    let client = node.client();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json"),
        ("host", "elsewhere"),
        ("content-length", "99999"),
        ("transfer-encoding", "chunked"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=1"),
        ("proxy-connection", "close"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("expect", "100-continue"),
        ("x-two", "1"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.append("x-two", HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap());
    let request = Outgoing {
        method: &Method::POST,
        path: "/api/chat?a=b%20c",
        headers: &headers,
        body: Bytes::from_static(b"{}"),
    };
    let (response, seen) = join!(client.send(request), async {
        let mut peer = node.accept().await;
        let seen = peer.request().await;
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
        seen
    });
    assert_eq!(
        seen,
        format!(
            "POST /api/chat?a=b%20c HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\nx-two: 1\r\n\
             x-two: café\r\ncontent-length: 2\r\n\r\n{{}}",
            node.port()
        )
    );
    assert_eq!(text(response.unwrap()).await, "ok");
}

#[tokio::test]
async fn long_bodies_and_empty_ones_arrive() {
    let node = Node::bind().await;
    let client = node.client();
    for (method, body, says) in [
        (
            Method::POST,
            "x".repeat(3_000_000),
            "content-length: 3000000",
        ),
        (Method::POST, "x".repeat(8 * 1024), "content-length: 8192"),
        (
            Method::POST,
            "x".repeat(8 * 1024 + 1),
            "content-length: 8193",
        ),
        (Method::POST, String::new(), "content-length: 0"),
        (Method::DELETE, "{}".into(), "content-length: 2"),
        (Method::GET, String::new(), "GET / HTTP/1.1"),
    ] {
        let headers = HeaderMap::new();
        let request = Outgoing {
            method: &method,
            path: "/",
            headers: &headers,
            body: body.clone().into(),
        };
        let (response, seen) = join!(client.send(request), async {
            let mut peer = node.accept().await;
            let seen = peer.request().await;
            peer.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .await;
            seen
        });
        assert_eq!(text(response.unwrap()).await, "");
        let (head, sent) = seen.split_once("\r\n\r\n").unwrap();
        assert_eq!(sent, body);
        assert!(head.lines().any(|line| line == says), "{head}");
        assert_eq!(
            head.contains("content-length"),
            method != Method::GET,
            "{head}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_not_sent() {
    let client = Upstream::new("127.0.0.1", 1, LIMITS);
    for path in ["", "api", "/a b", "/a\r\nx: y", "/a\0", "/\x7f"] {
        let headers = HeaderMap::new();
        let request = Outgoing {
            method: &Method::GET,
            path,
            headers: &headers,
            body: Bytes::new(),
        };
        let refused = client.send(request).await.unwrap_err();
        assert!(matches!(refused, TransportError::Request(_)), "{path:?}");
    }
    for host in ["", "a b", "a\r\nx: y", "a/b", "u@h"] {
        let refused = get(&Upstream::new(host, 1, LIMITS)).await.unwrap_err();
        assert!(matches!(refused, TransportError::Address(_)), "{host:?}");
    }
}

#[test]
fn the_authority_has_brackets_where_they_belong() {
    for (host, authority) in [
        ("gpu-1", "gpu-1:9"),
        ("10.0.0.1", "10.0.0.1:9"),
        ("::1", "[::1]:9"),
        ("[::1]", "[::1]:9"),
    ] {
        assert_eq!(Upstream::new(host, 9, LIMITS).authority, authority);
    }
}

#[tokio::test]
async fn headers_of_the_connection_stay_on_it() {
    let node = Node::bind().await;
    let client = node.client();
    let (response, _peer) = join!(
        get(&client),
        node.serve(
            b"HTTP/1.1 201 Made\r\nX-Kept: 1\r\nx-kept: 2\r\nConnection: keep-alive, X-Mine, content-length\r\n\
              X-Mine: 1\r\nKeep-Alive: timeout=5\r\nTransfer-Encoding: Chunked\r\nTrailer: x\r\n\r\n\
              2\r\nok\r\n0\r\nx: 1\r\n\r\n"
        )
    );
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let headers: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(headers, [("x-kept", "1"), ("x-kept", "2")]);
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let node = Node::bind().await;
    let client = node.client();
    let (response, _peer) = join!(
        get(&client),
        node.serve(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
              HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        )
    );
    let response = response.unwrap();
    assert!(response.headers().get(header::LINK).is_none());
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn answers_without_a_body_end_at_once_and_the_connection_serves_on() {
    let node = Node::bind().await;
    let client = node.client();
    let exchanges = async {
        for (method, status, length) in [
            (Method::HEAD, 200, Some("1000")),
            (Method::HEAD, 200, None),
            (Method::GET, 204, None),
            (Method::GET, 304, Some("1000")),
            (Method::GET, 200, Some("0")),
        ] {
            let response = ask(&client, method).await.unwrap();
            assert_eq!(response.status(), status);
            let said = response.headers().get(header::CONTENT_LENGTH);
            assert_eq!(said.map(|said| said.to_str().unwrap()), length);
            assert!(response.body().is_end_stream());
            assert_eq!(response.body().size_hint().exact(), Some(0));
            assert_eq!(text(response).await, "");
        }
    };
    join!(exchanges, async {
        let mut peer = node.accept().await;
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            peer.request().await;
            peer.send(answer.as_bytes()).await;
        }
    });
}

#[tokio::test]
async fn without_a_length_the_body_lasts_until_the_node_closes() {
    let node = Node::bind().await;
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n",
    ] {
        let client = node.client();
        let (body, ()) = join!(async { text(get(&client).await.unwrap()).await }, async {
            let mut peer = node.serve(head.as_bytes()).await;
            peer.send(b"one\n").await;
            peer.send(b"two\n").await;
        });
        assert_eq!(body, "one\ntwo\n");
        assert_eq!(client.pool.len(), 0);
    }
}

#[tokio::test]
async fn the_length_to_come_is_known() {
    let node = Node::bind().await;
    let client = node.client();
    let (response, mut peer) = join!(
        get(&client),
        node.serve(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab")
    );
    let mut body = response.unwrap().into_body();
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "ab"
    );
    assert_eq!(body.size_hint().exact(), Some(3));
    assert!(!body.is_end_stream());
    peer.send(b"cde").await;
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "cde"
    );
    assert!(body.is_end_stream(), "known with the last frame");
    assert_eq!(client.pool.len(), 1, "and the connection is free");
}
