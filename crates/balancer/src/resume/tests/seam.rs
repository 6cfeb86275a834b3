//! Streams of a node that dies at every byte, gone on with on another one.

use super::*;
use jarvis_testkit::{FakeModel, FakeOllama, Says, Trailing};
use serde_json::{Value, json};
use std::collections::HashMap;

const MODEL: &str = "story:latest";
/// Tokens of an undisturbed answer.
const LENGTH: usize = 24;

/// One way, and nodes that offer it.
struct Lane {
    name: &'static str,
    model: FakeModel,
    ways: Ways,
}

fn ollama() -> FakeModel {
    FakeModel {
        says: Says::Story(LENGTH),
        ..FakeModel::ollama(MODEL)
    }
}

fn lanes() -> Vec<Lane> {
    let rendered = Ways {
        rendered: true,
        ..Ways::default()
    };
    let closes = FakeModel {
        trailing: Trailing::Closes,
        ..ollama()
    };
    vec![
        Lane {
            name: "engine",
            model: FakeModel {
                says: ollama().says,
                ..FakeModel::engine(MODEL)
            },
            ways: Ways {
                engine: true,
                ..Ways::default()
            },
        },
        Lane {
            name: "rendered",
            model: closes,
            ways: rendered,
        },
        Lane {
            name: "prefill",
            model: ollama(),
            ways: Ways {
                prefill: true,
                ..Ways::default()
            },
        },
    ]
}

fn request(dialect: Dialect) -> Value {
    let messages = json!([{"role": "system", "content": "Be <brief>."}, {"role": "user", "content": "Il était une fois \"quoi\" ?"}]);
    match dialect {
        Dialect::OllamaChat => json!({"model": "story", "messages": messages}),
        Dialect::OllamaGenerate => {
            json!({"model": "story", "prompt": "Raconte.\n", "options": {"seed": 7}})
        }
        Dialect::OpenAiChat => {
            json!({"model": "story", "messages": messages, "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 200})
        }
        Dialect::OpenAiCompletions => {
            json!({"model": "story", "prompt": "Raconte.\n", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 200})
        }
    }
}

/// What a client of the dialect makes of the bytes.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    text: String,
    roles: usize,
    ids: Vec<String>,
    reasons: Vec<String>,
    /// Of the prompt and of the answer.
    counts: Vec<(u64, u64)>,
    ends: usize,
    errors: usize,
}

fn seen(dialect: Dialect, bytes: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let text = std::str::from_utf8(bytes).unwrap();
    let records: Vec<&str> = if dialect.is_ollama() {
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().collect()
    } else {
        assert!(text.is_empty() || text.ends_with("\n\n"));
        text.split("\n\n")
            .filter(|event| !event.is_empty())
            .map(|event| {
                event
                    .strip_prefix("data: ")
                    .unwrap_or_else(|| panic!("{event:?}"))
            })
            .collect()
    };
    for record in records {
        assert_eq!(seen.ends, 0, "{record} after the end");
        if record == "[DONE]" {
            seen.ends += 1;
            continue;
        }
        let record: Value = serde_json::from_str(record).unwrap();
        assert!(record.get("jarvis").is_none(), "{record}");
        if record.get("error").is_some() {
            seen.errors += 1;
            continue;
        }
        note(dialect, &record, &mut seen);
    }
    seen.ids.dedup();
    seen
}

fn note(dialect: Dialect, record: &Value, seen: &mut Seen) {
    let choice = &record["choices"][0];
    let text = match dialect {
        Dialect::OllamaChat => &record["message"]["content"],
        Dialect::OllamaGenerate => &record["response"],
        Dialect::OpenAiChat => &choice["delta"]["content"],
        Dialect::OpenAiCompletions => &choice["text"],
    };
    seen.text += text.as_str().unwrap_or_default();
    seen.ids.push(format!(
        "{} {} {}",
        record["id"], record["created"], record["model"]
    ));
    if dialect.is_ollama() {
        assert!(
            record["created_at"]
                .as_str()
                .is_some_and(|when| when.starts_with("2026-"))
        );
        if record["done"] == true {
            seen.ends += 1;
            seen.reasons
                .push(record["done_reason"].as_str().unwrap().into());
            seen.counts.push((
                record["prompt_eval_count"].as_u64().unwrap_or(0),
                record["eval_count"].as_u64().unwrap(),
            ));
        }
        return;
    }
    seen.roles += usize::from(choice["delta"].get("role").is_some());
    seen.reasons
        .extend(choice["finish_reason"].as_str().map(str::to_owned));
    if let Some(usage) = record.get("usage").filter(|usage| !usage.is_null()) {
        let count = |name: &str| usage[name].as_u64().unwrap();
        assert_eq!(
            count("total_tokens"),
            count("prompt_tokens") + count("completion_tokens")
        );
        seen.counts
            .push((count("prompt_tokens"), count("completion_tokens")));
    }
}

/// A node to go on with, that remembers what it answered: the same question has the same answer.
struct Second {
    node: FakeOllama,
    ways: Ways,
    answered: HashMap<(&'static str, Bytes), Vec<u8>>,
}

impl Second {
    async fn of(lane: &Lane) -> Self {
        Self {
            node: FakeOllama::with(vec![lane.model.clone()]).await,
            ways: lane.ways,
            answered: HashMap::new(),
        }
    }

    async fn ask(&mut self, path: &'static str, body: Bytes) -> Vec<u8> {
        if let Some(known) = self.answered.get(&(path, body.clone())) {
            return known.clone();
        }
        let reply = self.node.ask(path, body.clone()).await;
        assert_eq!(
            (reply.status, reply.whole),
            (200, true),
            "{path} {:?}",
            String::from_utf8_lossy(&reply.bytes)
        );
        self.answered.insert((path, body), reply.bytes.clone());
        reply.bytes
    }

    /// Goes on, in chunks of `size`, for at most `most` bytes of this node's stream; gives what the client sees.
    async fn go_on(
        &mut self,
        origin: &Origin,
        transcript: &mut Transcript,
        size: usize,
        most: usize,
    ) -> Vec<u8> {
        let ask = match origin.continuation(self.ways, transcript).unwrap() {
            Step::Ask(ask) => ask,
            Step::Render { path, body } => {
                let shown = self.ask(path, body).await;
                origin.rendered(&shown, transcript).unwrap()
            }
            Step::End(bytes) => return transcript.push(bytes).unwrap().to_vec(),
        };
        let stream = self.ask(ask.path, ask.body.clone()).await;
        let mut splice = Splice::new(origin, transcript, ask.answers, Spent::default());
        let mut out = Vec::new();
        let stream = &stream[..most.min(stream.len())];
        for chunk in stream.chunks(size) {
            let spliced = splice
                .push(Bytes::copy_from_slice(chunk))
                .unwrap_or_else(|broken| panic!("{broken:?} {:?}", String::from_utf8_lossy(chunk)));
            out.extend_from_slice(&transcript.push(spliced).unwrap());
        }
        out
    }
}

#[tokio::test]
async fn a_stream_that_dies_at_any_byte_goes_on_by_every_way() {
    for lane in lanes() {
        for dialect in streams::ALL {
            if lane.name == "prefill"
                && matches!(
                    dialect,
                    Dialect::OllamaGenerate | Dialect::OpenAiCompletions
                )
            {
                continue;
            }
            every_byte(&lane, dialect).await;
        }
    }
}

async fn every_byte(lane: &Lane, dialect: Dialect) {
    let first = FakeOllama::with(vec![lane.model.clone()]).await;
    let mut second = Second::of(lane).await;
    let body = request(dialect).to_string();
    let stream = first.ask(dialect.path(), body.clone()).await.bytes;
    let (shown, _) = follow(&mut of(dialect).hide_tokens(), [&stream[..]]);
    let whole = seen(dialect, &shown);
    assert_eq!(
        (whole.ends, whole.counts.len(), whole.counts[0].1),
        (1, 1, LENGTH as u64),
        "{whole:?}"
    );
    let origin = Origin::new(dialect, body.as_bytes()).unwrap();
    for cut in 0..=stream.len() {
        let mut transcript = of(dialect);
        let (mut out, broken) = follow(&mut transcript, [&stream[..cut]]);
        assert_eq!(broken, None);
        if !transcript.begun() || transcript.is_complete() {
            continue;
        }
        let mut lost_usage = transcript.finished().is_some();
        // Every third time the second node dies too.
        if cut % 3 == 0 {
            out.extend(second.go_on(&origin, &mut transcript, 7, cut / 2).await);
        }
        lost_usage |= !transcript.is_complete() && transcript.finished().is_some();
        if !transcript.is_complete() {
            out.extend(
                second
                    .go_on(&origin, &mut transcript, 1 + cut % 200, usize::MAX)
                    .await,
            );
        }
        let joined = seen(dialect, &out);
        let at = format!("{} {dialect:?} cut at {cut}", lane.name);
        assert_eq!(joined.text, whole.text, "{at}");
        assert_eq!(
            (
                joined.ends,
                joined.errors,
                joined.roles,
                &joined.ids,
                &joined.reasons
            ),
            (1, 0, whole.roles, &whole.ids, &whole.reasons),
            "{at}"
        );
        if lost_usage {
            // The answer was whole but for its figures: nobody can tell those of the prompt any more.
            assert_eq!(joined.counts.last().unwrap().1, LENGTH as u64, "{at}");
        } else {
            assert_eq!(joined.counts, whole.counts, "{at}");
        }
        assert!(transcript.is_complete());
    }
}

#[tokio::test]
async fn thoughts_that_are_over_are_written_back() {
    let lane = Lane {
        name: "thinks",
        model: FakeModel {
            thinks: true,
            ..ollama()
        },
        ways: Ways {
            rendered: true,
            prefill: true,
            thinks: true,
            ..Ways::default()
        },
    };
    for dialect in [
        Dialect::OllamaChat,
        Dialect::OllamaGenerate,
        Dialect::OpenAiChat,
    ] {
        let mut second = Second::of(&lane).await;
        let body = request(dialect).to_string();
        let stream = second.node.ask(dialect.path(), body.clone()).await.bytes;
        let (shown, _) = follow(&mut of(dialect).hide_tokens(), [&stream[..]]);
        let whole = seen(dialect, &shown);
        assert_eq!(whole.counts[0].1, LENGTH as u64 + 2);
        let origin = Origin::new(dialect, body.as_bytes()).unwrap();
        let (mut thinking, mut joined) = (0, 0);
        for cut in 0..stream.len() {
            let mut transcript = of(dialect);
            let (mut out, _) = follow(&mut transcript, [&stream[..cut]]);
            if !transcript.begun() || transcript.finished().is_some() {
                continue;
            }
            if transcript.text().is_empty() {
                let refused = origin.continuation(lane.ways, &mut transcript);
                assert_eq!(refused, Err(Why::Thinking));
                thinking += 1;
                continue;
            }
            out.extend(
                second
                    .go_on(&origin, &mut transcript, 100, usize::MAX)
                    .await,
            );
            assert_eq!(seen(dialect, &out), whole, "{dialect:?} {cut}");
            joined += 1;
        }
        assert!(thinking > 100 && joined > 1000);
    }
}

#[tokio::test]
async fn a_wrong_continuation_would_show() {
    let node = FakeOllama::with(vec![ollama()]).await;
    let body = request(Dialect::OllamaChat).to_string();
    let whole = seen(
        Dialect::OllamaChat,
        &node.ask("/api/chat", body).await.bytes,
    )
    .text;
    let prompt = |said: &str| {
        let prompt = format!(
            "<|im_start|>system\nBe <brief>.<|im_end|>\n<|im_start|>user\nIl était une fois \"quoi\" ?<|im_end|>\n<|im_start|>assistant\n{said}"
        );
        json!({"model": "story", "prompt": prompt, "raw": true}).to_string()
    };
    let (said, rest) = whole.split_at(whole.char_indices().nth(20).unwrap().0);
    let right = node.ask("/api/generate", prompt(said)).await;
    assert_eq!(seen(Dialect::OllamaGenerate, &right.bytes).text, rest);
    let lost: String = said.chars().skip(1).collect();
    let wrong = node.ask("/api/generate", prompt(&lost)).await;
    assert!(
        seen(Dialect::OllamaGenerate, &wrong.bytes)
            .text
            .starts_with("[never said")
    );
}

#[tokio::test]
async fn told_tokens_make_the_seam_exact() {
    for dialect in streams::ALL {
        told_tokens_make_it_exact(dialect).await;
    }
}

async fn told_tokens_make_it_exact(dialect: Dialect) {
    let lane = &lanes()[0];
    let node = FakeOllama::with(vec![lane.model.clone()]).await;
    let mut second = Second::of(lane).await;
    let body = request(dialect).to_string();
    let telling = telling_tokens(dialect, body.as_bytes()).unwrap();
    let stream = node.ask(dialect.path(), telling).await.bytes;
    let (shown, _) = follow(&mut of(dialect).hide_tokens(), [&stream[..]]);
    let whole = seen(dialect, &shown);
    let origin = Origin::new(dialect, body.as_bytes()).unwrap();
    for cut in (0..stream.len()).step_by(11) {
        let mut transcript = of(dialect).hide_tokens();
        let (mut out, _) = follow(&mut transcript, [&stream[..cut]]);
        // A chunk that only announces the role has no tokens to tell; after the reason only the figures are lacking.
        if transcript.text().is_empty() || transcript.finished().is_some() {
            continue;
        }
        assert!(transcript.is_exact(), "{dialect:?} cut at {cut}");
        out.extend(second.go_on(&origin, &mut transcript, 50, 1500).await);
        if !transcript.is_complete() {
            assert!(
                transcript.is_exact(),
                "the second part tells its tokens too"
            );
            out.extend(second.go_on(&origin, &mut transcript, 50, usize::MAX).await);
        }
        assert_eq!(seen(dialect, &out), whole, "{dialect:?} cut at {cut}");
    }
    let asked = second.node.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.body["jarvis"]["continue"]["tokens"].is_array())
    );
}

#[tokio::test]
async fn limits_and_stop_strings_hold_across_the_seam() {
    for lane in lanes() {
        for dialect in [Dialect::OllamaChat, Dialect::OpenAiChat] {
            let node = FakeOllama::with(vec![lane.model.clone()]).await;
            let free = node.ask(dialect.path(), request(dialect).to_string()).await;
            let text = seen(dialect, &free.bytes).text;
            // It spans several records, so that a seam falls into it.
            let middle: String = text.chars().skip(30).take(9).collect();
            for (limit, stop) in [(Some(15), None), (None, Some(middle.as_str()))] {
                let body = bounded(dialect, limit, stop);
                let expected = match stop {
                    Some(stop) => (text[..text.find(stop).unwrap()].to_owned(), "stop"),
                    None => (String::new(), "length"),
                };
                let whole = bounded_everywhere(&lane, dialect, &body.to_string()).await;
                assert_eq!(whole.reasons, [expected.1]);
                assert!(stop.is_none() || whole.text == expected.0);
                assert!(limit.is_none() || whole.counts[0].1 == 15);
            }
        }
    }
}

fn bounded(dialect: Dialect, limit: Option<u64>, stop: Option<&str>) -> Value {
    let mut body = request(dialect);
    if dialect.is_ollama() {
        body["options"] = json!({"num_predict": limit, "stop": stop, "temperature": 0.5});
    } else {
        body["max_completion_tokens"] = json!(limit);
        body["stop"] = json!(stop);
        body["max_tokens"] = Value::Null;
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

async fn bounded_everywhere(lane: &Lane, dialect: Dialect, body: &str) -> Seen {
    let mut node = Second::of(lane).await;
    let stream = node.node.ask(dialect.path(), body.to_owned()).await.bytes;
    let (shown, _) = follow(&mut of(dialect).hide_tokens(), [&stream[..]]);
    let whole = seen(dialect, &shown);
    let origin = Origin::new(dialect, body.as_bytes()).unwrap();
    for cut in (0..stream.len()).step_by(9) {
        let mut transcript = of(dialect);
        let (mut out, _) = follow(&mut transcript, [&stream[..cut]]);
        if transcript.begun() && !transcript.is_complete() {
            out.extend(node.go_on(&origin, &mut transcript, 100, usize::MAX).await);
            let joined = seen(dialect, &out);
            assert_eq!(
                (&joined.text, &joined.reasons, joined.ends),
                (&whole.text, &whole.reasons, 1),
                "{} {dialect:?} {body} {cut}",
                lane.name
            );
        }
    }
    whole
}

#[test]
fn an_answer_that_cannot_go_on_ends_in_an_error_of_its_dialect() {
    for dialect in streams::ALL {
        let failed = failure(dialect, "it \"broke\"\n");
        let whole = streams::piece(dialect, "x") + std::str::from_utf8(&failed).unwrap();
        let found = seen(dialect, whole.as_bytes());
        assert_eq!((found.errors, found.ends), (1, 0));
        let mut transcript = of(dialect);
        let (_, cause) = follow(&mut transcript, [whole.as_bytes()]);
        assert_eq!(cause, Some(Cause::Failed("it \"broke\"\n".into())));
    }
}
