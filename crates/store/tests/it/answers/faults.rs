//! A master of the cluster that holds an answer dies, is stopped, comes back, comes back with less.

use super::{
    Instances, done, drain, instances,
    streams::{begin, key},
};
use crate::redis::until;
use jarvis_domain::{Epoch, GenerationId};
use jarvis_store::{AnswerEvent, AnswerLog, AnswerWriter, LogError};
use jarvis_testkit::services::RedisCluster;
use tokio::task::block_in_place;

/// What an owner does as long as its log is away, with SQL played by a string.
fn go_by_sql(writer: &mut AnswerWriter, sql: &mut String) {
    *sql = writer.text() + writer.unshown();
    writer.show_committed(sql.len());
}

/// What it does when it may be back.
async fn return_to_log(writer: &mut AnswerWriter, sql: &mut String) {
    until("the log can be taken up", async || {
        writer.take_up().await.is_ok()
    })
    .await;
    go_by_sql(writer, sql);
    writer.proven();
    writer.append("", writer.tokens()).await.unwrap();
    assert!(!writer.is_away());
}

/// A cluster, two instances on it, and an answer with the master that holds it.
async fn one_answer() -> (RedisCluster, Instances, GenerationId, usize) {
    let cluster = block_in_place(RedisCluster::start);
    let world = instances(&cluster).await;
    let id = GenerationId::new();
    let node = cluster.master_of(&key(&world.prefix, id));
    (cluster, world, id, node)
}

/// An answer that another master than `node` holds.
fn elsewhere(cluster: &RedisCluster, prefix: &str, node: usize) -> GenerationId {
    let fitting = |id: &GenerationId| cluster.master_of(&key(prefix, *id)) != node;
    std::iter::repeat_with(GenerationId::new)
        .find(fitting)
        .unwrap()
}

async fn text_of(log: &AnswerLog, id: GenerationId, epoch: Epoch) -> String {
    let mut text = String::new();
    until("the log can be read", async || {
        let hold = log.take_up(id, epoch).await;
        hold.map(|hold| hold.logged().text.clone_into(&mut text))
            .is_ok()
    })
    .await;
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_degrades_its_answers_alone_and_they_recover() {
    let (mut cluster, world, id, node) = one_answer().await;
    let unhurt = elsewhere(&cluster, &world.prefix, node);
    let mut writer = begin(&world.one, id).await;
    let mut other = begin(&world.one, unhurt).await;
    let follows = world.other.reader(unhurt, 0).await.unwrap().unwrap();
    let mut sql = String::new();
    let mut said = String::new();
    let mut held = String::new();
    for round in 0..3 {
        let mut reader = world.other.reader(id, held.len()).await.unwrap().unwrap();
        let piece = format!("{round}: été ");
        said.push_str(&piece);
        writer.append(&piece, 1).await.unwrap();
        while held != said {
            match reader.next().await.unwrap() {
                AnswerEvent::Text { offset, text } => {
                    assert_eq!(offset, held.len());
                    held.push_str(&text);
                }
                event => panic!("{event:?}"),
            }
        }
        block_in_place(|| cluster.kill9(node));
        for n in 0..20 {
            let piece = format!("{n} ");
            said.push_str(&piece);
            let shown = writer.text();
            assert!(matches!(
                writer.append(&piece, 1).await,
                Err(LogError::Away(_))
            ));
            assert_eq!(writer.text(), shown, "nothing is shown that is not kept");
            go_by_sql(&mut writer, &mut sql);
            assert_eq!(writer.text(), said);
            other.append(&piece, 1).await.unwrap();
        }
        assert_eq!(reader.next().await, Some(AnswerEvent::Away));
        assert!(matches!(
            world.other.reader(id, 0).await,
            Err(LogError::Away(_))
        ));
        until("it is said so", async || !world.redis.trouble().is_empty()).await;
        block_in_place(|| cluster.restart(node));
        return_to_log(&mut writer, &mut sql).await;
        until("nothing is wrong any more", async || {
            world.redis.trouble().is_empty()
        })
        .await;
    }
    other.finish(done()).await.unwrap();
    assert_eq!(
        drain(follows).await.0.split(' ').count(),
        61,
        "60 pieces and what follows the last"
    );
    let reader = world.other.reader(id, 0).await.unwrap().unwrap();
    writer.finish(done()).await.unwrap();
    assert_eq!(drain(reader).await.0, said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_stands_still_is_away_until_it_goes_on() {
    let (mut cluster, world, id, node) = one_answer().await;
    let mut writer = begin(&world.one, id).await;
    writer.append("one ", 1).await.unwrap();
    cluster.pause(node);
    assert!(matches!(
        writer.append("two ", 2).await,
        Err(LogError::Away(_))
    ));
    let mut sql = String::new();
    go_by_sql(&mut writer, &mut sql);
    assert!(matches!(writer.take_up().await, Err(LogError::Away(_))));
    cluster.resume(node);
    // What it had received before is done now: the same text again, perhaps.
    return_to_log(&mut writer, &mut sql).await;
    writer.append("three", 3).await.unwrap();
    assert_eq!(writer.text(), "one two three");
    drop(writer);
    assert_eq!(text_of(&world.other, id, 2).await, "one two three");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_restart_of_the_whole_cluster() {
    let mut cluster = block_in_place(RedisCluster::start);
    let world = instances(&cluster).await;
    let mut written = Vec::new();
    for n in 0..12 {
        let id = GenerationId::new();
        let mut writer = begin(&world.one, id).await;
        let text = format!("answer {n}");
        writer.append(&text, 1).await.unwrap();
        written.push((id, text));
    }
    block_in_place(|| {
        (0..RedisCluster::MASTERS).for_each(|node| cluster.kill9(node));
        (0..RedisCluster::MASTERS).for_each(|node| cluster.restart_alone(node));
        cluster.wait_whole();
    });
    for (id, text) in written {
        assert_eq!(text_of(&world.other, id, 2).await, text);
    }
}

/// As a power cut leaves it: the master comes back with less than it had acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_comes_back_with_less_is_noticed_and_given_the_rest() {
    let (mut cluster, world, id, node) = one_answer().await;
    let mut writer = begin(&world.one, id).await;
    writer.append("one ", 1).await.unwrap();
    let files = cluster.directory(node).join("appendonlydir");
    let mut kept = Vec::new();
    until("the first part lies in a file", async || {
        let paths = std::fs::read_dir(&files)
            .unwrap()
            .map(|file| file.unwrap().path());
        let texts = paths.map(|path| (std::fs::read(&path).unwrap(), path));
        kept = texts
            .map(|(text, path)| {
                (
                    text.windows(4).any(|part| part == b"one "),
                    text.len(),
                    path,
                )
            })
            .collect();
        kept.iter().any(|(has, ..)| *has)
    })
    .await;
    writer.append("two ", 2).await.unwrap();
    let mut follower = world.other.reader(id, 0).await.unwrap().unwrap();
    assert!(matches!(
        follower.next().await,
        Some(AnswerEvent::Text { offset: 0, .. })
    ));
    block_in_place(|| cluster.kill9(node));
    for (_, length, path) in kept {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length as u64).unwrap();
    }
    block_in_place(|| cluster.restart(node));
    // Nobody has written meanwhile, and nobody has told the owner.
    let first = writer.append("three ", 3).await;
    assert!(matches!(first, Err(LogError::Away(_))), "{first:?}");
    assert_eq!(writer.text(), "one two ");
    let mut sql = String::new();
    let mut reaches = 0;
    until("the log can be taken up", async || {
        let taken = writer.take_up().await;
        taken.map(|taken| reaches = taken).is_ok()
    })
    .await;
    assert_eq!(reaches, 4, "the rest is gone");
    return_to_log(&mut writer, &mut sql).await;
    writer.append("four", 4).await.unwrap();
    assert_eq!(writer.text(), "one two three four");
    drop(writer);
    let mut reader = world.other.reader(id, 8).await.unwrap().unwrap();
    assert!(
        matches!(reader.next().await, Some(AnswerEvent::Text { offset: 8, text }) if text == "three four")
    );
    assert_eq!(text_of(&world.one, id, 2).await, "one two three four");
}

/// The entry by which a later owner had taken the log up is lost with the master's last moments. The earlier owner does not
/// come to write again without having asked SQL.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_fence_does_not_let_an_earlier_owner_write() {
    let mut cluster = block_in_place(RedisCluster::start);
    let world = instances(&cluster).await;
    let id = GenerationId::new();
    let key = key(&world.prefix, id);
    let node = cluster.master_of(&key);
    let mut early = begin(&world.one, id).await;
    early.append("one ", 1).await.unwrap();
    let mut later = world.other.take_up(id, 2).await.unwrap().go_on().unwrap();
    later.append("two ", 2).await.unwrap();
    block_in_place(|| cluster.kill9(node));
    std::fs::remove_dir_all(cluster.directory(node).join("appendonlydir")).unwrap();
    let _ = std::fs::remove_file(cluster.directory(node).join("dump.rdb"));
    block_in_place(|| cluster.restart(node));
    for _ in 0..3 {
        assert!(matches!(
            early.append("never", 9).await,
            Err(LogError::Away(_))
        ));
    }
    assert_eq!(early.text(), "one ");
    // It may take the log up, which nobody has fenced now; but SQL would refuse its commit, so that it is never proven.
    until("the log can be taken up", async || {
        early.take_up().await.is_ok()
    })
    .await;
    assert!(matches!(
        early.append("never", 9).await,
        Err(LogError::Away(_))
    ));
    assert!(matches!(
        later.append("three", 3).await,
        Err(LogError::Away(_))
    ));
    let mut sql = String::new();
    return_to_log(&mut later, &mut sql).await;
    assert!(matches!(early.take_up().await, Err(LogError::Fenced)));
    let stored = cluster.command(node, &["XRANGE", &key, "-", "+"]);
    assert!(
        !stored.contains("never") && stored.contains("one two three"),
        "{stored}"
    );
}
