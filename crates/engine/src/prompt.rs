//! From a request to the tokens the model is given, within its window.
//!
//! The rule when a conversation is too long: room for an answer is kept (a quarter of the window, or
//! `num_predict` if that is less); the oldest turns are left out, never a system message and never the
//! last message, and a conversation never begins with an answer. If that is not enough, the middle of what
//! remains is left out: its first tokens (`num_keep`, by default a quarter) and its last stay.

use jarvis_protocol::{
    Continue,
    ollama::{Message, Options, Role},
};
use llama_cpp_2::{
    model::LlamaModel,
    token::LlamaToken,
    vocab::{LlamaVocab, VocabType},
};

use crate::{error::EngineError, template::ChatTemplate};

/// The tokens to start from.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub tokens: Vec<LlamaToken>,
    /// How many at the end are already the answer.
    pub answered: usize,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A conversation, after the tokens of an earlier call.
    Chat {
        context: Vec<i32>,
        messages: Vec<Message>,
        think: Option<bool>,
    },
    /// Text without a template, after the tokens of an earlier call.
    Raw { text: String, context: Vec<i32> },
}

/// The room there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Prompt and answer together, tokens.
    pub window: usize,
    /// For the prompt alone.
    pub prompt: usize,
    /// Kept from the start when the middle goes.
    pub keep: usize,
}

impl Room {
    pub(crate) fn new(window: usize, options: &Options) -> Self {
        let wanted = options
            .num_predict
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| *n > 0)
            .unwrap_or(usize::MAX);
        let prompt = window
            .saturating_sub((window / 4).min(wanted).max(1))
            .max(1);
        let keep = options
            .num_keep
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(prompt / 4)
            .min(prompt / 2);
        Self {
            window,
            prompt,
            keep,
        }
    }
}

/// Makes the prompt. A trailing assistant message is the beginning of the answer.
///
/// # Errors
/// The template refuses the conversation; token ids that the model does not have.
pub(crate) fn build(
    model: &LlamaModel,
    template: &ChatTemplate,
    input: Input,
    resume: Option<&Continue>,
    room: Room,
) -> Result<Prompt, EngineError> {
    let vocab = model.vocab();
    let (mut tokens, opening) = match input {
        Input::Raw { text, context } => {
            let mut tokens = known(&vocab, &context)?;
            tokens.extend(tokenize(&vocab, &text, tokens.is_empty()));
            (tokens, None)
        }
        Input::Chat {
            context,
            mut messages,
            think,
        } => {
            let opening = match messages.last() {
                Some(last) if last.role == Role::Assistant && last.tool_calls.is_empty() => {
                    messages.pop().map(|message| message.content)
                }
                _ => None,
            };
            let mut tokens = known(&vocab, &context)?;
            let render = |messages: &[Message]| {
                let text = template.render(messages, think)?;
                Ok(tokenize(&vocab, &text, context.is_empty()))
            };
            tokens.extend(fit(&vocab, messages, room.prompt, render)?);
            (tokens, opening)
        }
    };
    cut_middle(&mut tokens, room);
    let mut answer = Vec::new();
    if let Some(text) = opening {
        answer.extend(plain(&vocab, &text));
    }
    if let Some(resume) = resume {
        match &resume.tokens {
            Some(ids) => answer.extend(known(&vocab, ids)?),
            None => answer.extend(plain(&vocab, &resume.text)),
        }
    }
    if tokens.is_empty() && answer.is_empty() {
        // Nothing at all was given: begin as the model begins a text.
        let bos = vocab.bos();
        tokens.push(if bos.0 < 0 { vocab.eos() } else { bos });
    }
    let answered = answer.len();
    tokens.extend(answer);
    Ok(Prompt { tokens, answered })
}

/// Leaves out oldest turns until the rendered conversation has at most `limit` tokens or nothing more may go.
fn fit(
    vocab: &LlamaVocab<'_>,
    mut messages: Vec<Message>,
    limit: usize,
    render: impl Fn(&[Message]) -> Result<Vec<LlamaToken>, EngineError>,
) -> Result<Vec<LlamaToken>, EngineError> {
    far_too_long(&mut messages, limit);
    loop {
        let tokens = render(&messages)?;
        if tokens.len() <= limit {
            return Ok(tokens);
        }
        let before = messages.len();
        let texts: Vec<usize> = messages
            .iter()
            .map(|message| plain(vocab, &message.content).len())
            .collect();
        // What the template adds to a message, rounded down: rather a second look than a turn too many.
        let around = tokens.len().saturating_sub(texts.iter().sum()) / before.max(1);
        let sizes: Vec<usize> = texts.into_iter().map(|text| text + around).collect();
        leave_out(&mut messages, tokens.len() - limit, &sizes);
        if messages.len() == before {
            return Ok(tokens);
        }
    }
}

/// Bytes of a token that are not exceeded by any text worth reading.
const MOST_BYTES_OF_TOKEN: usize = 64;

/// Leaves out, by their bytes alone, the turns that cannot find room: reading them as tokens first would take long.
fn far_too_long(messages: &mut Vec<Message>, limit: usize) {
    let sizes: Vec<usize> = messages
        .iter()
        .map(|message| message.content.len())
        .collect();
    let total: usize = sizes.iter().sum();
    let most = limit.saturating_mul(MOST_BYTES_OF_TOKEN);
    if total > most {
        leave_out(messages, total - most, &sizes);
    }
}

/// Removes the oldest turns that together have at least `excess` tokens, by the size of each message, and then
/// answers whose question is gone.
fn leave_out(messages: &mut Vec<Message>, excess: usize, sizes: &[usize]) {
    let last = messages.len().saturating_sub(1);
    let mut gone = 0;
    let mut kept = Vec::with_capacity(messages.len());
    let mut opened = false;
    for (at, message) in messages.drain(..).enumerate() {
        let fixed = message.role == Role::System || at == last;
        let orphan = !opened && gone > 0 && message.role != Role::User;
        if fixed || (gone >= excess && !orphan) {
            opened |= message.role != Role::System;
            kept.push(message);
        } else {
            gone += sizes.get(at).copied().unwrap_or(0).max(1);
        }
    }
    *messages = kept;
}

fn cut_middle(tokens: &mut Vec<LlamaToken>, room: Room) {
    if tokens.len() > room.prompt {
        let excess = tokens.len() - room.prompt;
        tokens.drain(room.keep..room.keep + excess);
    }
}

fn known(vocab: &LlamaVocab<'_>, ids: &[i32]) -> Result<Vec<LlamaToken>, EngineError> {
    match ids.iter().find(|id| !(0..vocab.n_tokens()).contains(*id)) {
        Some(id) => Err(EngineError::BadRequest(format!(
            "token {id} is not in the model's vocabulary"
        ))),
        None => Ok(ids.iter().copied().map(LlamaToken).collect()),
    }
}

/// A rendered prompt: special tokens are read as such, and the one that begins a text is added where the model
/// wants it and the template has not written it.
fn tokenize(vocab: &LlamaVocab<'_>, text: &str, start: bool) -> Vec<LlamaToken> {
    let mut tokens = vocab.tokenize(text.as_bytes(), false, true);
    let bos = vocab.bos();
    if start && vocab.should_add_bos() && tokens.first() != Some(&bos) {
        tokens.insert(0, bos);
    }
    tokens
}

/// Text of an answer: nothing in it is special.
fn plain(vocab: &LlamaVocab<'_>, text: &str) -> Vec<LlamaToken> {
    if text.is_empty() {
        return Vec::new();
    }
    if vocab.vocab_type() != VocabType::SPM {
        return vocab.tokenize(text.as_bytes(), false, false);
    }
    // This kind of vocabulary puts a space before a text. A line break first, and its tokens cut off again,
    // keeps the text as it is.
    let with_break = vocab.tokenize(format!("\n{text}").as_bytes(), false, false);
    let break_alone = vocab.tokenize(b"\n", false, false);
    match with_break.strip_prefix(break_alone.as_slice()) {
        Some(tokens) => tokens.to_vec(),
        None => vocab.tokenize(text.as_bytes(), false, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(roles: &[Role]) -> Vec<Message> {
        (0..)
            .zip(roles)
            .map(|(at, role): (i32, _)| Message::new(role.clone(), at.to_string()))
            .collect()
    }

    fn left(roles: &[Role], excess: usize) -> Vec<String> {
        let mut messages = conversation(roles);
        leave_out(&mut messages, excess, &[10; 8]);
        messages
            .into_iter()
            .map(|message| message.content)
            .collect()
    }

    #[test]
    fn the_oldest_turns_go_and_never_the_rules_or_the_question() {
        use Role::{Assistant as A, System as S, User as U};
        let roles = [S, U, A, U, A, U];
        assert_eq!(
            left(&roles, 1),
            ["0", "3", "4", "5"],
            "an answer goes with its question"
        );
        assert_eq!(left(&roles, 25), ["0", "5"]);
        assert_eq!(left(&roles, 9_999), ["0", "5"]);
        assert_eq!(left(&[U], 9_999), ["0"]);
        assert_eq!(left(&[], 1), Vec::<String>::new());
    }

    #[test]
    fn turns_far_beyond_the_window_go_unread() {
        let mut messages: Vec<_> = (0..10)
            .map(|at| Message::new(Role::User, at.to_string().repeat(64)))
            .collect();
        far_too_long(&mut messages, 10);
        assert_eq!(messages.len(), 10);
        far_too_long(&mut messages, 3);
        assert_eq!(messages.len(), 3);
        assert!(messages[2].content.starts_with('9'));
    }

    #[test]
    fn room_is_kept_for_an_answer() {
        let options = |num_predict, num_keep| Options {
            num_predict,
            num_keep,
            ..Options::default()
        };
        let room = |o: Options| {
            let r = Room::new(1000, &o);
            (r.prompt, r.keep)
        };
        assert_eq!(room(options(None, None)), (750, 187));
        assert_eq!(room(options(Some(10), Some(5))), (990, 5));
        assert_eq!(room(options(Some(-1), Some(5_000))), (750, 375));
        assert_eq!(Room::new(1, &Options::default()).prompt, 1);
    }

    #[test]
    fn the_middle_goes_last() {
        let room = Room {
            window: 10,
            prompt: 6,
            keep: 2,
        };
        let mut tokens: Vec<_> = (0..9).map(LlamaToken).collect();
        cut_middle(&mut tokens, room);
        assert_eq!(
            tokens.iter().map(|t| t.0).collect::<Vec<_>>(),
            [0, 1, 5, 6, 7, 8]
        );
    }
}
