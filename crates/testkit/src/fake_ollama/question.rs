//! The four ways to ask, as one.

use super::{
    model::{FakeModel, Says, THOUGHTS},
    story::{Story, text_of},
};
use jarvis_protocol::{
    RequestExtension,
    ollama::{ChatRequest, GenerateRequest, Message, Options, Role},
    openai,
};
use serde_json::Value;

/// Which endpoint was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Generate,
    OpenAiChat,
    OpenAiCompletions,
}

impl Endpoint {
    pub(super) fn is_openai(self) -> bool {
        matches!(self, Self::OpenAiChat | Self::OpenAiCompletions)
    }
}

/// What was asked.
#[expect(clippy::struct_excessive_bools, reason = "as the dialects have them")]
pub(super) struct Question {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    pub(super) streamed: bool,
    pub(super) usage: bool,
    pub(super) render_only: bool,
    /// Without a template.
    pub(super) raw: bool,
    pub(super) messages: Vec<Message>,
    pub(super) prompt: String,
    pub(super) options: Options,
    pub(super) think: Option<bool>,
    /// The model stays in memory for no time.
    pub(super) unloads: bool,
    pub(super) jarvis: Option<RequestExtension>,
}

/// What is to be said, token by token: how it reads and which id it has.
pub(super) struct Plan {
    pub(super) thinking: Vec<String>,
    pub(super) pieces: Vec<(String, Vec<i32>)>,
    pub(super) reason: &'static str,
    pub(super) prompt_tokens: u64,
    pub(super) tokens: u64,
}

impl Question {
    /// Reads a request.
    pub(super) fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(body)?;
        let render_only = value["_debug_render_only"] == true;
        let think = value["think"].as_bool();
        let mut question = match endpoint {
            Endpoint::Chat => Self::chat(serde_json::from_slice(body)?),
            Endpoint::Generate => Self::generate(serde_json::from_slice(body)?),
            Endpoint::OpenAiChat => Self::openai_chat(serde_json::from_slice(body)?),
            Endpoint::OpenAiCompletions => Self::openai_completion(serde_json::from_slice(body)?),
        };
        question.render_only = render_only;
        question.think = think;
        question.unloads = value["keep_alive"] == 0;
        Ok(question)
    }

    fn of(endpoint: Endpoint, model: String, streamed: bool, options: Options) -> Self {
        Self {
            endpoint,
            model,
            streamed,
            usage: false,
            render_only: false,
            raw: false,
            messages: Vec::new(),
            prompt: String::new(),
            options,
            think: None,
            unloads: false,
            jarvis: None,
        }
    }

    fn chat(request: ChatRequest) -> Self {
        Self {
            messages: request.messages,
            jarvis: request.jarvis,
            ..Self::of(
                Endpoint::Chat,
                request.model,
                request.stream != Some(false),
                request.options,
            )
        }
    }

    fn generate(request: GenerateRequest) -> Self {
        Self {
            raw: request.raw,
            prompt: request.prompt,
            jarvis: request.jarvis,
            ..Self::of(
                Endpoint::Generate,
                request.model,
                request.stream != Some(false),
                request.options,
            )
        }
    }

    fn openai_chat(request: openai::ChatRequest) -> Self {
        let options = Options {
            num_predict: request
                .max_completion_tokens
                .or(request.max_tokens)
                .map(i64::from),
            stop: request.stop,
            ..Options::default()
        };
        let messages = request.messages.into_iter().map(|message| {
            let role = match message.role.as_str() {
                "system" | "developer" => Role::System,
                "assistant" => Role::Assistant,
                _ => Role::User,
            };
            Message::new(role, message.content.into_text())
        });
        Self {
            messages: messages.collect(),
            jarvis: request.jarvis,
            usage: request
                .stream_options
                .is_some_and(|options| options.include_usage),
            ..Self::of(Endpoint::OpenAiChat, request.model, request.stream, options)
        }
    }

    fn openai_completion(request: openai::CompletionRequest) -> Self {
        let options = Options {
            num_predict: request.max_tokens.map(i64::from),
            stop: request.stop,
            ..Options::default()
        };
        Self {
            prompt: match request.prompt {
                openai::Prompt::One(text) => text,
                openai::Prompt::Many(texts) => texts.concat(),
            },
            jarvis: request.jarvis,
            usage: request
                .stream_options
                .is_some_and(|options| options.include_usage),
            ..Self::of(
                Endpoint::OpenAiCompletions,
                request.model,
                request.stream,
                options,
            )
        }
    }

    /// Whether nothing is asked: the model shall only be loaded, or unloaded.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.prompt.is_empty()
    }

    /// The prompt that the model sees.
    pub(super) fn rendered(&self, model: &FakeModel) -> String {
        let thinks = model.thinks && self.think != Some(false);
        let bare = self.endpoint == Endpoint::OpenAiCompletions && model.is_engine();
        if self.raw || bare {
            self.prompt.clone()
        } else if self.messages.is_empty() {
            model.render(&[Message::new(Role::User, self.prompt.clone())], thinks)
        } else {
            model.render(&self.messages, thinks)
        }
    }

    /// What the model says to it.
    pub(super) fn plan(&self, model: &FakeModel) -> Plan {
        let extension = self.jarvis.clone().unwrap_or_default();
        let resumed = extension
            .resume
            .map_or_else(String::new, |resume| match resume.tokens {
                Some(ids) => text_of(&ids),
                None => resume.text,
            });
        let length = match model.says {
            Says::Echo => return self.echo(&resumed),
            Says::Story(length) => length,
        };
        let thinks = model.thinks && self.think != Some(false) && !self.raw;
        let prompt = self.rendered(model);
        let prompt = prompt.trim_end_matches(super::model::THINK).to_owned();
        let story = Story::after(&(prompt + &resumed), length);
        let whole_tokens = extension.report_tokens == Some(true);
        let (pieces, reason, tokens) = self.limited(story.rest, whole_tokens);
        let thinking: Vec<String> = if thinks {
            THOUGHTS.map(str::to_owned).into()
        } else {
            Vec::new()
        };
        Plan {
            tokens: tokens + thinking.len() as u64,
            thinking,
            pieces,
            reason,
            prompt_tokens: story.asked + story.said,
        }
    }

    fn echo(&self, resumed: &str) -> Plan {
        let said = self
            .messages
            .iter()
            .rfind(|message| message.role == Role::User);
        let said = said.map_or(self.prompt.as_str(), |message| &message.content);
        let whole = format!("You said: {said}");
        let rest = whole.strip_prefix(resumed).unwrap_or_default();
        let pieces: Vec<_> = rest
            .split_inclusive(' ')
            .map(|word| (word.to_owned(), Vec::new()))
            .collect();
        Plan {
            thinking: Vec::new(),
            tokens: pieces.len() as u64,
            pieces,
            reason: "stop",
            prompt_tokens: 5,
        }
    }

    /// Up to the token limit or a stop string. Text that may be the beginning of a stop string is kept back.
    fn limited(
        &self,
        all: Vec<(String, i32)>,
        whole_tokens: bool,
    ) -> (Vec<(String, Vec<i32>)>, &'static str, u64) {
        let limit = self.options.num_predict.filter(|limit| *limit > 0);
        let limit = limit.map_or(u64::MAX, i64::cast_unsigned);
        let (mut pieces, mut held, mut ids, mut tokens) =
            (Vec::new(), String::new(), Vec::new(), 0);
        let stops = &self.options.stop;
        for (text, id) in all {
            if tokens == limit {
                pieces.push((held, ids));
                pieces.retain(|(text, _)| !text.is_empty());
                return (pieces, "length", tokens);
            }
            tokens += 1;
            held += &text;
            ids.push(id);
            if let Some(at) = stops.iter().filter_map(|stop| held.find(stop)).min() {
                held.truncate(at);
                pieces.push((held, ids));
                pieces.retain(|(text, _)| !text.is_empty());
                return (pieces, "stop", tokens);
            }
            let mut kept = kept(&held, stops);
            if whole_tokens && kept > 0 {
                kept = held.len();
            }
            let rest = held.split_off(held.len() - kept);
            if !held.is_empty() {
                pieces.push((std::mem::take(&mut held), std::mem::take(&mut ids)));
            }
            held = rest;
        }
        pieces.push((held, ids));
        pieces.retain(|(text, _)| !text.is_empty());
        (pieces, "stop", tokens)
    }
}

/// How many bytes at the end of a text may be the beginning of a stop string.
fn kept(text: &str, stops: &[String]) -> usize {
    let beginnings = |stop: &String| {
        (1..stop.len())
            .filter(|end| stop.is_char_boundary(*end) && text.ends_with(&stop[..*end]))
            .max()
    };
    stops.iter().filter_map(beginnings).max().unwrap_or(0)
}
