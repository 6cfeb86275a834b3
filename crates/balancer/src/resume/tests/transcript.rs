use super::{
    streams::{ALL, PIECES, end, piece, whole},
    *,
};
use proptest::prelude::*;

#[test]
fn a_stream_cut_at_every_byte_is_the_same_stream() {
    for dialect in ALL {
        for line_end in ["\n", "\r\n"] {
            let stream = whole(dialect).replace('\n', line_end);
            for cut in 0..=stream.len() {
                let mut transcript = of(dialect);
                let (left, right) = stream.as_bytes().split_at(cut);
                let (first, _) = follow(&mut transcript, [left]);
                assert!(
                    first.is_empty() || first.ends_with(line_end.as_bytes()),
                    "half a record was given at {cut}"
                );
                let (second, broken) = follow(&mut transcript, [right]);
                assert_eq!(broken, None);
                assert_eq!(
                    [first, second].concat(),
                    stream.as_bytes(),
                    "{dialect:?} {cut}"
                );
                assert_eq!(transcript.text(), PIECES.concat());
                let end: &End = transcript.ended().unwrap();
                assert_eq!(
                    (
                        end.reason.as_str(),
                        end.metrics.eval_count,
                        end.metrics.prompt_eval_count
                    ),
                    ("stop", 8, 5)
                );
                assert_eq!(
                    (transcript.tokens_used(), transcript.is_exact()),
                    (8, false)
                );
                assert!(transcript.finish().is_ok());
            }
        }
    }
}

#[test]
fn what_is_whole_is_not_copied() {
    let stream = Bytes::from(whole(Dialect::OllamaChat));
    let out = of(Dialect::OllamaChat).push(stream.clone()).unwrap();
    assert_eq!((out.as_ptr(), out.len()), (stream.as_ptr(), stream.len()));
}

#[test]
fn a_stream_that_ends_early_is_cut() {
    for dialect in ALL {
        let stream = whole(dialect);
        let closed = stream.trim_end().len();
        for cut in 0..stream.len() {
            let mut transcript = of(dialect);
            let (mut out, _) = follow(&mut transcript, [&stream.as_bytes()[..cut]]);
            match transcript.finish() {
                Ok(last) => {
                    // Only the last line end is lacking: the answer is whole.
                    assert!(cut >= closed, "{dialect:?} {cut}");
                    out.extend_from_slice(&last);
                    assert_eq!(out, &stream.as_bytes()[..cut]);
                }
                Err(broken) => {
                    assert!(cut < closed, "{dialect:?} {cut}");
                    assert_eq!((broken.cause, broken.before.len()), (Cause::Cut, 0));
                    assert!(
                        !transcript.is_complete() && PIECES.concat().starts_with(transcript.text())
                    );
                }
            }
        }
    }
}

#[test]
fn a_bad_record_breaks_the_stream_after_the_good_ones() {
    let bad = [
        "{\"model\":\"m\",\"mess",
        "nonsense",
        "{}",
        "[]",
        "{\"done\":false,\"message\":{\"content\":5},\"choices\":[{\"delta\":{\"content\":5},\"text\":5}],\"response\":5}",
        "\u{1}",
    ];
    for dialect in ALL {
        let good = piece(dialect, "good");
        for bad in bad {
            let record = if dialect.is_ollama() {
                format!("{bad}\n")
            } else {
                format!("data: {bad}\n\n")
            };
            let mut transcript = of(dialect);
            let stream = good.clone() + &record + &end(dialect);
            let (out, cause) = follow(&mut transcript, [stream.as_bytes()]);
            assert_eq!(
                (out, cause),
                (good.clone().into_bytes(), Some(Cause::Malformed)),
                "{bad}"
            );
            assert_eq!(
                (transcript.text(), transcript.is_complete()),
                ("good", false)
            );
        }
    }
}

#[test]
fn bytes_that_are_no_text_break_the_stream() {
    let mut transcript = of(Dialect::OllamaChat);
    let mut stream = piece(Dialect::OllamaChat, "x").into_bytes();
    let at = stream.iter().position(|byte| *byte == b'x').unwrap();
    stream[at] = 0xff;
    assert_eq!(
        follow(&mut transcript, [&stream[..]]),
        (Vec::new(), Some(Cause::Malformed))
    );
}

#[test]
fn an_error_of_the_node_is_not_forwarded() {
    for (dialect, error) in [
        (Dialect::OllamaChat, "{\"error\":\"out of memory\"}\n"),
        (
            Dialect::OpenAiChat,
            "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"api_error\",\"param\":null,\"code\":null}}\n\n",
        ),
        (
            Dialect::OpenAiCompletions,
            "data: {\"error\":{\"message\":\"out of memory\"}}\n\n",
        ),
    ] {
        let mut transcript = of(dialect);
        let stream = piece(dialect, "x") + error;
        let (out, cause) = follow(&mut transcript, [stream.as_bytes()]);
        assert_eq!(out, piece(dialect, "x").into_bytes());
        assert_eq!(cause, Some(Cause::Failed("out of memory".into())));
    }
}

#[test]
fn a_record_without_end_is_refused_and_its_memory_freed() {
    for dialect in ALL {
        let limits = Limits {
            record: 1000,
            text: 100,
            unread: 0,
        };
        let mut transcript = Transcript::new(dialect, limits);
        let mut refused = None;
        for at in 0..200 {
            if let Err(broken) = transcript.push(Bytes::from(vec![b'x'; 10])) {
                refused = Some((at, broken.cause));
                break;
            }
        }
        assert_eq!(refused, Some((100, Cause::TooLong)), "{dialect:?}");
    }
}

#[test]
fn a_text_over_the_limit_is_relayed_but_not_kept() {
    let dialect = Dialect::OllamaChat;
    let mut transcript = Transcript::new(
        dialect,
        Limits {
            record: 1000,
            text: 8,
            unread: 0,
        },
    );
    let stream = piece(dialect, "12345678") + &piece(dialect, "9") + &piece(dialect, "0");
    assert_eq!(
        follow(&mut transcript, [stream.as_bytes()]),
        (stream.clone().into_bytes(), None)
    );
    let origin = Origin::new(dialect, b"{\"model\":\"m\"}").unwrap();
    assert_eq!(origin.resumable(&transcript), Err(Why::TooLong));
    assert_eq!(transcript.text(), "");
    let (out, _) = follow(&mut transcript, [end(dialect).as_bytes()]);
    assert!(!out.is_empty() && transcript.is_complete());
}

#[test]
fn what_makes_going_on_impossible_is_noticed() {
    let chat = |member: &str| {
        format!(
            "{{\"model\":\"m\",\"message\":{{\"role\":\"assistant\",\"content\":\"\",{member}}},\"done\":false}}\n"
        )
    };
    let event = |choices: &str| format!("data: {{\"id\":\"1\",\"choices\":[{choices}]}}\n\n");
    for (dialect, record, why) in [
        (Dialect::OllamaChat, chat("\"thinking\":\"hm\""), Why::Thinking),
        (Dialect::OllamaChat, chat("\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"content\":\"x\"}}}]"), Why::Tools),
        (Dialect::OllamaGenerate, "{\"model\":\"m\",\"response\":\"a\",\"done\":false,\"logprobs\":[{\"token\":\"a\"}]}\n".into(), Why::Logprobs),
        (Dialect::OllamaGenerate, "{\"model\":\"m\",\"response\":\"\\ud83d\",\"done\":false}\n".into(), Why::NoText),
        (Dialect::OpenAiChat, event("{\"index\":0,\"delta\":{\"reasoning\":\"hm\"}}"), Why::Thinking),
        (Dialect::OpenAiChat, event("{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}"), Why::Thinking),
        (Dialect::OpenAiChat, event("{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0}]}}"), Why::Tools),
        (Dialect::OpenAiChat, event("{\"index\":1,\"delta\":{\"content\":\"x\"}}"), Why::Several),
        (Dialect::OpenAiChat, event("{\"index\":0,\"delta\":{\"content\":\"x\"},\"logprobs\":{\"content\":[]}}"), Why::Logprobs),
    ] {
        let mut transcript = of(dialect);
        let origin = Origin::new(dialect, b"{\"model\":\"m\",\"stream\":true}").unwrap();
        // Thoughts are over once there is text; before that they cannot be continued.
        let harmless = if why == Why::Thinking {
            String::new()
        } else {
            piece(dialect, "x")
        };
        assert_eq!(follow(&mut transcript, [harmless.as_bytes()]).1, None);
        assert_eq!(origin.resumable(&transcript), Ok(()));
        let (out, broken) = follow(&mut transcript, [record.as_bytes()]);
        assert_eq!((out, broken), (record.clone().into_bytes(), None), "{record}");
        assert_eq!(origin.resumable(&transcript), Err(why), "{record}");
    }
}

#[test]
fn nothing_is_given_after_the_end() {
    for dialect in ALL {
        let mut transcript = of(dialect);
        let stream = whole(dialect);
        let more = stream.clone() + &piece(dialect, "late") + &end(dialect);
        assert_eq!(
            follow(&mut transcript, [more.as_bytes()]),
            (stream.into_bytes(), None)
        );
        assert_eq!(
            follow(&mut transcript, [piece(dialect, "later").as_bytes()]).0,
            b""
        );
        assert_eq!(transcript.text(), PIECES.concat());
    }
}

#[test]
fn comments_and_several_lines_of_data_are_events_too() {
    let mut transcript = of(Dialect::OpenAiChat);
    let stream = ": waiting\n\nevent: message\ndata: {\"id\":\"1\",\ndata: \"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\nid: 3\n\n\n";
    assert_eq!(follow(&mut transcript, [&stream.as_bytes()[..10]]).0, b"");
    assert!(!transcript.begun());
    let (out, broken) = follow(&mut transcript, [&stream.as_bytes()[10..]]);
    assert_eq!((out.len(), broken), (stream.len(), None));
    assert_eq!((transcript.text(), transcript.begun()), ("a", true));
}

#[test]
fn told_tokens_are_kept_and_hidden() {
    let shown = [
        piece(Dialect::OllamaChat, "a"),
        piece(Dialect::OllamaChat, "b"),
        end(Dialect::OllamaChat),
    ];
    let extended: Vec<String> = shown
        .iter()
        .zip(["[1,2]", "[3]", "[]"])
        .map(|(record, ids)| {
            record.replace("}\n", &format!(",\"jarvis\":{{\"tokens\":{ids}}}}}\n"))
        })
        .collect();
    let stream = extended.concat();
    for cut in 0..=stream.len() {
        let mut transcript = of(Dialect::OllamaChat).hide_tokens();
        let (left, right) = stream.as_bytes().split_at(cut);
        assert_eq!(
            follow(&mut transcript, [left, right]),
            (shown.concat().into_bytes(), None)
        );
        assert_eq!((transcript.tokens_used(), transcript.is_exact()), (3, true));
    }
    let mut seen = of(Dialect::OllamaChat);
    assert_eq!(follow(&mut seen, [stream.as_bytes()]).0, stream.as_bytes());
    // One record without them, and the rest is of no use.
    let mut mixed = of(Dialect::OllamaChat);
    follow(&mut mixed, [extended[0].as_bytes(), shown[1].as_bytes()]);
    assert_eq!((mixed.tokens_used(), mixed.is_exact()), (2, false));
}

/// The stream in pieces of these sizes, again and again.
fn cut_up<'s>(stream: &'s str, sizes: &[usize]) -> Vec<&'s [u8]> {
    let mut rest = stream.as_bytes();
    let mut sizes = sizes.iter().cycle();
    let piece = std::iter::from_fn(|| {
        let size = rest.len().min(*sizes.next()?);
        let (piece, more) = rest.split_at(size);
        rest = more;
        (size > 0).then_some(piece)
    });
    piece.collect()
}

proptest! {
    #[test]
    fn any_chunks_give_the_same_stream(
        texts in proptest::collection::vec(any::<String>(), 0..12),
        sizes in proptest::collection::vec(1usize..90, 1..40),
        which in 0usize..4,
    ) {
        let dialect = ALL[which];
        let records: String = texts.iter().map(|text| piece(dialect, text)).collect();
        let stream = records + &end(dialect);
        let mut transcript = of(dialect);
        let (out, broken) = follow(&mut transcript, cut_up(&stream, &sizes));
        prop_assert_eq!(broken, None);
        prop_assert_eq!(out, stream.as_bytes());
        prop_assert_eq!(transcript.text(), texts.concat());
        prop_assert!(transcript.is_complete());
    }

    /// Cut anywhere, what was left unread gives what reading at once gives.
    #[test]
    fn reading_later_changes_nothing(
        texts in proptest::collection::vec(any::<String>(), 0..24),
        sizes in proptest::collection::vec(prop_oneof![1usize..200, 900usize..2_000], 1..40),
        which in 0usize..4,
        unread in 1usize..6_000,
        cut in 0usize..12,
    ) {
        let dialect = ALL[which];
        let records: String = texts.iter().map(|text| piece(dialect, text)).collect();
        let stream = records + &end(dialect);
        let chunks = cut_up(&stream, &sizes);
        let short = chunks.len().saturating_sub(cut);
        let mut now = of(dialect);
        let mut later = Transcript::new(dialect, Limits { unread, ..Limits::default() });
        let shown = follow(&mut now, chunks[..short].iter().copied());
        prop_assert_eq!(follow(&mut later, chunks[..short].iter().copied()), shown);
        prop_assert_eq!(later.ended(), now.ended());
        if now.ended().is_none() {
            prop_assert_eq!(later.settle(), Ok(()));
            prop_assert_eq!(later.text(), now.text());
            prop_assert_eq!(later.tokens_used(), now.tokens_used());
            prop_assert_eq!(later.finished(), now.finished());
        }
    }

    #[test]
    fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..20, which in 0usize..4, unread in 0usize..300) {
        let mut transcript = Transcript::new(ALL[which], Limits { record: 64, text: 64, unread });
        let _ = follow(&mut transcript, bytes.chunks(size));
        let _ = transcript.finish();
    }
}
