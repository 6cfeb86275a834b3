//! What an answer does, step by step.

use super::{question::Plan, records::Writer};
use crate::Gate;
use bytes::{Bytes, BytesMut};
use std::{collections::VecDeque, io, time::Duration};

/// One thing that an answer does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends this text as one record.
    Text(String),
    /// Sends these bytes as they are.
    Raw(Bytes),
    /// Sends the next so many records of the model's own answer.
    Records(usize),
    /// Sends the next so many bytes of the model's own answer.
    Bytes(usize),
    /// Sends the rest of the model's own answer, its end included, in chunks of so many bytes.
    Split(usize),
    /// Sends the rest of the model's own answer, its end included, a record at a time.
    Rest,
    /// Waits for the test.
    Gate(Gate),
    /// Waits that long between any two of the following records: for demonstrations and measurements.
    Pace(Duration),
    /// Says nothing for ever.
    Stall,
    /// Breaks the connection off.
    Cut,
    /// Answers with this status and error before anything else; must be the first step.
    Refuse(u16, String),
    /// Waits for the test before it answers at all; must be the first step.
    Late(Gate),
}

impl Step {
    /// A text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// What a connection does.
#[derive(Debug)]
pub(super) enum Act {
    Send(Bytes),
    Gate(Gate),
    Wait(Duration),
    Stall,
    Cut,
}

/// A script as acts. An answer that sends nothing of the model's own ends by itself with a record for the texts it sent.
pub(super) fn acts(steps: Vec<Step>, plan: &Plan, writer: &Writer<'_>) -> Vec<Act> {
    let mut own: VecDeque<Bytes> = writer.stream(plan).into();
    let mut pace = None;
    let (mut acts, mut texts, mut ended) = (Vec::new(), 0, false);
    for step in steps {
        match step {
            Step::Text(text) => {
                acts.push(Act::Send(writer.piece(&text, &[], texts == 0)));
                texts += 1;
            }
            Step::Raw(bytes) => acts.push(Act::Send(bytes)),
            Step::Records(count) => {
                ended = true;
                for record in own.drain(..count.min(own.len())) {
                    acts.extend(pace.map(Act::Wait));
                    acts.push(Act::Send(record));
                }
            }
            Step::Rest => {
                ended = true;
                for record in own.drain(..) {
                    acts.extend(pace.map(Act::Wait));
                    acts.push(Act::Send(record));
                }
            }
            Step::Bytes(count) => {
                ended = true;
                let mut bytes = joined(&mut own);
                let rest = bytes.split_off(count.min(bytes.len()));
                acts.push(Act::Send(bytes));
                own.push_back(rest);
            }
            Step::Split(size) => {
                ended = true;
                let bytes = joined(&mut own);
                acts.extend(
                    bytes
                        .chunks(size.max(1))
                        .map(|chunk| Act::Send(Bytes::copy_from_slice(chunk))),
                );
            }
            Step::Gate(gate) => acts.push(Act::Gate(gate)),
            Step::Pace(time) => pace = Some(time),
            Step::Stall => acts.push(Act::Stall),
            Step::Cut => acts.push(Act::Cut),
            Step::Refuse(..) | Step::Late(_) => panic!("{step:?} must be the first step"),
        }
    }
    if !ended {
        let plan = Plan {
            thinking: Vec::new(),
            pieces: Vec::new(),
            reason: "stop",
            prompt_tokens: 5,
            tokens: texts,
        };
        acts.push(Act::Send(writer.end(&plan)));
    }
    acts
}

fn joined(records: &mut VecDeque<Bytes>) -> Bytes {
    let mut all = BytesMut::new();
    for record in records.drain(..) {
        all.extend_from_slice(&record);
    }
    all.freeze()
}

/// Does one thing.
pub(super) async fn perform(act: Act) -> io::Result<Bytes> {
    match act {
        Act::Send(bytes) => {
            // The server writes out what it holds when its body has nothing ready: each chunk is a write of its own, and what came
            // before a break is not lost.
            tokio::task::yield_now().await;
            Ok(bytes)
        }
        Act::Gate(gate) => {
            gate.pass().await;
            Ok(Bytes::new())
        }
        Act::Wait(time) => {
            tokio::time::sleep(time).await;
            Ok(Bytes::new())
        }
        Act::Stall => std::future::pending().await,
        Act::Cut => {
            tokio::task::yield_now().await;
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
}
