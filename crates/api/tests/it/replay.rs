//! Following from any byte on gives the text exactly once, live or ended, over event streams and sockets.

use crate::{client::apply, server::World};
use jarvis_testkit::{Gate, Step};
use serde_json::{Value, json};

/// Characters of one to four bytes.
const FIRST: &str = "a é € ";
const SECOND: &str = "𝄞 fin";

/// Follows from every byte offset while the answer stands half-way, then lets it end.
#[tokio::test]
async fn every_byte_of_a_running_answer_is_a_place_to_come_back_to() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let gate = Gate::default();
    world.node.script([
        Step::text(FIRST),
        Step::Gate(gate.clone()),
        Step::text(SECOND),
    ]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut first = ana.events(generation, None).await;
    let mut seen = String::new();
    while seen.len() < FIRST.len() {
        apply(&mut seen, &first.next().await.unwrap().data);
    }
    let whole = format!("{FIRST}{SECOND}");
    let mut streams = Vec::new();
    for offset in 0..=whole.len() + 2 {
        let events = ana.events(generation, Some(&format!("1-{offset}"))).await;
        let mut socket = world.socket(&ana).await;
        socket
            .say(&json!({"type": "subscribe", "generation_id": generation, "offset": offset}))
            .await;
        streams.push((offset, events, socket));
    }
    gate.open();
    for (offset, mut events, mut socket) in streams {
        // Held is what an honest client would hold at this offset, or something wrong that must be replaced. The last ones
        // may be heard only when the answer goes on already.
        let held = whole.get(..offset).unwrap_or("wrong");
        let (text, last) = events.rest(held).await;
        assert_eq!(text, whole, "stream from {offset}");
        let last = last.unwrap();
        assert_eq!(
            (last.name.as_str(), last.id),
            ("done", format!("1-{}", whole.len()))
        );
        let (text, _) = socket.follow(generation, held).await;
        assert_eq!(text, whole, "socket from {offset}");
    }
}

#[tokio::test]
async fn every_byte_of_an_ended_answer_is_a_place_to_come_back_to() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    world.node.script([Step::text(FIRST), Step::text(SECOND)]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    ana.ended(generation).await;
    let whole = format!("{FIRST}{SECOND}");
    let mut socket = world.socket(&ana).await;
    for offset in 0..=whole.len() + 2 {
        let held = whole.get(..offset).unwrap_or("wrong");
        let mut events = ana.events(generation, Some(&format!("1-{offset}"))).await;
        let (text, last) = events.rest(held).await;
        assert_eq!(
            (text.as_str(), last.unwrap().name.as_str()),
            (whole.as_str(), "done"),
            "stream from {offset}"
        );
        socket
            .say(&json!({"type": "subscribe", "generation_id": generation, "offset": offset}))
            .await;
        let (text, end) = socket.follow(generation, held).await;
        assert_eq!(
            (text.as_str(), &end["status"]),
            (whole.as_str(), &json!("done")),
            "socket from {offset}"
        );
    }
}

#[tokio::test]
async fn identifiers_of_events_are_where_the_next_stream_begins() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let gate = Gate::default();
    let mut steps = Vec::new();
    let words = ["un ", "deux ", "trois ", "quatre"];
    for word in words {
        steps.extend([Step::Gate(gate.clone()), Step::text(word)]);
    }
    world.node.script(steps);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    let mut text = String::new();
    let mut last: Option<String> = None;
    for _ in words {
        // A new stream for every event: a client whose connection breaks again and again.
        let mut events = ana.events(generation, last.as_deref()).await;
        gate.open();
        let event = events.next().await.unwrap();
        apply(&mut text, &event.data);
        assert_eq!(event.id, format!("1-{}", text.len()));
        last = Some(event.id);
    }
    assert_eq!(text, words.concat());
}

#[tokio::test]
async fn long_answers_come_in_parts_of_whole_characters() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let long = "é€𝄞".repeat(20_000);
    world.node.script([Step::text(&long)]);
    let sent = ana.send(&conversation, "q").await;
    let generation = sent["generation_id"].as_str().unwrap();
    ana.ended(generation).await;
    let mut events = ana.events(generation, Some("1-1")).await;
    let mut text = String::from("?");
    let mut parts = 0;
    while let Some(event) = events.next().await {
        let size = event.data["text"].as_str().map_or(0, str::len);
        assert!(size <= 32 * 1024, "{size}");
        parts += usize::from(size > 0);
        apply(&mut text, &event.data);
    }
    assert!(parts > 5 && text == long);
}

#[tokio::test]
async fn one_socket_follows_several_answers_and_lets_go_of_them() {
    let mut options = crate::server::options();
    options.socket.subscriptions = 3;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let mut page = world.socket(&ana).await;
    let gate = Gate::default();
    let mut generations = Vec::new();
    for number in 0..4 {
        world.node.script([
            Step::Gate(gate.clone()),
            Step::text(&format!("answer {number}")),
        ]);
        let conversation = ana.conversation().await;
        let sent = ana.send(&conversation, "q").await;
        world.node.received(number + 1).await;
        generations.push(sent["generation_id"].as_str().unwrap().to_owned());
    }
    for generation in &generations[..3] {
        page.say(&json!({"type": "subscribe", "generation_id": generation, "offset": 0}))
            .await;
    }
    page.say(&json!({"type": "subscribe", "generation_id": generations[3], "offset": 0}))
        .await;
    let error = page.hear("error").await;
    assert_eq!(
        (&error["code"], &error["generation_id"]),
        (&json!("too_many_subscriptions"), &json!(generations[3]))
    );
    page.say(&json!({"type": "unsubscribe", "generation_id": generations[0]}))
        .await;
    page.say(&json!({"type": "subscribe", "generation_id": generations[3], "offset": 0}))
        .await;
    // Twice the same is once.
    page.say(&json!({"type": "subscribe", "generation_id": generations[3], "offset": 0}))
        .await;
    // An answer to this: everything before it has been read.
    page.say(&json!({"type": "cancel", "generation_id": "no id"}))
        .await;
    page.hear("error").await;
    for _ in 0..4 {
        gate.open();
    }
    let mut texts = std::collections::BTreeMap::<String, String>::new();
    let mut ended = 0;
    while ended < 3 {
        let frame: Value = page.next().await.unwrap();
        let Some(generation) = frame["generation_id"].as_str() else {
            continue;
        };
        apply(texts.entry(generation.to_owned()).or_default(), &frame);
        ended += usize::from(frame["type"] == "done");
    }
    assert!(!texts.contains_key(&generations[0]), "let go of");
    for (number, generation) in generations.iter().enumerate().skip(1) {
        assert_eq!(texts[generation], format!("answer {number}"));
    }
}
