//! What a node offers and how its models behave.

use jarvis_protocol::ollama::{Message, ModelExtension, ModelInfo, Role};
use serde_json::{Map, Value};
use std::{fmt::Write as _, time::Duration};

/// What a model says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// `You said: ` and the last message of the user.
    Echo,
    /// A text of so many tokens that depends on the prompt alone, and that goes on exactly where a prompt that holds its beginning stops.
    Story(usize),
}

/// What a template does with a conversation whose last message is the assistant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trailing {
    /// Leaves it open: it is the beginning of the answer.
    Open,
    /// Closes it and opens another turn.
    Closes,
    /// Leaves it open, without the spaces around it.
    Trims,
}

/// One model of a [`super::FakeOllama`].
#[derive(Debug, Clone)]
pub struct FakeModel {
    /// As it is listed. With Jarvis's extension it behaves as Jarvis's engine does.
    pub info: ModelInfo,
    /// What its entry in lists says beside what is usual.
    pub more: Map<String, Value>,
    /// What it says.
    pub says: Says,
    /// What its template does.
    pub trailing: Trailing,
    /// It thinks before it answers, unless told not to.
    pub thinks: bool,
    /// The node's version knows `_debug_render_only`.
    pub shows_prompt: bool,
    /// How long its first use takes, and what is reported for it.
    pub load: Duration,
}

impl From<ModelInfo> for FakeModel {
    fn from(info: ModelInfo) -> Self {
        Self {
            info,
            more: Map::new(),
            says: Says::Echo,
            trailing: Trailing::Open,
            thinks: false,
            shows_prompt: true,
            load: Duration::ZERO,
        }
    }
}

impl FakeModel {
    /// A model as Ollama has them, with a long answer.
    pub fn ollama(name: &str) -> Self {
        let info = ModelInfo {
            jarvis: None,
            ..super::FakeOllama::model(name)
        };
        Self {
            says: Says::Story(60),
            ..info.into()
        }
    }

    /// A model as Jarvis's engine has them, with the same long answer.
    pub fn engine(name: &str) -> Self {
        let mut model = Self::ollama(name);
        model.info.jarvis = Some(ModelExtension::default());
        model
    }

    /// As an entry of a list, of which `usual` is what every version says.
    pub(super) fn listed(&self, mut usual: Value) -> Value {
        let entry = usual.as_object_mut().expect("an entry is an object");
        entry.extend(self.more.clone());
        usual
    }

    pub(super) fn is_engine(&self) -> bool {
        self.info.jarvis.is_some()
    }

    /// Whether it goes by this name, `:latest` implied.
    pub(super) fn is(&self, name: &str) -> bool {
        self.info.name == name || self.info.name.strip_suffix(":latest") == Some(name)
    }

    /// The prompt of a conversation. `think`: it is to think first.
    pub(super) fn render(&self, messages: &[Message], think: bool) -> String {
        let mut prompt = String::new();
        for (at, message) in messages.iter().enumerate() {
            let (role, content) = (message.role.as_str(), message.content.as_str());
            if at + 1 == messages.len() && message.role == Role::Assistant {
                match self.trailing {
                    Trailing::Open => return prompt + OPENING + content,
                    Trailing::Trims => return prompt + OPENING + content.trim(),
                    Trailing::Closes => {}
                }
            }
            let _ = write!(prompt, "<|im_start|>{role}\n{content}<|im_end|>\n");
        }
        prompt + OPENING + if think { THINK } else { "" }
    }
}

/// What opens the assistant's turn.
pub(super) const OPENING: &str = "<|im_start|>assistant\n";
/// What opens the model's thoughts.
pub(super) const THINK: &str = "<think>\n";
/// What closes them.
pub(super) const THOUGHT: &str = "\n</think>\n\n";
/// What every model thinks, token by token.
pub(super) const THOUGHTS: [&str; 2] = ["hm", ", well"];
