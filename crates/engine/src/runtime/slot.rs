use std::time::{Duration, Instant};

use llama_cpp_2::{model::LlamaModel, token::LlamaToken};

use super::job::{Event, Finish, Job, Outcome};
use crate::{
    grammar::Grammar,
    text::{StopFilter, Utf8Joiner},
};

/// One sequence of the cache and, at times, the answer that is made in it.
pub(super) struct Slot {
    /// Sequence id.
    pub id: i32,
    /// The tokens whose keys and values lie in the cache, in order.
    pub cached: Vec<LlamaToken>,
    /// The answer in the making.
    pub task: Option<Task>,
    /// Larger: used later.
    pub used: u64,
}

/// An answer in the making.
pub(super) struct Task {
    pub job: Job,
    pub grammar: Option<Grammar>,
    /// The token to compute next; `None` while the prompt is being computed.
    pub next: Option<LlamaToken>,
    /// Order of arrival.
    pub order: u64,
    joiner: Utf8Joiner,
    stops: StopFilter,
    generated: usize,
    last: Option<LlamaToken>,
    reused: usize,
    began: Instant,
    first: Option<Instant>,
    /// Tokens not reported yet, each with the length of the answer's text up to its end, if that is known.
    unreported: Vec<(i32, Option<usize>)>,
    /// Length of the text of all tokens, and of what was sent, bytes.
    joined: usize,
    sent: usize,
    /// Text that may be shown but is only a part of its token's.
    part: String,
    piece: Vec<u8>,
}

impl Task {
    pub(super) fn new(mut job: Job, order: u64, reused: usize) -> Self {
        let stops = StopFilter::new(std::mem::take(&mut job.stops));
        Self {
            grammar: job.grammar.take(),
            job,
            next: None,
            order,
            joiner: Utf8Joiner::default(),
            stops,
            generated: 0,
            last: None,
            reused,
            began: Instant::now(),
            first: None,
            unreported: Vec::new(),
            joined: 0,
            sent: 0,
            part: String::new(),
            piece: Vec::with_capacity(32),
        }
    }

    /// How many tokens the whole answer has, continuation included.
    pub(super) fn drawn(&self) -> u64 {
        (self.job.answered + self.generated) as u64
    }

    /// Takes the token the model chose; `cached` is what lies before it. `Some`: the answer is complete.
    pub(super) fn take(
        &mut self,
        token: LlamaToken,
        model: &LlamaModel,
        cached: usize,
    ) -> Option<Finish> {
        self.first.get_or_insert_with(Instant::now);
        let vocab = model.vocab();
        let mut shown = String::new();
        if vocab.is_eog(token) {
            self.stops.finish(&mut shown);
            self.show_rest(&shown);
            return Some(Finish::Stop);
        }
        self.generated += 1;
        self.last = Some(token);
        self.piece.clear();
        vocab.token_to_piece_into(token, &mut self.piece, false, None);
        let mut text = String::new();
        self.joiner.push(&self.piece, &mut text);
        self.count(token, text.len());
        if self.stops.push(&text, &mut shown) {
            self.show_rest(&shown);
            return Some(Finish::Stop);
        }
        if self.generated >= self.job.max_tokens || cached + 1 >= self.job.window {
            self.stops.finish(&mut shown);
            self.show_rest(&shown);
            return Some(Finish::Length);
        }
        self.show(&shown);
        self.next = Some(token);
        None
    }

    /// Notes a token and how much text it made whole.
    fn count(&mut self, token: LlamaToken, text: usize) {
        self.joined += text;
        if !self.job.report_tokens {
            return;
        }
        self.unreported.push((token.0, None));
        if self.joiner.is_empty() {
            for (_, end) in self.unreported.iter_mut().rev() {
                if end.is_some() {
                    break;
                }
                *end = Some(self.joined);
            }
        }
    }

    /// Sends what may be shown. With reported tokens, only the text of whole tokens, so that who goes on from
    /// these tokens neither lacks a character nor has one twice.
    fn show(&mut self, text: &str) {
        self.part.push_str(text);
        if !self.job.report_tokens {
            let all = self.part.len();
            return self.send(all, 0);
        }
        let shown = self.sent + self.part.len();
        let whole = self
            .unreported
            .iter()
            .map_while(|(_, end)| end.filter(|end| *end <= shown));
        let (tokens, end) = whole.fold((0, self.sent), |(count, _), end| (count + 1, end));
        self.send(end - self.sent, tokens);
    }

    /// Sends everything: the answer is complete.
    fn show_rest(&mut self, text: &str) {
        self.part.push_str(text);
        self.send(self.part.len(), self.unreported.len());
    }

    fn send(&mut self, bytes: usize, tokens: usize) {
        if bytes == 0 {
            return;
        }
        self.sent += bytes;
        let text = self.part.drain(..bytes).collect();
        let tokens = self.unreported.drain(..tokens).map(|(id, _)| id).collect();
        // A receiver that is gone is noticed before the next step.
        let _ = self.job.events.send(Event::Text { text, tokens });
    }

    /// Sends the last event.
    pub(super) fn finish(self, finish: Finish, cached: &[LlamaToken]) {
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        let mut context: Vec<i32> = cached.iter().map(|token| token.0).collect();
        if context.len() < self.job.prompt.len() + self.generated
            && let Some(last) = self.last
        {
            context.push(last.0);
        }
        let outcome = Outcome {
            finish,
            prompt_tokens: self.job.prompt.len() as u64,
            cached_tokens: self.reused as u64,
            prompt_nanos: nanos(first - self.began),
            eval_tokens: self.generated as u64,
            eval_nanos: nanos(now - first),
            tokens: self.unreported.iter().map(|(id, _)| *id).collect(),
            context,
        };
        let _ = self.job.events.send(Event::Done(outcome));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Slot {
    pub(super) fn new(id: i32) -> Self {
        Self {
            id,
            cached: Vec::new(),
            task: None,
            used: 0,
        }
    }

    /// How many tokens of `prompt` this slot already has. At least one is left to compute.
    pub(super) fn common(&self, prompt: &[LlamaToken]) -> usize {
        self.cached
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count()
            .min(prompt.len().saturating_sub(1))
    }
}
