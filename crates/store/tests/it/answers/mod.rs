//! The answer log: what holds wherever it is kept (`both`), what files alone do, and what Redis alone does.

mod both;
mod faults;
mod files;
pub(crate) mod streams;

use crate::redis::{connect, prefix};
use jarvis_domain::{Outcome, Status};
use jarvis_store::{AnswerEvent, AnswerLog, AnswerReader, Redis};
use jarvis_testkit::services::RedisCluster;
use tempfile::TempDir;

pub(crate) fn done() -> Outcome {
    Outcome {
        status: Status::Done,
        usage: None,
        error: None,
    }
}

/// Reads to the end; panics on a gap or an overlap.
pub(crate) async fn drain(mut reader: AnswerReader) -> (String, Outcome) {
    let (mut text, start) = (String::new(), reader.offset());
    while let Some(event) = reader.next().await {
        match event {
            AnswerEvent::Text { offset, text: more } => {
                assert_eq!(offset, start + text.len());
                assert!(!more.is_empty());
                text.push_str(&more);
            }
            AnswerEvent::Queued(_) => {}
            AnswerEvent::Resync { .. } | AnswerEvent::Away => panic!("{event:?}"),
            AnswerEvent::End(outcome) => return (text, outcome),
        }
    }
    panic!("no end");
}

/// An answer log, and what keeps it.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) log: AnswerLog,
    _directory: Option<TempDir>,
}

/// One of each kind.
pub(crate) async fn worlds() -> [World; 2] {
    let directory = tempfile::tempdir().unwrap();
    let files = World {
        name: "files",
        log: AnswerLog::open(directory.path(), false).unwrap(),
        _directory: Some(directory),
    };
    let redis = connect(RedisCluster::shared(), &prefix()).await;
    let streams = World {
        name: "Redis",
        log: AnswerLog::shared(&redis),
        _directory: None,
    };
    [files, streams]
}

/// Two instances of one installation: their logs, and its cluster.
pub(crate) async fn instances(cluster: &RedisCluster) -> Instances {
    let prefix = prefix();
    let redis = connect(cluster, &prefix).await;
    Instances {
        one: AnswerLog::shared(&redis),
        other: AnswerLog::shared(&connect(cluster, &prefix).await),
        redis,
        prefix,
    }
}

pub(crate) struct Instances {
    pub(crate) one: AnswerLog,
    pub(crate) other: AnswerLog,
    /// That of `one`.
    pub(crate) redis: Redis,
    pub(crate) prefix: String,
}
