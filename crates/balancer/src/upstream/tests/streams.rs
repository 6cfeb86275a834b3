//! Streams: what arrives together goes out together, what arrives alone is not held, and nothing grows.

use super::*;
use crate::upstream::scratch;
use std::{future::poll_fn, pin::Pin, task::Poll};
use tokio::{io::AsyncWrite as _, join, sync::oneshot};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// A body whose head has come alone.
async fn begun(node: &Node, client: &Upstream) -> (UpstreamBody, Peer) {
    let (response, peer) = join!(get(client), node.serve(HEAD));
    (response.unwrap().into_body(), peer)
}

async fn next(body: &mut UpstreamBody) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn chunks_of_one_read_are_one_frame() {
    let node = Node::bind().await;
    let client = node.client();
    let (mut body, mut peer) = begun(&node, &client).await;
    let (mut wire, mut payload) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let line = format!("{{\"n\":{number}}}\n");
        wire.extend(format!("{:x}\r\n{line}\r\n", line.len()).bytes());
        payload.extend(line.bytes());
    }
    peer.send(&wire).await;
    assert_eq!(next(&mut body).await, payload);
    peer.send(b"3\r\none\r\n4\r\ntw").await;
    assert_eq!(next(&mut body).await, "onetw");
    peer.send(b"o!\r\n0\r\n\r\n").await;
    assert_eq!(next(&mut body).await, "o!");
    assert!(body.frame().await.is_none());
    assert_eq!(client.pool.len(), 1);
}

#[tokio::test]
async fn a_chunk_that_arrives_alone_is_a_frame() {
    let node = Node::bind().await;
    let client = node.client();
    let (mut body, mut peer) = begun(&node, &client).await;
    for number in 0..100 {
        let line = format!("{number}\n");
        peer.send(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())
            .await;
        assert_eq!(next(&mut body).await, line);
    }
}

#[tokio::test]
async fn what_came_with_the_head_is_the_first_frame() {
    let node = Node::bind().await;
    let client = node.client();
    let answer = [HEAD, b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"].concat();
    let (response, _peer) = join!(get(&client), node.serve(&answer));
    assert_eq!(client.pool.len(), 1, "the end has been read");
    let (frames, error) = frames(response.unwrap().into_body()).await;
    assert_eq!(frames, ["onetwo"]);
    assert!(error.is_none());
}

#[tokio::test]
async fn a_line_of_100_mb_passes_through_one_read_at_a_time() {
    const LENGTH: usize = 100 << 20;
    let node = Node::bind().await;
    let client = node.client();
    let (mut body, mut peer) = begun(&node, &client).await;
    let (stuck, heard) = oneshot::channel();
    let sending = async {
        peer.send(format!("{LENGTH:x}\r\n").as_bytes()).await;
        let (block, mut sent, mut stuck) = (vec![b'a'; 1 << 16], 0, Some(stuck));
        while sent < LENGTH {
            let rest = &block[..block.len().min(LENGTH - sent)];
            sent += poll_fn(|cx| {
                let written = Pin::new(&mut peer.stream).poll_write(cx, rest);
                if let (Poll::Pending, Some(stuck)) =
                    (&written, stuck.take_if(|_| written.is_pending()))
                {
                    stuck.send(sent).unwrap();
                }
                written
            })
            .await
            .unwrap();
        }
        peer.send(b"\r\n0\r\n\r\n").await;
    };
    let reading = async {
        // Nobody reads the body yet: the node must come to a stop, whatever the kernel holds.
        assert!(heard.await.unwrap() < LENGTH);
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.unwrap().into_data().unwrap();
            assert!(frame.len() <= scratch::SIZE);
            assert!(frame.iter().all(|&byte| byte == b'a'));
            length += frame.len();
        }
        length
    };
    let ((), length) = join!(sending, reading);
    assert_eq!(length, LENGTH);
}

#[test]
fn a_waiting_body_is_small() {
    assert!(
        size_of::<UpstreamBody>() <= 192,
        "{}",
        size_of::<UpstreamBody>()
    );
}

/// The future and the body can be moved between threads, as a server does, and waiting for a head is cheap too.
#[test]
fn it_can_be_moved_between_threads() {
    fn send<T: Send>(_: &T) {}
    let client = Upstream::new("127.0.0.1", 1, LIMITS);
    let headers = HeaderMap::new();
    let future = client.send(Outgoing {
        method: &Method::GET,
        path: "/",
        headers: &headers,
        body: Bytes::new(),
    });
    send(&future);
    assert!(size_of_val(&future) <= 2048, "{}", size_of_val(&future));
    let _: fn(&UpstreamBody) = send;
}
