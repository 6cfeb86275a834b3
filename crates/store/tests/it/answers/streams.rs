//! What several instances do with one answer.

use super::{Instances, done, drain, instances};
use crate::redis::{Proxy, connect, prefix, until};
use jarvis_domain::{GenerationId, durable::Taken};
use jarvis_store::{AnswerEvent, AnswerLog, AnswerWriter, LogError, QueuePlace};
use jarvis_testkit::services::RedisCluster;
use proptest::prelude::*;

pub(crate) async fn begin(log: &AnswerLog, id: GenerationId) -> AnswerWriter {
    log.take_up(id, 1).await.unwrap().go_on().unwrap()
}

pub(crate) fn key(prefix: &str, id: GenerationId) -> String {
    format!("{prefix}:{{{id}}}:log")
}

/// What the stream of an answer holds, by `redis-cli`.
fn entries(cluster: &RedisCluster, prefix: &str, id: GenerationId) -> String {
    let key = key(prefix, id);
    cluster.command(cluster.master_of(&key), &["XRANGE", &key, "-", "+"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_writer_is_refused_and_shows_nothing() {
    let cluster = RedisCluster::shared();
    let Instances {
        one, other, prefix, ..
    } = instances(cluster).await;
    let id = GenerationId::new();
    let mut late = begin(&one, id).await;
    late.append("kept ", 1).await.unwrap();
    let reader = one.reader(id, 0).await.unwrap().unwrap();
    let hold = other.take_up(id, 2).await.unwrap();
    assert_eq!(hold.logged().text, "kept ");
    let mut writer = hold.go_on().unwrap();
    assert!(matches!(
        late.append("lost", 2).await,
        Err(LogError::Fenced)
    ));
    assert!(matches!(late.append("", 2).await, Err(LogError::Fenced)));
    assert!(matches!(late.decide(&done()).await, Err(LogError::Fenced)));
    assert!(matches!(late.take_up().await, Err(LogError::Fenced)));
    assert!(matches!(one.take_up(id, 1).await, Err(LogError::Fenced)));
    assert_eq!(late.text(), "kept ");
    late.hand_over(done());
    assert_eq!(drain(reader).await.0, "kept ");
    writer.append("on", 2).await.unwrap();
    // Now made elsewhere, and followed from there.
    let reader = one.reader(id, 0).await.unwrap().unwrap();
    assert_eq!(reader.epoch(), 2);
    writer.finish(done()).await.unwrap();
    assert_eq!(drain(reader).await, ("kept on".to_owned(), done()));
    assert!(!entries(cluster, &prefix, id).contains("lost"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_writer_may_take_up_its_own_log_again() {
    let Instances { one, .. } = instances(RedisCluster::shared()).await;
    let id = GenerationId::new();
    let mut writer = begin(&one, id).await;
    writer.append("a", 1).await.unwrap();
    drop(writer);
    let mut writer = begin(&one, id).await;
    assert_eq!(writer.text(), "a");
    writer.append("b", 2).await.unwrap();
    assert_eq!(one.take_up(id, 2).await.unwrap().logged().text, "ab");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_elsewhere_share_one_subscription_that_ends_with_them() {
    let cluster = RedisCluster::shared();
    let Instances {
        one, other, prefix, ..
    } = instances(cluster).await;
    let id = GenerationId::new();
    let mut writer = begin(&one, id).await;
    writer.append("début ", 1).await.unwrap();
    let mut readers = Vec::new();
    for offset in [0, 1, 3, 7, 7] {
        readers.push((offset, other.reader(id, offset).await.unwrap().unwrap()));
    }
    let key = key(&prefix, id);
    let listeners = || {
        let told = cluster.command(cluster.master_of(&key), &["PUBSUB", "SHARDNUMSUB", &key]);
        told.lines().last().unwrap().to_owned()
    };
    assert_eq!(listeners(), "1");
    let place = QueuePlace {
        position: 3,
        eta_ms: Some(1200),
    };
    writer.queued(place).await;
    for (_, reader) in &mut readers {
        let seen = async { while reader.next().await != Some(AnswerEvent::Queued(place)) {} };
        seen.await;
    }
    writer.append("fin", 2).await.unwrap();
    writer.finish(done()).await.unwrap();
    for (offset, reader) in readers {
        assert_eq!(reader.offset(), 7, "from {offset}");
        assert_eq!(drain(reader).await, ("fin".to_owned(), done()));
    }
    until("nobody listens any more", async || listeners() == "0").await;
    // For a while it can be followed still, from its beginning.
    let reader = other.reader(id, 0).await.unwrap().unwrap();
    assert_eq!(drain(reader).await, ("début fin".to_owned(), done()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_new_owner_did_not_find_is_taken_back() {
    let Instances { one, other, .. } = instances(RedisCluster::shared()).await;
    let third = one.clone();
    let id = GenerationId::new();
    let mut writer = begin(&one, id).await;
    writer.append("one two three", 3).await.unwrap();
    let mut ahead = other.reader(id, 13).await.unwrap().unwrap();
    let mut behind = other.reader(id, 3).await.unwrap().unwrap();
    assert!(matches!(
        behind.next().await,
        Some(AnswerEvent::Text { offset: 3, .. })
    ));
    drop(writer);
    // What it knows is less: the log had lost the rest when it looked.
    let taken = Taken {
        bases: "2:7".parse().unwrap(),
        text: "one two".to_owned(),
        tokens: 2,
        logged: Some(7),
        end: None,
    };
    let mut writer = third.take_up(id, 2).await.unwrap().writer(taken).unwrap();
    writer.append(", and four", 5).await.unwrap();
    let text = "one two, and four".to_owned();
    assert_eq!(
        ahead.next().await,
        Some(AnswerEvent::Resync { text: text.clone() })
    );
    assert_eq!(
        behind.next().await,
        Some(AnswerEvent::Resync { text: text.clone() })
    );
    assert_eq!(
        (ahead.epoch(), ahead.bases().to_string().as_str()),
        (2, "2:7")
    );
    let mut new = other.reader(id, 0).await.unwrap().unwrap();
    assert_eq!(
        new.next().await,
        Some(AnswerEvent::Text { offset: 0, text })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_nobody_shows_is_looked_for_in_sql() {
    let Instances { one, other, .. } = instances(RedisCluster::shared()).await;
    let id = GenerationId::new();
    let mut writer = begin(&one, id).await;
    writer.append("all", 1).await.unwrap();
    let mut reader = other.reader(id, 0).await.unwrap().unwrap();
    writer.decide(&done()).await.unwrap();
    drop(writer);
    assert!(matches!(
        reader.next().await,
        Some(AnswerEvent::Text { .. })
    ));
    assert_eq!(reader.next().await, Some(AnswerEvent::Away));
    assert_eq!(reader.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_expire() {
    let cluster = RedisCluster::shared();
    let Instances { one, prefix, .. } = instances(cluster).await;
    let id = GenerationId::new();
    let key = key(&prefix, id);
    let left = || -> i64 {
        let left = cluster.command(cluster.master_of(&key), &["PTTL", &key]);
        left.parse().unwrap()
    };
    let mut writer = begin(&one, id).await;
    writer.append("x", 1).await.unwrap();
    assert!((80_000_000..=86_400_000).contains(&left()));
    writer.finish(done()).await.unwrap();
    assert!((1..=600_000).contains(&left()));
}

/// A stream that goes while it is read and written is a log that is away: SQL has the text.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_gone_is_made_anew_with_the_whole_text() {
    let cluster = RedisCluster::shared();
    let Instances {
        one, other, prefix, ..
    } = instances(cluster).await;
    let id = GenerationId::new();
    let key = key(&prefix, id);
    let mut writer = begin(&one, id).await;
    writer.append("one ", 1).await.unwrap();
    let mut reader = other.reader(id, 4).await.unwrap().unwrap();
    cluster.command(cluster.master_of(&key), &["DEL", &key]);
    assert_eq!(reader.next().await, Some(AnswerEvent::Away));
    assert!(other.reader(id, 4).await.unwrap().is_none());
    assert!(matches!(
        writer.append("two ", 2).await,
        Err(LogError::Away(_))
    ));
    assert_eq!(
        (writer.text().as_str(), writer.unshown(), writer.is_away()),
        ("one ", "two ", true)
    );
    assert!(matches!(
        writer.append("three", 3).await,
        Err(LogError::Away(_))
    ));
    assert_eq!(writer.unshown(), "two three");
    writer.show_committed(8);
    assert_eq!(
        (writer.text().as_str(), writer.unshown()),
        ("one two ", "three")
    );
    assert_eq!(writer.take_up().await.unwrap(), 0);
    assert!(
        matches!(writer.append("", 3).await, Err(LogError::Away(_))),
        "not proven"
    );
    writer.show_committed(13);
    writer.proven();
    writer.append("!", 4).await.unwrap();
    assert_eq!(
        (writer.text().as_str(), writer.unshown(), writer.is_away()),
        ("one two three!", "", false)
    );
    let mut reader = other.reader(id, 4).await.unwrap().unwrap();
    let text = "two three!".to_owned();
    assert_eq!(
        reader.next().await,
        Some(AnswerEvent::Text { offset: 4, text })
    );
}

/// The entry is in the stream, and the answer to it was lost: neither lost nor doubled, and the owner is the owner still.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_acknowledgement_is_lost_counts_once() {
    let cluster = tokio::task::block_in_place(RedisCluster::start);
    let prefix = prefix();
    let id = GenerationId::new();
    let key = key(&prefix, id);
    let node = cluster.master_of(&key);
    let proxy = Proxy::before(cluster.port(node)).await;
    let announced = proxy.port().to_string();
    cluster.command(
        node,
        &["CONFIG", "SET", "cluster-announce-port", &announced],
    );
    until("the proxy is in the way", async || {
        (0..RedisCluster::MASTERS).all(|node| {
            cluster
                .command(node, &["CLUSTER", "SLOTS"])
                .contains(&announced)
        })
    })
    .await;
    let redis = connect(&cluster, &prefix).await;
    let log = AnswerLog::shared(&redis);
    let elsewhere = AnswerLog::shared(&connect(&cluster, &prefix).await);
    let mut writer = begin(&log, id).await;
    writer.append("one ", 1).await.unwrap();
    proxy.lose_the_next_acknowledgement();
    assert!(matches!(
        writer.append("two ", 2).await,
        Err(LogError::Away(_))
    ));
    assert!(proxy.has_cut());
    let stored = |part: &str| {
        cluster
            .command(node, &["XRANGE", &key, "-", "+"])
            .matches(part)
            .count()
    };
    assert_eq!(stored("two "), 1, "it had been done");
    assert_eq!((writer.text().as_str(), writer.unshown()), ("one ", "two "));
    // SQL takes it meanwhile; the log turns out to have it.
    let mut reaches = None;
    until("the log can be taken up", async || {
        reaches = writer.take_up().await.ok();
        reaches.is_some()
    })
    .await;
    assert_eq!(reaches, Some(8));
    writer.show_committed(8);
    writer.proven();
    writer.append("three", 3).await.unwrap();
    assert_eq!(writer.text(), "one two three");
    assert_eq!(stored("two "), 1);
    let reader = elsewhere.reader(id, 0).await.unwrap().unwrap();
    writer.finish(done()).await.unwrap();
    assert_eq!(drain(reader).await.0, "one two three");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn readers_elsewhere_get_everything_once_however_often_they_come_back(
        pieces in prop::collection::vec("[a-zé漢🙂]{0,9}", 1..60),
        visits in prop::collection::vec(1usize..6, 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let Instances { one, other, .. } = instances(RedisCluster::shared()).await;
            let id = GenerationId::new();
            let mut writer = begin(&one, id).await;
            let whole: String = pieces.concat();
            let write = async {
                for piece in &pieces {
                    writer.append(piece, 0).await.unwrap();
                    tokio::task::yield_now().await;
                }
                writer.finish(done()).await.unwrap();
            };
            // Reads so many events at each visit, and comes back with what it holds.
            let read = async {
                let mut held = String::new();
                for visit in visits.iter().chain(std::iter::repeat(&usize::MAX)) {
                    let mut reader = other.reader(id, held.len()).await.unwrap().unwrap();
                    assert_eq!(reader.offset(), held.len());
                    for _ in 0..*visit {
                        match reader.next().await.unwrap() {
                            AnswerEvent::Text { offset, text } => {
                                assert_eq!(offset, held.len());
                                held.push_str(&text);
                            }
                            AnswerEvent::End(outcome) => {
                                assert_eq!(outcome, done());
                                return held;
                            }
                            event => panic!("{event:?}"),
                        }
                    }
                }
                unreachable!()
            };
            let (held, ()) = tokio::join!(read, write);
            assert_eq!(held, whole);
        });
    }
}
