//! The balancer over scripted nodes: in this process, and over a real socket.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod admin;
mod catalog;
mod chat;
mod connecting;
mod dialect;
mod faults;
mod first_look;
mod front;
mod left;
mod node;
mod queued;
mod queueing;
mod retries;
mod web;

use futures_util::StreamExt as _;
use jarvis_balancer::{Balancer, ChatError, ChatEvent, ChatStream, ChatTurn, NodeSpec, Options};
use jarvis_protocol::ollama::{Message, Role};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A balancer over `nodes` that is stopped when the test ends.
pub(crate) struct Started {
    pub(crate) balancer: Balancer,
    stop: CancellationToken,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn start(nodes: Vec<NodeSpec>) -> Started {
    start_with(Options::default(), nodes)
}

pub(crate) fn start_with(options: Options, nodes: Vec<NodeSpec>) -> Started {
    let stop = CancellationToken::new();
    let balancer = Balancer::start(options, nodes, &TaskTracker::new(), &stop).unwrap();
    Started { balancer, stop }
}

pub(crate) fn turn(model: &str) -> ChatTurn {
    ChatTurn {
        model: model.into(),
        messages: vec![Message::new(Role::User, "Bonjour")],
        ..ChatTurn::default()
    }
}

/// Everything a stream gives: its text, its other events and its error.
pub(crate) async fn drain(mut stream: ChatStream) -> (String, Vec<ChatEvent>, Option<ChatError>) {
    let (mut text, mut events) = (String::new(), Vec::new());
    while let Some(item) = stream.next().await {
        match item {
            Ok(ChatEvent::Text { text: more, .. }) => {
                assert!(!more.is_empty());
                text.push_str(&more);
            }
            Ok(event) => events.push(event),
            Err(error) => {
                assert!(stream.next().await.is_none(), "an error is the end");
                return (text, events, Some(error));
            }
        }
    }
    (text, events, None)
}
