use super::*;
use jarvis_protocol::ollama::{ModelExtension, ModelInfo};
use serde_json::{Value, json};
use std::fmt::Write as _;

fn listed(own: bool) -> ModelInfo {
    ModelInfo {
        name: "m:latest".into(),
        jarvis: own.then(ModelExtension::default),
        ..ModelInfo::default()
    }
}

/// Discovers with a node that renders by `template`.
fn discovered(template: impl Fn(&[Value]) -> Option<String>) -> Ways {
    let (mut discovery, mut next) = Discovery::start(&listed(false));
    loop {
        match next {
            Next::Known(ways) => return ways,
            Next::Probe { path, body } => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(
                    (path, &body["_debug_render_only"], &body["stream"]),
                    ("/api/chat", &json!(true), &json!(false))
                );
                let answer = match template(body["messages"].as_array().unwrap()) {
                    Some(prompt) => {
                        json!({"model": "m", "created_at": "", "message": {"role": "", "content": ""}, "done": false, "_debug_info": {"rendered_template": prompt}})
                    }
                    None => {
                        json!({"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": true})
                    }
                };
                next = discovery.answer(200, answer.to_string().as_bytes());
            }
        }
    }
}

fn chatml(messages: &[Value], last: impl Fn(&str) -> String) -> String {
    let mut prompt = String::new();
    for message in messages {
        let (role, content) = (
            message["role"].as_str().unwrap(),
            message["content"].as_str().unwrap(),
        );
        if role == "assistant" {
            return prompt + "<|im_start|>assistant\n" + &last(content);
        }
        let _ = write!(prompt, "<|im_start|>{role}\n{content}<|im_end|>\n");
    }
    prompt + "<|im_start|>assistant\n"
}

#[test]
fn the_engine_needs_no_probe() {
    let (_, next) = Discovery::start(&listed(true));
    assert!(matches!(next, Next::Known(ways) if ways.best() == Way::Engine));
}

#[test]
fn a_template_shows_what_it_does_with_a_beginning() {
    let open = discovered(|messages| Some(chatml(messages, str::to_owned)));
    assert_eq!(
        open,
        Ways {
            rendered: true,
            prefill: true,
            ..Ways::default()
        }
    );
    let closes =
        discovered(|messages| Some(chatml(messages, |text| format!("{text}<|im_end|>\n"))));
    assert_eq!(
        closes,
        Ways {
            rendered: true,
            ..Ways::default()
        }
    );
    let trims = discovered(|messages| Some(chatml(messages, |text| text.trim().to_owned())));
    assert_eq!(trims, closes);
    let trims_before =
        discovered(|messages| Some(chatml(messages, |text| text.trim_start().to_owned())));
    assert_eq!(trims_before, closes);
    let thinks = discovered(|messages| Some(chatml(messages, str::to_owned) + "<think>\n"));
    assert_eq!(
        thinks,
        Ways {
            rendered: true,
            thinks: true,
            ..Ways::default()
        }
    );
}

#[test]
fn a_version_that_does_not_show_its_prompt_has_no_way() {
    assert_eq!(discovered(|_| None).best(), Way::None);
    let (mut discovery, _) = Discovery::start(&listed(false));
    assert_eq!(
        discovery.answer(404, b"{\"error\":\"x\"}"),
        Next::Known(Ways::default())
    );
    let (mut discovery, _) = Discovery::start(&listed(false));
    assert_eq!(
        discovery.answer(200, b"nonsense"),
        Next::Known(Ways::default())
    );
}

#[tokio::test]
async fn nodes_are_found_out() {
    use jarvis_testkit::{FakeModel, FakeOllama, Trailing};
    let ollama = || FakeModel::ollama("m:latest");
    for (model, best, ways) in [
        (
            FakeModel::engine("m:latest"),
            Way::Engine,
            Ways {
                engine: true,
                ..Ways::default()
            },
        ),
        (
            ollama(),
            Way::RenderedRaw,
            Ways {
                rendered: true,
                prefill: true,
                ..Ways::default()
            },
        ),
        (
            FakeModel {
                trailing: Trailing::Closes,
                ..ollama()
            },
            Way::RenderedRaw,
            Ways {
                rendered: true,
                ..Ways::default()
            },
        ),
        (
            FakeModel {
                trailing: Trailing::Trims,
                ..ollama()
            },
            Way::RenderedRaw,
            Ways {
                rendered: true,
                ..Ways::default()
            },
        ),
        (
            FakeModel {
                shows_prompt: false,
                ..ollama()
            },
            Way::None,
            Ways::default(),
        ),
        (
            FakeModel {
                thinks: true,
                ..ollama()
            },
            Way::RenderedRaw,
            Ways {
                rendered: true,
                prefill: true,
                thinks: true,
                ..Ways::default()
            },
        ),
    ] {
        let node = FakeOllama::with(vec![model.clone()]).await;
        let (mut discovery, mut next) = Discovery::start(&model.info);
        let found = loop {
            match next {
                Next::Known(ways) => break ways,
                Next::Probe { path, body } => {
                    let reply = node.ask(path, body).await;
                    next = discovery.answer(reply.status, &reply.bytes);
                }
            }
        };
        assert_eq!((found, found.best()), (ways, best), "{model:?}");
    }
}
