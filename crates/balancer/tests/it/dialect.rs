//! The four ways to ask, and what an answer says in each of them.

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Chat,
    Generate,
    OpenAiChat,
    OpenAiCompletions,
}

pub(crate) const ALL: [Dialect; 4] = [
    Dialect::Chat,
    Dialect::Generate,
    Dialect::OpenAiChat,
    Dialect::OpenAiCompletions,
];

impl Dialect {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::OpenAiChat => "/v1/chat/completions",
            Self::OpenAiCompletions => "/v1/completions",
        }
    }

    /// What stands in its first record of text.
    pub(crate) fn first(self) -> &'static str {
        match self {
            Self::Chat | Self::Generate => "\"done\":false",
            Self::OpenAiChat | Self::OpenAiCompletions => "\"finish_reason\":null",
        }
    }

    pub(crate) fn is_openai(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::OpenAiCompletions)
    }

    /// A question for `model`, with more members.
    pub(crate) fn asking(self, model: &str, stream: bool, more: &Value) -> String {
        let mut body = match self {
            Self::Chat | Self::OpenAiChat => {
                json!({"model": model, "messages": [{"role": "user", "content": "Tell me of the fox."}]})
            }
            Self::Generate | Self::OpenAiCompletions => {
                json!({"model": model, "prompt": "Tell me of the fox.\n"})
            }
        };
        body["stream"] = stream.into();
        if self.is_openai() && stream {
            body["stream_options"] = json!({"include_usage": true});
        }
        if self == Self::OpenAiCompletions {
            body["max_tokens"] = 60.into();
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        body.to_string()
    }

    /// A streamed question for the model `m`.
    pub(crate) fn streamed(self) -> String {
        self.asking("m", true, &Value::Null)
    }

    fn records(self, body: &[u8]) -> Vec<String> {
        let body = std::str::from_utf8(body).unwrap();
        if self.is_openai() {
            let events = body.split("\n\n").filter(|event| !event.is_empty());
            events
                .map(|event| event.strip_prefix("data: ").unwrap().to_owned())
                .collect()
        } else {
            body.lines().map(str::to_owned).collect()
        }
    }

    /// What a streamed answer says in all.
    pub(crate) fn read(self, body: &[u8]) -> Said {
        let mut said = Said::default();
        for record in self.records(body) {
            assert!(said.ends == 0, "{record:?} comes after the end");
            if record == "[DONE]" {
                said.ends += 1;
                continue;
            }
            let record: Value = serde_json::from_str(&record).unwrap();
            if !record["error"].is_null() {
                let error = &record["error"];
                let words = error["message"].as_str().or(error.as_str());
                said.error = Some(words.unwrap().to_owned());
                continue;
            }
            assert!(said.error.is_none(), "{record} comes after the error");
            let choice = &record["choices"][0];
            let text = match self {
                Self::Chat => &record["message"]["content"],
                Self::Generate => &record["response"],
                Self::OpenAiChat => &choice["delta"]["content"],
                Self::OpenAiCompletions => &choice["text"],
            };
            said.text += text.as_str().unwrap_or_default();
            said.roles += usize::from(choice["delta"]["role"].is_string());
            if let Some(id) = record["id"].as_str()
                && !said.ids.iter().any(|known| known == id)
            {
                said.ids.push(id.to_owned());
            }
            if let Some(reason) = record["done_reason"].as_str() {
                said.reasons.push(reason.to_owned());
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                said.reasons.push(reason.to_owned());
            }
            if record["done"] == true {
                said.ends += 1;
                said.counts = (
                    record["prompt_eval_count"].as_u64().unwrap_or(0),
                    record["eval_count"].as_u64().unwrap_or(0),
                );
            }
            let usage = &record["usage"];
            if usage.is_object() {
                said.counts = (
                    usage["prompt_tokens"].as_u64().unwrap(),
                    usage["completion_tokens"].as_u64().unwrap(),
                );
            }
        }
        said
    }
}

/// What an answer says, whatever its form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) text: String,
    /// How often it says that it is done.
    pub(crate) ends: usize,
    pub(crate) reasons: Vec<String>,
    /// Tokens of the prompt and of the answer.
    pub(crate) counts: (u64, u64),
    pub(crate) roles: usize,
    pub(crate) ids: Vec<String>,
    pub(crate) error: Option<String>,
}
