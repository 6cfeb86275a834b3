use super::{done, drain, worlds};
use jarvis_domain::{GenerationId, Outcome, Status, durable::Taken};
use jarvis_store::{AnswerEvent, QueuePlace};
use proptest::prelude::*;

#[tokio::test]
async fn what_is_shown_comes_in_order_to_its_end() {
    for world in worlds().await {
        println!("on {}", world.name);
        let id = GenerationId::new();
        let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
        let mut reader = world.log.reader(id, 0).await.unwrap().unwrap();
        let place = QueuePlace {
            position: 2,
            eta_ms: Some(10),
        };
        writer.queued(place).await;
        assert_eq!(reader.next().await, Some(AnswerEvent::Queued(place)));
        for (tokens, piece) in (1..).zip(["Bon", "jour ", "été"]) {
            let offset = writer.offset();
            writer.append(piece, tokens).await.unwrap();
            let text = piece.to_owned();
            assert_eq!(
                reader.next().await,
                Some(AnswerEvent::Text { offset, text })
            );
        }
        assert_eq!(
            (writer.tokens(), writer.unshown(), writer.is_away()),
            (3, "", false)
        );
        let seen = world.log.snapshot(id).await.unwrap().unwrap();
        assert_eq!((seen.text.as_str(), seen.end), ("Bonjour été", None));
        writer.finish(done()).await.unwrap();
        assert_eq!(reader.next().await, Some(AnswerEvent::End(done())));
        assert_eq!(reader.next().await, None);
        assert_eq!(world.log.live_count(), 0);
    }
}

#[tokio::test]
async fn the_next_owner_goes_on_with_text_and_tokens() {
    for world in worlds().await {
        println!("on {}", world.name);
        let id = GenerationId::new();
        let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
        for (text, tokens) in [("one ", 1), ("two three ", 3), ("four", 300)] {
            writer.append(text, tokens).await.unwrap();
        }
        writer.tend().await;
        // As a kill leaves it.
        drop(writer);
        let hold = world.log.take_up(id, 2).await.unwrap();
        let logged = hold.logged();
        assert_eq!(
            (logged.text.as_str(), logged.tokens, logged.epoch),
            ("one two three four", 300, 1)
        );
        let mut writer = hold.go_on().unwrap();
        assert_eq!((writer.tokens(), writer.offset()), (300, 18));
        writer.append(" five", 301).await.unwrap();
        writer.hand_over(done());
        let hold = world.log.take_up(id, 3).await.unwrap();
        assert_eq!(
            (hold.logged().text.as_str(), hold.logged().tokens),
            ("one two three four five", 301)
        );
    }
}

#[tokio::test]
async fn a_new_owner_says_what_the_text_is() {
    for world in worlds().await {
        println!("on {}", world.name);
        let id = GenerationId::new();
        let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
        writer.append("abcdef", 1).await.unwrap();
        drop(writer);
        let hold = world.log.take_up(id, 2).await.unwrap();
        // SQL knows of an owner that the log has not seen.
        let taken = Taken {
            bases: "2:4".parse().unwrap(),
            text: "abcdXY".to_owned(),
            tokens: 2,
            logged: Some(4),
            end: None,
        };
        let mut writer = hold.writer(taken).unwrap();
        writer.append("Z", 3).await.unwrap();
        drop(writer);
        let hold = world.log.take_up(id, 3).await.unwrap();
        assert_eq!(hold.logged().text, "abcdXYZ");
    }
}

#[tokio::test]
async fn nul_becomes_a_character_that_every_store_keeps() {
    for world in worlds().await {
        println!("on {}", world.name);
        let id = GenerationId::new();
        let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
        writer.append("a\0b", 1).await.unwrap();
        assert_eq!((writer.text().as_str(), writer.offset()), ("a\u{fffd}b", 5));
        drop(writer);
        let hold = world.log.take_up(id, 2).await.unwrap();
        assert_eq!(hold.logged().text, "a\u{fffd}b");
    }
}

#[tokio::test]
async fn a_writer_that_dies_leaves_nobody_waiting() {
    for world in worlds().await {
        println!("on {}", world.name);
        let id = GenerationId::new();
        let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
        let reader = world.log.reader(id, 0).await.unwrap().unwrap();
        writer.append("half", 1).await.unwrap();
        drop(writer);
        let (text, outcome) = drain(reader).await;
        assert_eq!(
            (text.as_str(), outcome.status),
            ("half", Status::Interrupted)
        );
        assert_eq!(world.log.live_count(), 0);
    }
}

#[tokio::test]
async fn a_decided_end_outlives_its_writer() {
    for world in worlds().await {
        println!("on {}", world.name);
        let id = GenerationId::new();
        let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
        writer.append("whole", 1).await.unwrap();
        assert_eq!(world.log.decided(id).await.unwrap(), None);
        let stopped = Outcome {
            status: Status::Stopped,
            ..done()
        };
        writer.decide(&stopped).await.unwrap();
        let seen = world.log.snapshot(id).await.unwrap().unwrap();
        assert_eq!(seen.end, None, "a decision is not yet shown");
        writer.show_end(done()).await;
        let seen = world.log.snapshot(id).await.unwrap().unwrap();
        assert_eq!(seen.end, Some(done()));
        let reader = world.log.reader(id, 0).await.unwrap().unwrap();
        let (text, outcome) = drain(reader).await;
        assert_eq!((text.as_str(), outcome), ("whole", done()));
        drop(writer);
        assert_eq!(world.log.decided(id).await.unwrap(), Some(stopped.clone()));
        let hold = world.log.take_up(id, 2).await.unwrap();
        assert_eq!(hold.logged().end, Some(stopped));
        hold.go_on().unwrap().finish(done()).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_at_a_wrong_place_is_told_the_nearest_right_one() {
    for world in worlds().await {
        println!("on {}", world.name);
        let id = GenerationId::new();
        assert!(world.log.reader(id, 0).await.unwrap().is_none());
        assert_eq!(world.log.snapshot(id).await.unwrap(), None);
        let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
        writer.append("été", 1).await.unwrap();
        for (asked, given) in [(0, 0), (1, 0), (2, 2), (99, 5)] {
            let reader = world.log.reader(id, asked).await.unwrap().unwrap();
            assert_eq!(reader.offset(), given);
        }
        let mut reader = world.log.reader(id, 99).await.unwrap().unwrap();
        writer.append("!", 2).await.unwrap();
        assert_eq!(reader.whole(), "été!");
        writer.append("?", 3).await.unwrap();
        let text = "?".to_owned();
        assert_eq!(
            reader.next().await,
            Some(AnswerEvent::Text { offset: 6, text })
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_reader_sees_the_rest_exactly_once(pieces in prop::collection::vec("[a-zé漢🙂]{0,6}", 0..12), cut in 0usize..80, late in 0usize..12) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for world in worlds().await {
                println!("on {}", world.name);
                let id = GenerationId::new();
                let mut writer = world.log.take_up(id, 1).await.unwrap().go_on().unwrap();
                let whole: String = pieces.concat();
                let mut reader = None;
                for (n, piece) in pieces.iter().enumerate() {
                    if n == late {
                        reader = world.log.reader(id, cut).await.unwrap();
                    }
                    writer.append(piece, 0).await.unwrap();
                }
                let reader = match reader {
                    Some(reader) => reader,
                    None => world.log.reader(id, cut).await.unwrap().unwrap(),
                };
                let start = reader.offset();
                assert!(start <= cut && whole.is_char_boundary(start));
                writer.finish(done()).await.unwrap();
                assert_eq!(drain(reader).await.0, whole[start..]);
            }
        });
    }
}
