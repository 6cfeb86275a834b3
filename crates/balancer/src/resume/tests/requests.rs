//! What another node is asked.

use super::{streams::piece, *};
use serde_json::{Value, json};

const ENGINE: Ways = Ways {
    engine: true,
    rendered: false,
    prefill: false,
    thinks: false,
};
const RENDERED: Ways = Ways {
    engine: false,
    rendered: true,
    prefill: false,
    thinks: false,
};
const PREFILL: Ways = Ways {
    engine: false,
    rendered: false,
    prefill: true,
    thinks: false,
};

/// A transcript of three records.
fn said(dialect: Dialect) -> Transcript {
    let mut transcript = of(dialect);
    let stream = ["a ", "b ", "\"c\" "]
        .map(|text| piece(dialect, text))
        .concat();
    follow(&mut transcript, [stream.as_bytes()]);
    transcript
}

fn step(dialect: Dialect, body: &str, ways: Ways) -> Result<Step, Why> {
    Origin::new(dialect, body.as_bytes())?.continuation(ways, &mut said(dialect))
}

fn asked(dialect: Dialect, body: &Value, ways: Ways) -> (&'static str, Dialect, Value) {
    match step(dialect, &body.to_string(), ways).unwrap() {
        Step::Ask(Ask {
            path,
            body,
            answers,
        }) => (path, answers, serde_json::from_slice(&body).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_engine_is_given_the_text() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "options": {"num_predict": 10, "seed": 1}, "keep_alive": "1h"});
    let (path, answers, asked) = asked(Dialect::OllamaChat, &body, ENGINE);
    assert_eq!((path, answers), ("/api/chat", Dialect::OllamaChat));
    let mut expected = body;
    expected["options"]["num_predict"] = json!(7);
    expected["jarvis"] = json!({"continue": {"text": "a b \"c\" "}});
    assert_eq!(asked, expected);
}

#[test]
fn a_continuation_is_continued() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "jarvis": {"continue": {"text": "before "}}});
    let (_, _, asked) = asked(Dialect::OllamaChat, &body, ENGINE);
    assert_eq!(
        asked["jarvis"],
        json!({"continue": {"text": "before a b \"c\" "}})
    );
}

#[test]
fn openai_requests_are_translated_for_the_engine() {
    let body = json!({"model": "m", "stream": true, "max_tokens": 10, "temperature": 0, "stop": "x", "seed": 3, "messages": [
        {"role": "developer", "content": "d"}, {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "text", "text": "?"}]}]});
    let (path, answers, translated) = asked(Dialect::OpenAiChat, &body, ENGINE);
    assert_eq!((path, answers), ("/api/chat", Dialect::OllamaChat));
    assert_eq!(
        translated,
        json!({"model": "m", "stream": true, "messages": [{"role": "system", "content": "d"}, {"role": "user", "content": "q?"}],
        "options": {"temperature": 0, "top_p": 1.0, "seed": 3, "stop": ["x"], "repeat_penalty": 1.0, "num_predict": 7}, "jarvis": {"continue": {"text": "a b \"c\" "}}})
    );
    let body = json!({"model": "m", "stream": true, "prompt": ["q"]});
    let (path, answers, translated) = asked(Dialect::OpenAiCompletions, &body, ENGINE);
    assert_eq!((path, answers), ("/api/generate", Dialect::OllamaGenerate));
    assert_eq!(
        (
            &translated["raw"],
            &translated["prompt"],
            &translated["options"]["num_predict"]
        ),
        (&json!(true), &json!("q"), &json!(13)),
        "the default of bare completions is 16"
    );
}

#[test]
fn a_prompt_is_rendered_and_gone_on_from() {
    // Keys in an order that no sorting would give: a template renders tools and schemas in the order they came.
    let body = "{\"zeta\":{\"b\":1,\"a\":2},\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"options\":{\"top_k\":1,\"num_predict\":9},\"keep_alive\":-1}";
    let Step::Render { path, body: shown } = step(Dialect::OllamaChat, body, RENDERED).unwrap()
    else {
        panic!("it is not rendered first");
    };
    assert_eq!(path, "/api/chat");
    assert_eq!(
        shown,
        "{\"zeta\":{\"b\":1,\"a\":2},\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"options\":{\"top_k\":1,\"num_predict\":9},\"keep_alive\":-1,\"stream\":false,\"_debug_render_only\":true}"
    );
    let origin = Origin::new(Dialect::OllamaChat, body.as_bytes()).unwrap();
    let transcript = said(Dialect::OllamaChat);
    let ask = origin
        .rendered(
            b"{\"_debug_info\":{\"rendered_template\":\"<q>\"}}",
            &transcript,
        )
        .unwrap();
    assert_eq!(
        (ask.path, ask.answers),
        ("/api/generate", Dialect::OllamaGenerate)
    );
    let asked: Value = serde_json::from_slice(&ask.body).unwrap();
    assert_eq!(
        asked,
        json!({"model": "m", "prompt": "<q>a b \"c\" ", "raw": true, "stream": true, "think": false, "options": {"top_k": 1, "num_predict": 6}, "keep_alive": -1})
    );
    assert_eq!(
        origin.rendered(b"{\"done\":true}", &transcript),
        Err(Why::NotRendered)
    );
    let thinks = b"{\"_debug_info\":{\"rendered_template\":\"<q><think>\\n\"}}";
    assert_eq!(origin.rendered(thinks, &transcript), Err(Why::Thinking));
}

#[test]
fn raw_prompts_need_no_rendering_and_no_discovery() {
    let body = json!({"model": "m", "prompt": "q", "raw": true});
    let (path, _, asked) = asked(Dialect::OllamaGenerate, &body, Ways::default());
    assert_eq!(
        (path, &asked["prompt"]),
        ("/api/generate", &json!("qa b \"c\" "))
    );
}

#[test]
fn bare_completions_are_rendered_where_the_prompt_is_shown() {
    let body = json!({"model": "m", "prompt": "q", "stream": true, "max_tokens": 9});
    let shown = step(Dialect::OpenAiCompletions, &body.to_string(), RENDERED).unwrap();
    assert!(matches!(
        shown,
        Step::Render {
            path: "/api/generate",
            ..
        }
    ));
}

#[test]
fn the_beginning_is_added_to_the_conversation() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "tools": [{"type": "function"}]});
    let (path, _, asked_new) = asked(Dialect::OllamaChat, &body, PREFILL);
    assert_eq!(path, "/api/chat");
    assert_eq!(
        asked_new["messages"][1],
        json!({"role": "assistant", "content": "a b \"c\" "})
    );
    let body = json!({"model": "m", "stream": true, "max_completion_tokens": 5, "messages": [{"role": "assistant", "content": "0 ", "name": "n"}]});
    let (path, answers, asked_more) = asked(Dialect::OpenAiChat, &body, PREFILL);
    assert_eq!(
        (path, answers),
        ("/v1/chat/completions", Dialect::OpenAiChat)
    );
    assert_eq!(
        asked_more["messages"],
        json!([{"role": "assistant", "name": "n", "content": "0 a b \"c\" "}])
    );
    assert_eq!(
        (
            &asked_more["max_completion_tokens"],
            asked_more.get("max_tokens")
        ),
        (&json!(2), None)
    );
}

#[test]
fn an_answer_without_tokens_left_is_ended() {
    for dialect in streams::ALL {
        let body = json!({"model": "m", "stream": true, "max_tokens": 3, "options": {"num_predict": 3}, "prompt": "q", "stream_options": {"include_usage": true}});
        let mut transcript = said(dialect);
        let origin = Origin::new(dialect, body.to_string().as_bytes()).unwrap();
        let Step::End(end) = origin.continuation(RENDERED, &mut transcript).unwrap() else {
            panic!("there is nothing left to ask");
        };
        assert_eq!(transcript.push(end.clone()).unwrap(), end);
        let ended = transcript.ended().unwrap();
        assert_eq!(
            (ended.reason.as_str(), ended.metrics.eval_count),
            ("length", 3)
        );
    }
}

#[test]
fn what_must_not_go_on_says_why() {
    let chat = Dialect::OllamaChat;
    let openai = Dialect::OpenAiChat;
    let image = json!([{"role": "user", "content": "q", "images": ["aGk="]}]);
    let parts = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:;base64,aGk="}}]}]);
    for (dialect, body, ways, why) in [
        (chat, json!({"stream": false}), ENGINE, Why::NotStreamed),
        (openai, json!({}), ENGINE, Why::NotStreamed),
        (chat, json!({"format": "json"}), ENGINE, Why::Constrained),
        (
            chat,
            json!({"Format": {"type": "object"}}),
            ENGINE,
            Why::Constrained,
        ),
        (
            openai,
            json!({"stream": true, "response_format": {"type": "json_object"}}),
            ENGINE,
            Why::Constrained,
        ),
        (
            openai,
            json!({"stream": true, "n": 2}),
            ENGINE,
            Why::Several,
        ),
        (
            Dialect::OpenAiCompletions,
            json!({"stream": true, "best_of": 2}),
            ENGINE,
            Why::Several,
        ),
        (
            openai,
            json!({"stream": true, "logprobs": true}),
            ENGINE,
            Why::Logprobs,
        ),
        (
            Dialect::OpenAiCompletions,
            json!({"stream": true, "echo": true}),
            ENGINE,
            Why::Echo,
        ),
        (
            Dialect::OllamaGenerate,
            json!({"suffix": "x"}),
            ENGINE,
            Why::Echo,
        ),
        (chat, json!({"messages": image}), RENDERED, Why::Images),
        (
            openai,
            json!({"stream": true, "messages": parts}),
            RENDERED,
            Why::Images,
        ),
        (
            chat,
            json!({"messages": [], "tools": [{}]}),
            RENDERED,
            Why::Tools,
        ),
        (
            Dialect::OllamaGenerate,
            json!({"prompt": "q"}),
            PREFILL,
            Why::NoWay,
        ),
        (chat, json!({"messages": []}), Ways::default(), Why::NoWay),
    ] {
        let refused = step(dialect, &body.to_string(), ways).unwrap_err();
        assert_eq!(refused, why, "{body}");
        assert!(!refused.to_string().is_empty() && !refused.label().is_empty());
    }
    assert_eq!(Origin::new(chat, b"[1]").unwrap_err(), Why::Request);
    assert_eq!(Origin::new(chat, b"\xff").unwrap_err(), Why::Request);
    let harmless = json!({"format": "", "logprobs": false, "suffix": "", "messages": [{"role": "user", "content": "q"}], "think": false});
    assert!(step(chat, &harmless.to_string(), ENGINE).is_ok());
    let plain = json!({"stream": true, "response_format": {"type": "text"}, "n": 1, "logprobs": null, "messages": [{"role": "user", "content": "q"}]});
    assert!(step(openai, &plain.to_string(), PREFILL).is_ok());
}

#[test]
fn the_second_best_way_serves_what_the_best_cannot() {
    let both = Ways {
        prefill: true,
        ..RENDERED
    };
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": "q", "images": ["aGk="]}]});
    let origin = Origin::new(Dialect::OllamaChat, body.to_string().as_bytes()).unwrap();
    assert_eq!(
        (origin.way(both), both.best()),
        (Ok(Way::Prefill), Way::RenderedRaw)
    );
}

#[test]
fn tokens_are_asked_for_where_nobody_else_speaks_of_them() {
    let told = telling_tokens(Dialect::OllamaChat, b"{\"b\":1,\"a\":2}").unwrap();
    assert_eq!(
        told,
        "{\"b\":1,\"a\":2,\"jarvis\":{\"report_tokens\":true}}"
    );
    let told = telling_tokens(Dialect::OpenAiChat, b"{\"stream\":true}").unwrap();
    assert_eq!(
        told,
        "{\"stream\":true,\"jarvis\":{\"report_tokens\":true}}"
    );
    for (dialect, body) in [
        (
            Dialect::OllamaChat,
            "{\"jarvis\":{\"report_tokens\":false}}",
        ),
        (Dialect::OllamaChat, "{\"stream\":false}"),
        (Dialect::OllamaChat, "{\"format\":\"json\"}"),
        (Dialect::OpenAiChat, "{\"messages\":[]}"),
        (Dialect::OllamaChat, "nonsense"),
    ] {
        assert_eq!(telling_tokens(dialect, body.as_bytes()), None, "{body}");
    }
}

#[test]
fn paths_name_dialects() {
    for dialect in streams::ALL {
        assert_eq!(Dialect::of_path(dialect.path()), Some(dialect));
    }
    assert_eq!(Dialect::of_path("/api/tags"), None);
}

#[test]
fn a_second_node_that_does_something_else_breaks() {
    let dialect = Dialect::OllamaChat;
    let origin = Origin::new(dialect, b"{\"model\":\"m\"}").unwrap();
    let good = piece(Dialect::OllamaGenerate, "x");
    for (bad, cause) in [
        (
            "{\"response\":\"\",\"thinking\":\"hm\",\"done\":false}\n",
            Cause::Malformed,
        ),
        (
            "{\"response\":\"\",\"tool_calls\":[{}],\"done\":false}\n",
            Cause::Malformed,
        ),
        ("nonsense\n", Cause::Malformed),
        ("{\"error\":\"full\"}\n", Cause::Failed("full".into())),
    ] {
        let mut transcript = said(dialect);
        let mut splice = Splice::new(
            &origin,
            &mut transcript,
            Dialect::OllamaGenerate,
            Spent::default(),
        );
        let broken = splice.push(Bytes::from(good.clone() + bad)).unwrap_err();
        assert_eq!(broken.cause, cause);
        transcript.push(broken.before).unwrap();
        assert_eq!(transcript.text(), "a b \"c\" x");
        assert_eq!(splice.finish().unwrap_err().cause, Cause::Cut);
    }
}

#[test]
fn the_last_record_may_lack_its_line_end_and_time_is_added() {
    let dialect = Dialect::OpenAiChat;
    let origin = Origin::new(dialect, b"{\"model\":\"m\",\"stream\":true}").unwrap();
    let mut transcript = said(dialect);
    let spent = Spent {
        total: std::time::Duration::from_nanos(100),
        decoding: std::time::Duration::from_nanos(50),
    };
    let mut splice = Splice::new(&origin, &mut transcript, Dialect::OllamaChat, spent);
    let end = streams::end(Dialect::OllamaChat);
    assert_eq!(
        splice.push(Bytes::from(end.trim_end().to_owned())).unwrap(),
        ""
    );
    let closed = transcript.push(splice.finish().unwrap()).unwrap();
    assert!(closed.ends_with(b"data: [DONE]\n\n") && transcript.is_complete());
    let dialect = Dialect::OllamaChat;
    let mut transcript = said(dialect);
    let mut splice = Splice::new(&origin, &mut transcript, dialect, spent);
    transcript
        .push(splice.push(Bytes::from(end)).unwrap())
        .unwrap();
    let metrics = transcript.ended().unwrap().metrics;
    assert_eq!(
        (
            metrics.total_duration,
            metrics.eval_duration,
            metrics.eval_count,
            metrics.prompt_eval_count
        ),
        (109, 50, 11, 2)
    );
}
