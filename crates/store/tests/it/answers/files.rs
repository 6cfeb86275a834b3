use super::done;
use jarvis_domain::GenerationId;
use jarvis_store::{AnswerEvent, AnswerLog};
use std::io::Write as _;

#[tokio::test]
async fn what_is_shown_lies_in_the_file_already() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    let mut writer = log.take_up(id, 1).await.unwrap().go_on().unwrap();
    let mut reader = log.reader(id, 0).await.unwrap().unwrap();
    for piece in ["Bon", "jour ", "été"] {
        writer.append(piece, 1).await.unwrap();
        let Some(AnswerEvent::Text { offset, text }) = reader.next().await else {
            panic!()
        };
        let file = std::fs::read_to_string(directory.path().join(format!("{id}.txt"))).unwrap();
        assert_eq!(&file[offset..], text);
    }
    writer.decide(&done()).await.unwrap();
    writer.finish(done()).await.unwrap();
    assert!(log.reader(id, 0).await.unwrap().is_none());
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
    let mut writer = log.take_up(id, 2).await.unwrap().go_on().unwrap();
    assert_eq!((writer.text().as_str(), writer.offset()), ("café", 5));
    writer.append(" noir", 1).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "café noir");
    writer.decide(&done()).await.unwrap();
    writer.hand_over(done());
    assert!(path.exists(), "a hand-over keeps the files");
    assert_eq!(log.sweep(&[id]).unwrap(), 0);
    assert_eq!(log.sweep(&[]).unwrap(), 3);
}

#[tokio::test]
async fn what_is_no_count_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    std::fs::write(directory.path().join(format!("{id}.tokens")), "abc").unwrap();
    assert_eq!(log.take_up(id, 3).await.unwrap().logged().tokens, 0);
}

#[tokio::test]
async fn a_half_written_end_is_no_end_and_is_swept() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    std::fs::write(directory.path().join(format!("{id}.tmp")), "{").unwrap();
    assert_eq!(log.decided(id).await.unwrap(), None);
    std::fs::write(directory.path().join(format!("{id}.end")), "{").unwrap();
    assert!(log.decided(id).await.is_err());
    assert_eq!(log.take_up(id, 2).await.unwrap().logged().end, None);
    assert_eq!(log.sweep(&[]).unwrap(), 3);
}

/// Reading a device would never end.
#[tokio::test]
async fn an_answer_is_kept_in_a_regular_file_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let log = AnswerLog::open(directory.path(), false).unwrap();
    let id = GenerationId::new();
    std::os::unix::fs::symlink("/dev/full", directory.path().join(format!("{id}.txt"))).unwrap();
    assert!(log.take_up(id, 1).await.is_err());
    assert!(log.reader(id, 0).await.unwrap().is_none());
}
