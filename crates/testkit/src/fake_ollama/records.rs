//! Answers as the dialects write them, in the order of Ollama's own fields.

use super::question::{Endpoint, Plan, Question};
use bytes::Bytes;
use serde_json::{Value, json};

pub(super) const WHEN: &str = "2026-01-01T00:00:00.000000001Z";
const SECONDS: u64 = 1_767_225_600;

/// Writes the records of one answer.
pub(super) struct Writer<'a> {
    pub(super) question: &'a Question,
    pub(super) id: u64,
    pub(super) load: u64,
    pub(super) extended: bool,
}

impl Writer<'_> {
    /// All records of an answer; the end is the last.
    pub(super) fn stream(&self, plan: &Plan) -> Vec<Bytes> {
        let thoughts = plan.thinking.iter().map(|text| self.thought(text));
        let mut records: Vec<Bytes> = thoughts.collect();
        for (text, ids) in &plan.pieces {
            records.push(self.piece(text, ids, records.is_empty()));
        }
        records.push(self.end(plan));
        records
    }

    /// A record with text.
    pub(super) fn piece(&self, text: &str, ids: &[i32], first: bool) -> Bytes {
        let model = &self.question.model;
        let text = go(&Value::from(text));
        let told = self
            .question
            .jarvis
            .as_ref()
            .and_then(|extension| extension.report_tokens)
            == Some(true);
        let tokens = if told && !ids.is_empty() && self.extended {
            format!(",\"jarvis\":{{\"tokens\":{}}}", json!(ids))
        } else {
            String::new()
        };
        let model = go(&Value::from(model.as_str()));
        match self.question.endpoint {
            Endpoint::Chat => format!("{{\"model\":{model},\"created_at\":\"{WHEN}\",\"message\":{{\"role\":\"assistant\",\"content\":{text}}},\"done\":false{tokens}}}\n").into(),
            Endpoint::Generate => format!("{{\"model\":{model},\"created_at\":\"{WHEN}\",\"response\":{text},\"done\":false{tokens}}}\n").into(),
            Endpoint::OpenAiChat => {
                let role = if first { "\"role\":\"assistant\"," } else { "" };
                self.chunk(&format!("[{{\"index\":0,\"delta\":{{{role}\"content\":{text}}},\"finish_reason\":null}}]"), &tokens)
            }
            Endpoint::OpenAiCompletions => self.chunk(&format!("[{{\"text\":{text},\"index\":0,\"finish_reason\":null}}]"), &tokens),
        }
    }

    fn thought(&self, text: &str) -> Bytes {
        let model = json!(self.question.model);
        let text = json!(text);
        match self.question.endpoint {
            Endpoint::Chat => format!("{{\"model\":{model},\"created_at\":\"{WHEN}\",\"message\":{{\"role\":\"assistant\",\"content\":\"\",\"thinking\":{text}}},\"done\":false}}\n").into(),
            Endpoint::Generate => format!("{{\"model\":{model},\"created_at\":\"{WHEN}\",\"response\":\"\",\"thinking\":{text},\"done\":false}}\n").into(),
            Endpoint::OpenAiChat => self.chunk(&format!("[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":\"\",\"reasoning\":{text}}},\"finish_reason\":null}}]"), ""),
            Endpoint::OpenAiCompletions => Bytes::new(),
        }
    }

    fn chunk(&self, choices: &str, more: &str) -> Bytes {
        let (id, object) = match self.question.endpoint {
            Endpoint::OpenAiChat => ("chatcmpl", "chat.completion.chunk"),
            _ => ("cmpl", "text_completion"),
        };
        let model = json!(self.question.model);
        format!(
            "data: {{\"id\":\"{id}-{}\",\"object\":\"{object}\",\"created\":{},\"model\":{model},\"system_fingerprint\":\"fp_ollama\",\"choices\":{choices}{more}}}\n\n",
            self.id,
            SECONDS + self.id,
        )
        .into()
    }

    /// The last record, or the last ones.
    pub(super) fn end(&self, plan: &Plan) -> Bytes {
        let (reason, asked, made) = (plan.reason, plan.prompt_tokens, plan.tokens);
        match self.question.endpoint {
            Endpoint::Chat | Endpoint::Generate => {
                let model = json!(self.question.model);
                let text = if self.question.endpoint == Endpoint::Chat {
                    "\"message\":{\"role\":\"assistant\",\"content\":\"\"}"
                } else {
                    "\"response\":\"\""
                };
                let load = if self.load == 0 {
                    String::new()
                } else {
                    format!("\"load_duration\":{},", self.load)
                };
                let jarvis = if self.extended && self.question.jarvis.is_some() {
                    ",\"jarvis\":{\"cached_tokens\":0}"
                } else {
                    ""
                };
                format!("{{\"model\":{model},\"created_at\":\"{WHEN}\",{text},\"done\":true,\"done_reason\":\"{reason}\",\"total_duration\":{},{load}\"prompt_eval_count\":{asked},\"prompt_eval_duration\":1000,\"eval_count\":{made},\"eval_duration\":2000{jarvis}}}\n", 3000 + self.load).into()
            }
            Endpoint::OpenAiChat | Endpoint::OpenAiCompletions => {
                let choice = if self.question.endpoint == Endpoint::OpenAiChat {
                    format!("[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]")
                } else {
                    format!("[{{\"text\":\"\",\"index\":0,\"finish_reason\":\"{reason}\"}}]")
                };
                let mut out = self.chunk(&choice, "").to_vec();
                if self.question.usage {
                    out.extend(self.chunk("[]", &format!(",\"usage\":{}", usage(asked, made))));
                }
                out.extend(b"data: [DONE]\n\n");
                out.into()
            }
        }
    }

    /// The whole answer as one JSON.
    pub(super) fn whole(&self, plan: &Plan) -> Value {
        let text: String = plan.pieces.iter().map(|(text, _)| text.as_str()).collect();
        let thinking = plan.thinking.concat();
        let model = &self.question.model;
        let mut whole = match self.question.endpoint {
            Endpoint::Chat => {
                json!({"model": model, "created_at": WHEN, "message": {"role": "assistant", "content": text}})
            }
            Endpoint::Generate => json!({"model": model, "created_at": WHEN, "response": text}),
            Endpoint::OpenAiChat => {
                return json!({"id": format!("chatcmpl-{}", self.id), "object": "chat.completion", "created": SECONDS, "model": model,
                    "system_fingerprint": "fp_ollama", "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": plan.reason}],
                    "usage": usage(plan.prompt_tokens, plan.tokens)});
            }
            Endpoint::OpenAiCompletions => {
                return json!({"id": format!("cmpl-{}", self.id), "object": "text_completion", "created": SECONDS, "model": model,
                    "system_fingerprint": "fp_ollama", "choices": [{"text": text, "index": 0, "finish_reason": plan.reason}],
                    "usage": usage(plan.prompt_tokens, plan.tokens)});
            }
        };
        if !thinking.is_empty() {
            match self.question.endpoint {
                Endpoint::Chat => whole["message"]["thinking"] = thinking.into(),
                _ => whole["thinking"] = thinking.into(),
            }
        }
        for (key, value) in [
            ("total_duration", 3000 + self.load),
            ("load_duration", self.load),
            ("prompt_eval_count", plan.prompt_tokens),
            ("prompt_eval_duration", 1000),
            ("eval_count", plan.tokens),
            ("eval_duration", 2000),
        ] {
            whole[key] = value.into();
        }
        whole["done"] = true.into();
        whole["done_reason"] = plan.reason.into();
        whole
    }

    /// The answer to `_debug_render_only`.
    pub(super) fn rendered(&self, prompt: &str) -> Value {
        let model = &self.question.model;
        let shown = json!({"rendered_template": prompt});
        match self.question.endpoint {
            Endpoint::Chat => {
                json!({"model": model, "created_at": WHEN, "message": {"role": "", "content": ""}, "done": false, "_debug_info": shown})
            }
            Endpoint::Generate => {
                json!({"model": model, "created_at": WHEN, "response": "", "done": false, "_debug_info": shown})
            }
            Endpoint::OpenAiChat => {
                json!({"id": format!("chatcmpl-{}", self.id), "object": "chat.completion", "created": SECONDS, "model": model,
                "system_fingerprint": "fp_ollama", "choices": [{"index": 0, "message": {"role": "", "content": ""}, "finish_reason": null}],
                "usage": usage(0, 0), "_debug_info": shown})
            }
            // It is lost on the way out, as with the real one.
            Endpoint::OpenAiCompletions => {
                json!({"id": format!("cmpl-{}", self.id), "object": "text_completion", "created": SECONDS, "model": model,
                "system_fingerprint": "fp_ollama", "choices": [{"text": "", "index": 0, "finish_reason": null}], "usage": usage(0, 0)})
            }
        }
    }
}

fn usage(asked: u64, made: u64) -> Value {
    json!({"prompt_tokens": asked, "completion_tokens": made, "total_tokens": asked + made})
}

/// JSON as Go writes it: some characters always as escapes.
fn go(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
}
