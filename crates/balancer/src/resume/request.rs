//! What to ask of another node so that an answer goes on.

use super::{
    Dialect, Transcript, Way, Ways, Why,
    edit::{Object, json, member},
    splice,
    text::{elements, says_something, text_of},
    translate,
    way::{opened_thinking, rendered_prompt},
};
use bytes::Bytes;
use jarvis_protocol::{Continue, RequestExtension};

/// A request to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// `POST` this path.
    pub(crate) path: &'static str,
    /// With this JSON.
    pub(crate) body: Bytes,
    /// And this is the form of the answer; hand it to [`super::Splice::new`].
    pub(crate) answers: Dialect,
}

/// What comes next for an answer whose node was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this; the answer is a stream that goes on where the text ends.
    Ask(Ask),
    /// First ask this, which is answered at once by one JSON, then [`Origin::rendered`].
    Render {
        /// `POST` this path.
        path: &'static str,
        /// With this JSON.
        body: Bytes,
    },
    /// Nothing is left to be generated: this closes the stream. It goes through the transcript like everything else.
    End(Bytes),
}

/// The request that the client made.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    dialect: Dialect,
    body: String,
}

impl Origin {
    /// Of a request body.
    ///
    /// # Errors
    /// [`Why::Request`] if it is not a JSON object.
    pub(crate) fn new(dialect: Dialect, body: &[u8]) -> Result<Self, Why> {
        let body = std::str::from_utf8(body).map_err(|_| Why::Request)?;
        let whole = super::text::members(body).all(|member| member.is_ok());
        whole
            .then(|| Self {
                dialect,
                body: body.to_owned(),
            })
            .ok_or(Why::Request)
    }

    /// The member of the request, unless it says nothing.
    pub(super) fn said(&self, name: &str) -> Option<&str> {
        member(&self.body, name).filter(|value| says_something(value))
    }

    fn count(&self, name: &str) -> i64 {
        self.said(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// Whether the client asked for a stream.
    pub(crate) fn is_streamed(&self) -> bool {
        match member(&self.body, "stream") {
            Some(value) => value == "true",
            None => self.dialect.is_ollama(),
        }
    }

    /// Whether the client asked for a usage at the end.
    pub(super) fn wants_usage(&self) -> bool {
        self.said("stream_options")
            .and_then(|options| member(options, "include_usage"))
            == Some("true")
    }

    /// Whether the client speaks Jarvis's extension itself.
    pub(super) fn is_extended(&self) -> bool {
        self.said("jarvis").is_some()
    }

    /// Whether the request as such allows its answer to be continued, whatever the node. Cheap enough to be asked once per
    /// request; only then is there any use in a transcript that keeps the text.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self) -> Result<(), Why> {
        if !self.is_streamed() || self.said("_debug_render_only").is_some() {
            return Err(Why::NotStreamed);
        }
        let free_form = self.said("response_format").is_none_or(|format| {
            member(format, "type").is_some_and(|kind| kind.eq_ignore_ascii_case("\"text\""))
        });
        if !free_form || self.said("format").is_some() {
            return Err(Why::Constrained);
        }
        if self.count("n") > 1 || self.count("best_of") > 1 {
            return Err(Why::Several);
        }
        if self.said("logprobs").is_some_and(|value| value != "0") || self.count("top_logprobs") > 0
        {
            return Err(Why::Logprobs);
        }
        if self.said("echo").is_some() || self.said("suffix").is_some() {
            return Err(Why::Echo);
        }
        Ok(())
    }

    /// Whether what was sent so far can be continued at all.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn resumable(&self, transcript: &Transcript) -> Result<(), Why> {
        self.check()?;
        let flags = transcript.flags();
        if flags.calls {
            Err(Why::Tools)
        } else if flags.several {
            Err(Why::Several)
        } else if flags.logprobs {
            Err(Why::Logprobs)
        } else if flags.too_long {
            Err(Why::TooLong)
        } else if flags.no_text {
            Err(Why::NoText)
        } else if flags.thought && transcript.text().is_empty() {
            // The thoughts themselves cannot be continued: their end would have to be found in raw text.
            Err(Why::Thinking)
        } else {
            Ok(())
        }
    }

    /// Whether the question has images.
    fn has_images(&self) -> bool {
        if self.said("images").is_some() {
            return true;
        }
        let Some(messages) = self.said("messages") else {
            return false;
        };
        elements(messages).filter_map(Result::ok).any(|message| {
            let parts = || {
                let content = member(message, "content").filter(|content| content.starts_with('['));
                elements(content.unwrap_or("[]")).filter_map(Result::ok)
            };
            member(message, "images").is_some_and(says_something)
                || parts().any(|part| member(part, "type") != Some("\"text\""))
        })
    }

    /// Whether the prompt is used without a template.
    fn is_raw(&self) -> bool {
        self.said("raw") == Some("true") && self.dialect == Dialect::OllamaGenerate
    }

    /// Which of the ways that a node offers is right for this request.
    ///
    /// # Errors
    /// None is; why.
    pub(crate) fn way(&self, ways: Ways) -> Result<Way, Why> {
        if ways.engine {
            return Ok(Way::Engine);
        }
        let chat = matches!(self.dialect, Dialect::OllamaChat | Dialect::OpenAiChat);
        let tools = self.said("tools").is_some() || self.said("functions").is_some();
        let images = self.has_images();
        if (ways.rendered || self.is_raw()) && !tools && !images {
            Ok(Way::RenderedRaw)
        } else if ways.prefill && chat {
            Ok(Way::Prefill)
        } else if tools {
            Err(Why::Tools)
        } else if images {
            Err(Why::Images)
        } else {
            Err(Why::NoWay)
        }
    }

    /// What to do next, on a node whose ways are these and whose model has the same digest. The half record of the lost node is
    /// forgotten here.
    ///
    /// # Errors
    /// The answer cannot go on there, or nowhere.
    pub(crate) fn continuation(
        &self,
        ways: Ways,
        transcript: &mut Transcript,
    ) -> Result<Step, Why> {
        transcript.cut();
        if transcript.finished().is_some() {
            // The text is whole: only what closes the stream is lacking.
            return Ok(Step::End(splice::closing(self, transcript, "")));
        }
        self.resumable(transcript)?;
        let way = self.way(ways)?;
        if transcript.flags().thought && (way != Way::RenderedRaw || self.is_raw()) {
            return Err(Why::Thinking);
        }
        let left = match self.limit(way) {
            None => None,
            Some(limit) => match limit.saturating_sub(transcript.tokens_used()) {
                0 => return Ok(Step::End(splice::closing(self, transcript, "length"))),
                left => Some(left),
            },
        };
        match way {
            Way::Engine => self.to_engine(transcript, left).map(Step::Ask),
            Way::Prefill => self.prefilled(transcript, left).map(Step::Ask),
            Way::RenderedRaw if self.is_raw() => {
                let prompt = self.said("prompt").map_or(Ok(String::new()), text_of);
                let prompt = prompt.map_err(|_| Why::Request)?;
                self.raw(&prompt, transcript, left).map(Step::Ask)
            }
            Way::RenderedRaw => self.render(),
            Way::None => Err(Why::NoWay),
        }
    }

    /// After [`Step::Render`]: what to ask, given what was answered with status 200.
    ///
    /// # Errors
    /// The prompt was not shown, or its answer cannot be continued in this way.
    pub(crate) fn rendered(&self, answer: &[u8], transcript: &Transcript) -> Result<Ask, Why> {
        let mut prompt = rendered_prompt(answer).ok_or(Why::NotRendered)?;
        match (opened_thinking(&prompt), transcript.thoughts()) {
            (None, "") => {}
            (Some(close), thoughts) if !thoughts.is_empty() => {
                prompt += thoughts;
                prompt += close;
            }
            // Thoughts came that the prompt did not open, or the other way round: what the model wrote cannot be known.
            _ => return Err(Why::Thinking),
        }
        let left = self
            .limit(Way::RenderedRaw)
            .map(|limit| limit.saturating_sub(transcript.tokens_used()).max(1));
        self.raw(&prompt, transcript, left)
    }

    /// Most tokens of the whole answer; `None`: no limit of its own.
    fn limit(&self, way: Way) -> Option<u64> {
        let positive = |value: &str| value.parse::<f64>().ok().filter(|limit| *limit >= 1.0);
        let found = if self.dialect.is_ollama() {
            let options = self.said("options")?;
            member(options, "num_predict").and_then(positive)
        } else {
            self.said("max_completion_tokens")
                .or_else(|| self.said("max_tokens"))
                .and_then(positive)
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least one, and a limit beyond u64 is none"
        )]
        let found = found.map(|limit| limit as u64);
        // The engine keeps to OpenAI's default for bare completions; Ollama does not.
        let bare = self.dialect == Dialect::OpenAiCompletions && way == Way::Engine;
        found.or(bare.then_some(16))
    }

    /// The `options` of an Ollama request, with what is left of the token limit.
    fn options(&self, way: Way, left: Option<u64>) -> Result<Option<String>, Why> {
        if !self.dialect.is_ollama() {
            return Ok(Some(translate::options(self, way, left)));
        }
        let Some(options) = member(&self.body, "options") else {
            return Ok(None);
        };
        let Some(left) = left else {
            return Ok(Some(options.to_owned()));
        };
        let mut object = Object::copy(options, &["num_predict"]).map_err(|_| Why::Request)?;
        object.set("num_predict", &left);
        Ok(Some(object.end()))
    }

    fn to_engine(&self, transcript: &Transcript, left: Option<u64>) -> Result<Ask, Why> {
        let asked: RequestExtension = match self.said("jarvis") {
            Some(extension) => serde_json::from_str(extension).map_err(|_| Why::Request)?,
            None => RequestExtension::default(),
        };
        let before = asked.resume.unwrap_or_default();
        let tokens = match (before.tokens, before.text.is_empty()) {
            (Some(mut ids), _) => transcript.tokens_known().map(|new| {
                ids.extend(new);
                ids
            }),
            (None, true) => transcript.tokens_known().map(<[i32]>::to_vec),
            (None, false) => None,
        };
        let extension = RequestExtension {
            resume: Some(Continue {
                text: before.text + transcript.text(),
                tokens,
            }),
            report_tokens: asked
                .report_tokens
                .or_else(|| transcript.is_exact().then_some(true)),
        };
        let answers = match self.dialect {
            Dialect::OllamaChat | Dialect::OpenAiChat => Dialect::OllamaChat,
            Dialect::OllamaGenerate | Dialect::OpenAiCompletions => Dialect::OllamaGenerate,
        };
        let mut body = if self.dialect.is_ollama() {
            let without = ["options", "jarvis"];
            Object::copy(&self.body, &without).map_err(|_| Why::Request)?
        } else {
            translate::body(self).map_err(|_| Why::Request)?
        };
        body.raw_if("options", self.options(Way::Engine, left)?.as_deref());
        body.set("jarvis", &extension);
        Ok(ask(answers, body))
    }

    /// Asks a node to show the prompt that it would use.
    fn render(&self) -> Result<Step, Why> {
        let mut body = if self.dialect == Dialect::OpenAiCompletions {
            // Ollama's bare completions do not show it, but are made from this.
            let mut body = Object::new();
            body.raw_if("model", self.said("model"));
            body.raw_if("prompt", self.said("prompt"));
            body.set("options", &serde_json::json!({}));
            body
        } else {
            let without = ["stream", "stream_options", "jarvis"];
            Object::copy(&self.body, &without).map_err(|_| Why::Request)?
        };
        body.raw("stream", "false");
        body.raw("_debug_render_only", "true");
        let path = match self.dialect {
            Dialect::OpenAiCompletions => Dialect::OllamaGenerate.path(),
            dialect => dialect.path(),
        };
        Ok(Step::Render {
            path,
            body: body.end().into(),
        })
    }

    /// The prompt and the text so far, without a template. `think` is off so that no parser touches the text.
    fn raw(&self, prompt: &str, transcript: &Transcript, left: Option<u64>) -> Result<Ask, Why> {
        let mut body = Object::new();
        body.raw_if("model", self.said("model"));
        body.set("prompt", &[prompt, transcript.text()].concat());
        body.raw("raw", "true");
        body.raw("stream", "true");
        body.raw("think", "false");
        body.raw_if("options", self.options(Way::RenderedRaw, left)?.as_deref());
        for kept in ["keep_alive", "shift", "truncate", "images"] {
            body.raw_if(kept, member(&self.body, kept));
        }
        Ok(ask(Dialect::OllamaGenerate, body))
    }

    /// The conversation with the text so far as a last message of the assistant.
    fn prefilled(&self, transcript: &Transcript, left: Option<u64>) -> Result<Ask, Why> {
        let messages = self.said("messages").ok_or(Why::Request)?;
        let messages = translate::with_answer(messages, transcript.text()).ok_or(Why::Request)?;
        let mut without = vec!["messages"];
        if left.is_some() {
            without.extend(["options", "max_tokens", "max_completion_tokens"]);
        }
        let mut body = Object::copy(&self.body, &without).map_err(|_| Why::Request)?;
        body.raw("messages", &messages);
        match left {
            Some(left) if self.dialect.is_ollama() => {
                body.raw_if(
                    "options",
                    self.options(Way::Prefill, Some(left))?.as_deref(),
                );
            }
            Some(left) => {
                for name in ["max_tokens", "max_completion_tokens"] {
                    if member(&self.body, name).is_some() {
                        body.set(name, &left);
                    }
                }
            }
            None => {}
        }
        Ok(ask(self.dialect, body))
    }
}

fn ask(answers: Dialect, body: Object) -> Ask {
    Ask {
        path: answers.path(),
        body: body.end().into(),
        answers,
    }
}

/// The body of a request to Jarvis's engine with the wish that every record tells its tokens, so that a later seam is exact.
/// `None`: the request has its own wishes. A transcript over its answer must be told
/// ([`Transcript::hide_tokens`]), since the client did not ask for them.
pub(crate) fn telling_tokens(dialect: Dialect, body: &[u8]) -> Option<Bytes> {
    let origin = Origin::new(dialect, body).ok()?;
    if origin.is_extended() || origin.check().is_err() {
        return None;
    }
    let mut object = Object::copy(&origin.body, &["jarvis"]).ok()?;
    let extension = RequestExtension {
        resume: None,
        report_tokens: Some(true),
    };
    object.raw("jarvis", &json(&extension));
    Some(object.end().into())
}
