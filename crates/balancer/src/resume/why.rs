//! Why an answer cannot go on elsewhere.

/// Why an answer cannot go on elsewhere. The text is for the person who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Why {
    /// `format` or `response_format`: the grammar's state is lost with the node.
    #[error(
        "the answer was to follow a format, and such an answer cannot be continued on another node"
    )]
    Constrained,
    /// A tool call has begun, or one may come that only the original form of the request would show.
    #[error("the answer may call tools, and such an answer cannot be continued on another node")]
    Tools,
    /// Several answers at once.
    #[error(
        "several answers were asked for at once, and these cannot be continued on another node"
    )]
    Several,
    /// Probabilities are reported with the tokens.
    #[error("the answer reports probabilities, and these cannot be continued on another node")]
    Logprobs,
    /// The answer comes in one piece: it is simply asked for again as long as nothing was sent.
    #[error("the answer was not streamed")]
    NotStreamed,
    /// The answer repeats its prompt or fills a gap.
    #[error("the answer repeats or surrounds given text, and cannot be continued on another node")]
    Echo,
    /// The prompt has images.
    #[error("the question has images, and its answer cannot be continued on this kind of node")]
    Images,
    /// The model was thinking, or its thoughts are not shown as it wrote them.
    #[error("the model was thinking, and its thoughts cannot be continued on another node")]
    Thinking,
    /// The text is longer than what is kept.
    #[error("the answer is too long to be continued on another node")]
    TooLong,
    /// The text has characters that no text has.
    #[error("the answer has characters that cannot be repeated")]
    NoText,
    /// No node has shown a way that is known to be right.
    #[error("no other node can continue this model's answers exactly")]
    NoWay,
    /// The question is not understood well enough to be asked again in another form.
    #[error("the request is not understood well enough to be continued")]
    Request,
    /// What the node rendered is of no use.
    #[error("the other node did not show the prompt it would use")]
    NotRendered,
}

impl Why {
    /// A word for metrics and logs.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Constrained => "constrained",
            Self::Tools => "tools",
            Self::Several => "several",
            Self::Logprobs => "logprobs",
            Self::NotStreamed => "not_streamed",
            Self::Echo => "echo",
            Self::Images => "images",
            Self::Thinking => "thinking",
            Self::TooLong => "too_long",
            Self::NoText => "no_text",
            Self::NoWay => "no_way",
            Self::Request => "request",
            Self::NotRendered => "not_rendered",
        }
    }
}
