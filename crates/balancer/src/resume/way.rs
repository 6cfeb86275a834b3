//! How a model's answers may be continued on a node: found out once per digest and version.

use super::{edit::member, text::text_of};
use bytes::Bytes;
use jarvis_protocol::ollama::ModelInfo;
use serde::Serialize;
use serde_json::json;
use std::fmt;

/// One way of going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Jarvis's own engine, which takes the text so far as such.
    Engine,
    /// The node shows the prompt it would use, and goes on from that and the text so far in raw mode.
    RenderedRaw,
    /// The text so far as a last message of the assistant, which this model's template leaves open.
    Prefill,
    /// None is known to be right.
    None,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "engine",
            Self::RenderedRaw => "rendered_raw",
            Self::Prefill => "prefill",
            Self::None => "none",
        })
    }
}

/// The ways that a model's answers can take on a node. A request may need the second best: raw text has no images and no tools.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations")]
pub(crate) struct Ways {
    /// See [`Way::Engine`].
    pub(crate) engine: bool,
    /// See [`Way::RenderedRaw`].
    pub(crate) rendered: bool,
    /// See [`Way::Prefill`].
    pub(crate) prefill: bool,
    /// The model thinks before it answers: its prompt opens its thoughts.
    pub(crate) thinks: bool,
}

impl Ways {
    /// The best one, as the catalogue shows it.
    pub(crate) fn best(self) -> Way {
        if self.engine {
            Way::Engine
        } else if self.rendered {
            Way::RenderedRaw
        } else if self.prefill {
            Way::Prefill
        } else {
            Way::None
        }
    }
}

/// What a discovery needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this to the node and hand its answer to [`Discovery::answer`]. It loads the model if it is not loaded: probe only
    /// a model that is, or that is about to be used.
    Probe {
        /// `POST` this path.
        path: &'static str,
        /// With this JSON.
        body: Bytes,
    },
    /// This is known now. Remember it by the model's digest and the node's version.
    Known(Ways),
}

/// Finds out the ways of one model on one node.
#[derive(Debug, Clone)]
pub(crate) struct Discovery {
    model: String,
    ways: Ways,
    asked: Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Question,
    Beginning,
}

const QUESTION: &str = "Which words come after these?";
/// Closed, trimmed or left open: a rendered prompt that ends in exactly this was left open and untrimmed.
const BEGINNING: &str = " These words, and then a ";

impl Discovery {
    /// Of the model as the node lists it.
    pub(crate) fn start(listed: &ModelInfo) -> (Self, Next) {
        let discovery = Self {
            model: listed.name.clone(),
            ways: Ways::default(),
            asked: Asked::Question,
        };
        if listed.jarvis.is_some() {
            let known = Ways {
                engine: true,
                ..Ways::default()
            };
            return (discovery, Next::Known(known));
        }
        let next = discovery.probe(&json!([{"role": "user", "content": QUESTION}]));
        (discovery, next)
    }

    /// A version that does not know the field would answer: with one token at most.
    fn probe(&self, messages: &serde_json::Value) -> Next {
        let body = json!({
            "model": self.model,
            "messages": messages,
            "stream": false,
            "_debug_render_only": true,
            "options": {"num_predict": 1},
        });
        Next::Probe {
            path: "/api/chat",
            body: body.to_string().into(),
        }
    }

    /// Takes the answer to the last probe. A node that failed for a reason of the moment (a status of 500 and above) should be
    /// asked again another time instead.
    pub(crate) fn answer(&mut self, status: u16, body: &[u8]) -> Next {
        let prompt = (status == 200).then(|| rendered_prompt(body)).flatten();
        match (self.asked, prompt) {
            (Asked::Question, Some(prompt)) if prompt.contains(QUESTION) => {
                self.ways.rendered = true;
                self.ways.thinks = opened_thinking(&prompt).is_some();
                self.asked = Asked::Beginning;
                self.probe(&json!([
                    {"role": "user", "content": QUESTION},
                    {"role": "assistant", "content": BEGINNING},
                ]))
            }
            (Asked::Beginning, Some(prompt)) => {
                self.ways.prefill = prompt.ends_with(BEGINNING);
                Next::Known(self.ways)
            }
            _ => Next::Known(self.ways),
        }
    }
}

/// The prompt that an answer to `_debug_render_only` shows.
pub(super) fn rendered_prompt(answer: &[u8]) -> Option<String> {
    let answer = std::str::from_utf8(answer).ok()?;
    let shown = member(member(answer, "_debug_info")?, "rendered_template")?;
    text_of(shown).ok().filter(|prompt| !prompt.is_empty())
}

/// What closes the thoughts that the end of a rendered prompt opens, if it does.
pub(super) fn opened_thinking(prompt: &str) -> Option<&'static str> {
    let end = prompt.trim_end();
    [
        ("<think>", "\n</think>\n\n"),
        ("<thinking>", "\n</thinking>\n\n"),
        ("[THINK]", "[/THINK]"),
    ]
    .into_iter()
    .find_map(|(open, close)| end.ends_with(open).then_some(close))
}
