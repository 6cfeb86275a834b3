use jarvis_domain::{GenerationId, Status};
use jarvis_store::{AnswerEvent, AnswerLog, AnswerReader, Outcome, QueuePlace};
use proptest::prelude::*;
use std::io::Write as _;

fn done() -> Outcome {
    Outcome {
        status: Status::Done,
        usage: None,
        error: None,
    }
}

/// Reads to the end; panics on a gap or an overlap.
async fn drain(mut reader: AnswerReader) -> (String, Outcome) {
    let (mut text, start) = (String::new(), reader.offset());
    while let Some(event) = reader.next().await {
        match event {
            AnswerEvent::Text { offset, text: more } => {
                assert_eq!(offset, start + text.len());
                assert!(!more.is_empty());
                text.push_str(&more);
            }
            AnswerEvent::Queued(_) => {}
            AnswerEvent::End(outcome) => return (text, outcome),
        }
    }
    panic!("no end");
}

#[tokio::test]
async fn what_is_shown_lies_in_the_file_already() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    let mut writer = log.writer(id, 1).unwrap();
    let mut reader = log.reader(id, 0).unwrap();
    writer.queued(QueuePlace {
        position: 2,
        eta_ms: Some(10),
    });
    assert!(matches!(
        reader.next().await,
        Some(AnswerEvent::Queued(QueuePlace { position: 2, .. }))
    ));
    for piece in ["Bon", "jour ", "été"] {
        writer.append(piece).unwrap();
        let Some(AnswerEvent::Text { offset, text }) = reader.next().await else {
            panic!()
        };
        let file = std::fs::read_to_string(directory.path().join(format!("{id}.txt"))).unwrap();
        assert_eq!(&file[offset..], text);
    }
    writer.finish(done()).unwrap();
    assert_eq!(reader.next().await, Some(AnswerEvent::End(done())));
    assert_eq!(reader.next().await, None);
    assert!(log.reader(id, 0).is_none());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_next_owner_goes_on_from_whole_characters() {
    let directory = tempfile::tempdir().unwrap();
    let id = GenerationId::new();
    let path = directory.path().join(format!("{id}.txt"));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all("caf\u{e9}".as_bytes()).unwrap();
    file.write_all(&[0xf0, 0x9f]).unwrap();
    let log = AnswerLog::open(directory.path(), true).unwrap();
    let mut writer = log.writer(id, 2).unwrap();
    assert_eq!((writer.text().as_str(), writer.offset()), ("café", 5));
    writer.append(" noir").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "café noir");
    writer.hand_over(done());
    assert!(path.exists(), "a hand-over keeps the file");
    assert_eq!(log.sweep(&[id]).unwrap(), 0);
    assert_eq!(log.sweep(&[]).unwrap(), 1);
}

#[test]
fn the_next_owner_finds_how_many_tokens_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    let mut writer = log.writer(id, 1).unwrap();
    assert_eq!(writer.tokens(), 0);
    for (text, tokens) in [("one ", 1), ("two three ", 3), ("four", 300)] {
        writer.append(text).unwrap();
        writer.note_tokens(tokens).unwrap();
    }
    assert_eq!(writer.tokens(), 300);
    // As a kill leaves it.
    drop(writer);
    let mut writer = log.writer(id, 2).unwrap();
    assert_eq!((writer.tokens(), writer.text().len()), (300, 18));
    writer.note_tokens(301).unwrap();
    assert_eq!(log.sweep(&[id]).unwrap(), 0);
    writer.finish(done()).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    // What is no count is none.
    std::fs::write(directory.path().join(format!("{id}.tokens")), "abc").unwrap();
    assert_eq!(log.writer(id, 3).unwrap().tokens(), 0);
}

#[tokio::test]
async fn a_writer_that_dies_leaves_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    let mut writer = log.writer(id, 1).unwrap();
    let reader = log.reader(id, 0).unwrap();
    writer.append("half").unwrap();
    drop(writer);
    let (text, outcome) = drain(reader).await;
    assert_eq!(
        (text.as_str(), outcome.status),
        ("half", Status::Interrupted)
    );
    assert_eq!(log.live_count(), 0);
}

#[tokio::test]
async fn a_decided_end_outlives_its_writer_and_goes_with_the_text() {
    let directory = tempfile::tempdir().unwrap();
    for sync in [false, true] {
        let log = AnswerLog::open(directory.path(), sync).unwrap();
        let id = GenerationId::new();
        let mut writer = log.writer(id, 1).unwrap();
        writer.append("whole").unwrap();
        assert_eq!(log.decided(id).unwrap(), None);
        let stopped = Outcome {
            status: Status::Stopped,
            usage: None,
            error: None,
        };
        writer.decide(&stopped).unwrap();
        assert_eq!(log.shown_end(id), None, "a decision is not yet shown");
        writer.show_end(done());
        assert_eq!(log.shown_end(id), Some(done()));
        let (text, outcome) = drain(log.reader(id, 0).unwrap()).await;
        assert_eq!((text.as_str(), outcome), ("whole", done()));
        drop(writer);
        assert_eq!(log.decided(id).unwrap(), Some(stopped));
        assert_eq!(log.sweep(&[id]).unwrap(), 0);
        log.writer(id, 2).unwrap().finish(done()).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_half_written_end_is_no_end_and_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    std::fs::write(directory.path().join(format!("{id}.tmp")), "{").unwrap();
    assert_eq!(log.decided(id).unwrap(), None);
    std::fs::write(directory.path().join(format!("{id}.end")), "{").unwrap();
    assert!(log.decided(id).is_err());
    assert_eq!(log.sweep(&[]).unwrap(), 2);
}

/// Reading a device would never end.
#[tokio::test]
async fn an_answer_is_kept_in_a_regular_file_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    std::os::unix::fs::symlink("/dev/full", directory.path().join(format!("{id}.txt"))).unwrap();
    assert!(log.writer(id, 1).is_err());
    assert!(log.reader(id, 0).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_reader_sees_the_rest_exactly_once(pieces in prop::collection::vec("[a-zé漢🙂]{0,6}", 0..12), cut in 0usize..80, late in 0usize..12) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let log = AnswerLog::open(directory.path(), false).unwrap();
            let id = GenerationId::new();
            let mut writer = log.writer(id, 1).unwrap();
            let whole: String = pieces.concat();
            let mut reader = None;
            for (n, piece) in pieces.iter().enumerate() {
                if n == late {
                    reader = log.reader(id, cut);
                }
                writer.append(piece).unwrap();
            }
            let reader = reader.unwrap_or_else(|| log.reader(id, cut).unwrap());
            let start = reader.offset();
            assert!(start <= cut && whole.is_char_boundary(start));
            writer.finish(done()).unwrap();
            assert_eq!(drain(reader).await.0, whole[start..]);
        });
    }
}
