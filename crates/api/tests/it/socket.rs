//! What a socket bears and what it does not.

use crate::{
    client::Socket,
    server::{World, options},
};
use jarvis_testkit::{Gate, Step};
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

#[tokio::test]
async fn nothing_is_said_before_the_token() {
    let mut options = options();
    options.socket.auth_within = Duration::from_millis(50);
    let world = World::start_with(options).await;
    let mut silent = Socket::open(world.address()).await;
    assert_eq!(silent.closed().await, Some(4408));
    let mut options = self::options();
    options.body_bytes = 100_000;
    let world = World::start_with(options).await;
    for first in [
        "{\"type\":\"send\",\"id\":\"k\",\"conversation_id\":null,\"content\":\"x\"}",
        "{\"type\":\"auth\"}",
        "{\"type\":\"auth\",\"access_token\":7}",
        "nonsense",
        "",
    ] {
        let mut socket = Socket::open(world.address()).await;
        socket.send(Message::text(first)).await;
        assert_eq!(socket.closed().await, Some(4401), "{first}");
    }
    while world.api().open_sockets() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    for given in [Some(1000), Some(1001), None] {
        let mut socket = world.socket(&ana).await;
        let frame = given.map(|code: u16| CloseFrame {
            code: code.into(),
            reason: "".into(),
        });
        socket.send(Message::Close(frame)).await;
        // Raw: the client's own code hides whether an answer came.
        let mut answer = Vec::new();
        socket.tcp().read_to_end(&mut answer).await.unwrap();
        let expected = match given.map(u16::to_be_bytes) {
            Some([high, low]) => vec![0x88, 2, high, low],
            None => vec![0x88, 0],
        };
        assert_eq!(answer, expected, "{given:?}");
    }
}

#[tokio::test]
async fn foreign_pages_are_refused_before_the_upgrade() {
    let mut options = options();
    options.allowed_origins = vec!["https://chat.example".into()];
    let world = World::start_with(options).await;
    let address = world.address();
    for foreign in [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        "https://chat.example.evil",
    ] {
        let refused = Socket::open_from(address, Some(foreign)).await.err();
        assert_eq!(
            refused.map(|status| status.as_u16()),
            Some(403),
            "{foreign}"
        );
    }
    let own = format!("http://{address}");
    for ours in [Some(own.as_str()), Some("https://chat.example"), None] {
        assert!(Socket::open_from(address, ours).await.is_ok(), "{ours:?}");
    }
    let plain = world.anonymous().get("/ws").await;
    plain.is_problem(426, "upgrade_required");
}

#[tokio::test]
async fn bad_frames_are_closed_with_the_right_code() {
    let mut options = options();
    options.body_bytes = 100_000;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let mut binary = world.socket(&ana).await;
    binary.send(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(binary.closed().await, Some(1003));
    let mut big = world.socket(&ana).await;
    big.send(Message::text(" ".repeat(100_001))).await;
    assert_eq!(big.closed().await, Some(1009));
    let mut not_utf8 = world.socket(&ana).await;
    not_utf8
        .tcp()
        .write_all(&masked(0x81, b"\xff\xfe\xfd"))
        .await
        .unwrap();
    assert_eq!(not_utf8.closed().await, Some(1007));
    let mut unmasked = world.socket(&ana).await;
    unmasked.tcp().write_all(b"\x81\x02{}").await.unwrap();
    assert_eq!(unmasked.closed().await, Some(1002));
    let mut announced = world.socket(&ana).await;
    // A frame that says it will have 2^62 bytes is refused by what it says.
    announced
        .tcp()
        .write_all(b"\x81\xff\x40\0\0\0\0\0\0\0\0\0\0\0")
        .await
        .unwrap();
    assert_eq!(announced.closed().await, Some(1009));
    let mut fragments = world.socket(&ana).await;
    let _ = fragments
        .tcp()
        .write_all(&masked(0x01, &vec![b' '; 60_000]))
        .await;
    let _ = fragments
        .tcp()
        .write_all(&masked(0x80, &vec![b' '; 60_000]))
        .await;
    assert_eq!(fragments.closed().await, Some(1009));
    let mut well = world.socket(&ana).await;
    well.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "x"}))
        .await;
    well.hear("accepted").await;
}

/// A frame of a client with a mask of zeroes.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 0x7e);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn frames_that_make_no_sense_are_answered_and_the_socket_lives() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let mut page = world.socket(&ana).await;
    let deep = format!(
        "{{\"type\":\"send\",\"x\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    for bad in [
        "",
        "{",
        "[]",
        "7",
        "{}",
        "{\"type\":\"nope\"}",
        "{\"type\":7}",
        "{\"type\":\"send\"}",
        "{\"type\":\"send\",\"id\":\"k\",\"content\":7}",
        "{\"type\":\"subscribe\",\"generation_id\":\"x\",\"offset\":-1}",
        "{\"type\":\"subscribe\",\"generation_id\":\"x\",\"offset\":1.5}",
        "{\"type\":\"cancel\"}",
        &deep,
    ] {
        page.send(Message::text(bad)).await;
        let error = page.hear("error").await;
        assert_eq!(error["code"], "invalid_body", "{bad:.80}: {error}");
    }
    for bad_key in ["", "a b", &"k".repeat(129)] {
        page.say(&json!({"type": "send", "id": bad_key, "conversation_id": null, "content": "x"}))
            .await;
        assert_eq!(page.hear("error").await["id"], bad_key);
    }
    page.say(&json!({"type": "unsubscribe", "generation_id": "x", "unknown": {"field": []}}))
        .await;
    page.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "x"}))
        .await;
    page.hear("accepted").await;
}

#[tokio::test]
async fn a_token_is_renewed_on_the_open_socket_and_its_end_closes_it() {
    let world = World::start().await;
    let mut ana = world.user("ana@example.org").await;
    // The token has less than a second left.
    let lifetime = world.options.access_token_lifetime;
    let most = lifetime.checked_sub(Duration::from_secs(1));
    world.clock.advance(most.unwrap());
    let mut page = world.socket(&ana).await;
    let mut left = world.socket(&ana).await;
    assert_eq!(ana.renew().await.status, 200);
    let ready = page.authenticate(ana.token()).await;
    assert_eq!(ready["user_id"], ana.get("/api/v1/me").await.ok()["id"]);
    assert_eq!(
        left.closed().await,
        Some(4401),
        "the token's end is the socket's end"
    );
    // Of the same token, and opened before: it lives by the new one.
    page.say(&json!({"type": "cancel", "generation_id": "no id"}))
        .await;
    page.hear("error").await;
}

#[tokio::test]
async fn a_socket_cannot_change_its_account() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let ben = world.user("ben@example.org").await;
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "auth", "access_token": ben.token()}))
        .await;
    assert_eq!(page.closed().await, Some(4401));
}

#[tokio::test]
async fn a_dead_peer_is_reaped() {
    let mut options = options();
    options.socket.ping_every = Duration::from_millis(20);
    options.socket.dead_after = Duration::from_millis(100);
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let mut alive = world.socket(&ana).await;
    // It never reads, so it never answers a ping.
    let dead = world.socket(&ana).await;
    loop {
        // Reading answers the pings of the living one.
        let id = "no id";
        alive
            .say(&json!({"type": "cancel", "generation_id": id}))
            .await;
        alive.hear("error").await;
        if world.api().open_sockets() == 1 {
            break;
        }
    }
    drop(dead);
}

/// Whatever is to be told to it is not kept for ever.
#[tokio::test]
async fn a_peer_that_stops_reading_is_let_go() {
    let mut options = options();
    options.socket.write_within = Duration::from_millis(100);
    options.socket.dead_after = Duration::from_hours(1);
    options.answer_bytes = 64 << 20;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    // More than two kernels hold for a connection.
    let much = "x".repeat(1 << 20);
    let steps: Vec<_> = (0..30).map(|_| Step::text(&much)).collect();
    world.node.script(steps);
    let mut deaf = world.socket(&ana).await;
    deaf.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": "q"}))
        .await;
    let accepted = deaf.hear("accepted").await;
    let mut page = world.socket(&ana).await;
    let let_go = async {
        while world.api().open_sockets() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), let_go).await.unwrap();
    // Nobody else is concerned, and the answer is whole.
    let generation = accepted["generation_id"].as_str().unwrap();
    page.say(&json!({"type": "subscribe", "generation_id": generation, "offset": 0}))
        .await;
    let (text, end) = page.follow(generation, "").await;
    assert_eq!((text.len(), &end["status"]), (30 << 20, &json!("done")));
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_given_all_at_once() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let gate = Gate::default();
    let words: Vec<_> = (0..2000).map(|number| format!("{number} ")).collect();
    let mut steps: Vec<_> = words.iter().map(|word| Step::text(word)).collect();
    steps.insert(0, Step::Gate(gate.clone()));
    world.node.script(steps);
    let conversation = ana.conversation().await;
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut page = world.socket(&ana).await;
    page.say(&json!({"type": "subscribe", "generation_id": generation, "offset": 0}))
        .await;
    gate.open();
    ana.ended(generation).await;
    // Only now does it read: nothing is missing, nothing is twice.
    let (text, end) = page.follow(generation, "").await;
    assert_eq!((text, &end["status"]), (words.concat(), &json!("done")));
}
