//! The thread that owns a model's context: it takes jobs, computes them together and sends what comes out.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::{Duration, Instant},
};

use llama_cpp_2::{
    context::LlamaContext, llama_batch::LlamaBatch, model::LlamaModel, token::LlamaToken,
};

use super::{
    job::{Event, Job},
    shared::Shared,
    slot::{Slot, Task},
    threads::{Threads, Work},
};
use crate::{error::EngineError, sampling::Scratch};

/// What the thread is told.
pub(super) enum Command {
    /// Generate this.
    Run(Box<Job>),
    /// Look at the shared state again.
    Wake,
}

/// How the thread works; fixed for its life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub parallel: usize,
    pub threads: usize,
    pub max_batch: usize,
    pub step_time: Duration,
    pub prefix_reuse: bool,
}

impl Pace {
    /// How far a prompt is computed in one step. Where answers must be reproducible, the part that is already
    /// the answer is computed token by token, as it was when it was made: then going on is bit for bit the same.
    fn end(self, job: &Job, from: usize, most: usize) -> usize {
        let all = job.prompt.len();
        let question = all - job.answered;
        if self.prefix_reuse {
            all.min(from + most)
        } else if from < question {
            question.min(from + most)
        } else {
            all.min(from + 1)
        }
    }
}

pub(super) struct Worker<'m> {
    model: &'m LlamaModel,
    context: LlamaContext<'m>,
    batch: LlamaBatch<'static>,
    slots: Vec<Slot>,
    waiting: std::collections::VecDeque<Box<Job>>,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    pace: Pace,
    /// Prompt tokens that fit into one step, by what the last steps took.
    chunk: usize,
    threads: Threads,
    scratch: Scratch,
    ticks: u64,
    /// Slots whose logits were asked for in this step, with their row.
    outputs: Vec<(usize, i32)>,
}

const SHORTEST_WAIT: Duration = Duration::from_millis(2);
const FIRST_CHUNK: usize = 32;
const SMALLEST_CHUNK: usize = 4;
/// Where answers must be reproducible, the clock may not decide how a prompt is cut.
const FIXED_CHUNK: usize = 64;

impl<'m> Worker<'m> {
    pub(super) fn new(
        model: &'m LlamaModel,
        context: LlamaContext<'m>,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
        pace: Pace,
    ) -> Self {
        Self {
            model,
            context,
            batch: LlamaBatch::new(pace.max_batch + pace.parallel, 1),
            slots: (0..).take(pace.parallel).map(Slot::new).collect(),
            waiting: std::collections::VecDeque::new(),
            commands,
            shared,
            pace,
            chunk: if pace.prefix_reuse {
                FIRST_CHUNK
            } else {
                FIXED_CHUNK
            },
            threads: if pace.prefix_reuse {
                Threads::new(pace.threads, pace.parallel)
            } else {
                Threads::fixed(pace.threads)
            },
            scratch: Scratch::default(),
            ticks: 0,
            outputs: Vec::with_capacity(pace.parallel),
        }
    }

    /// Works until the model is to leave memory.
    pub(super) fn run(mut self) {
        while self.receive() {
            self.drop_abandoned();
            self.assign();
            self.step();
        }
        self.shared.refuse();
        for slot in &mut self.slots {
            if let Some(task) = slot.task.take() {
                let _ = task
                    .job
                    .events
                    .send(Event::Failed(EngineError::ShuttingDown));
            }
        }
        for job in self.waiting.drain(..) {
            let _ = job.events.send(Event::Failed(EngineError::ShuttingDown));
        }
    }

    fn busy(&self) -> bool {
        !self.waiting.is_empty() || self.slots.iter().any(|slot| slot.task.is_some())
    }

    /// Takes what has come; waits when there is nothing to do. `false`: the thread ends.
    fn receive(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Run(job)) => {
                    self.waiting.push_back(job);
                    continue;
                }
                Ok(Command::Wake) => {}
                Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => {
                    if self.busy() {
                        return true;
                    }
                    match self.idle() {
                        Some(job) => self.waiting.push_back(job),
                        None if self.shared.expire() => return false,
                        None => {}
                    }
                    continue;
                }
            }
            if !self.shared.accepting() {
                return false;
            }
        }
    }

    /// Waits for the next job, at most until the model's time is up.
    fn idle(&mut self) -> Option<Box<Job>> {
        let command = match self.shared.deadline() {
            None => self
                .commands
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self
                .commands
                // A model that is not to be kept waits for the job of the place given out: not by spinning.
                .recv_timeout(
                    deadline
                        .saturating_duration_since(Instant::now())
                        .max(SHORTEST_WAIT),
                ),
        };
        match command {
            Ok(Command::Run(job)) => Some(job),
            Ok(Command::Wake) | Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                self.shared.refuse();
                None
            }
        }
    }

    /// A client that left frees its slot or its place in the queue.
    fn drop_abandoned(&mut self) {
        self.waiting.retain(|job| !job.events.is_closed());
        for slot in &mut self.slots {
            if slot
                .task
                .as_ref()
                .is_some_and(|task| task.job.events.is_closed())
            {
                slot.task = None;
            }
        }
    }

    /// Gives waiting jobs to free slots.
    fn assign(&mut self) {
        while let Some(slot) = self.waiting.front().and_then(|job| self.place(&job.prompt)) {
            let Some(job) = self.waiting.pop_front() else {
                return;
            };
            self.ticks += 1;
            let reused = self.prepare(slot, &job.prompt);
            let slot = &mut self.slots[slot];
            slot.used = self.ticks;
            slot.task = Some(Task::new(*job, self.ticks, reused));
        }
    }

    /// The free slot that suits a prompt best: the one that has most of it, unless taking it would throw away
    /// more of another conversation than is reused; then the one used the longest ago.
    fn place(&self, prompt: &[LlamaToken]) -> Option<usize> {
        let free = || (0..self.slots.len()).filter(|at| self.slots[*at].task.is_none());
        let oldest = free().min_by_key(|at| self.slots[*at].used)?;
        if !self.pace.prefix_reuse {
            return Some(oldest);
        }
        let best = free().max_by_key(|at| self.slots[*at].common(prompt))?;
        let common = self.slots[best].common(prompt);
        Some(
            if common * 2 >= self.slots[best].cached.len() && common > 0 {
                best
            } else {
                oldest
            },
        )
    }

    /// Leaves in the slot's cache what the prompt begins with, taken over from another slot where that one has
    /// more of it. Returns how many tokens need not be computed.
    fn prepare(&mut self, at: usize, prompt: &[LlamaToken]) -> usize {
        if !self.pace.prefix_reuse {
            self.keep(at, 0);
            return 0;
        }
        let own = self.slots[at].common(prompt);
        let donor = (0..self.slots.len())
            .filter(|other| *other != at)
            .max_by_key(|other| self.slots[*other].common(prompt));
        if let Some(donor) = donor {
            let common = self.slots[donor].common(prompt);
            if common > own && self.copy(donor, at, common) {
                return common;
            }
        }
        self.keep(at, own)
    }

    fn copy(&mut self, from: usize, to: usize, tokens: usize) -> bool {
        // Recurrent models keep one state per sequence, which has no beginning to copy.
        if self.model.is_recurrent() || self.model.is_hybrid() {
            return false;
        }
        self.keep(to, 0);
        let Ok(end) = u32::try_from(tokens) else {
            return false;
        };
        let (source, target) = (self.slots[from].id, self.slots[to].id);
        if self
            .context
            .kv_cache_seq_cp(source, target, Some(0), Some(end))
            .is_err()
        {
            return false;
        }
        self.slots[to].cached = self.slots[from].cached[..tokens].to_vec();
        true
    }

    /// Cuts a slot's cache down to its first `tokens`, or to nothing where the model cannot cut.
    fn keep(&mut self, at: usize, tokens: usize) -> usize {
        let slot = &mut self.slots[at];
        if slot.cached.len() == tokens {
            return tokens;
        }
        let cut = u32::try_from(tokens).is_ok_and(|from| {
            self.context
                .kv_cache_seq_rm(slot.id, Some(from), None)
                .is_ok()
        });
        if cut {
            slot.cached.truncate(tokens);
        } else {
            let _ = self.context.kv_cache_seq_rm(slot.id, None, None);
            slot.cached.clear();
        }
        slot.cached.len()
    }

    /// Computes one batch: the next token of every running answer, and as much of the waiting prompts as the
    /// step's time allows.
    fn step(&mut self) {
        self.batch.clear();
        self.outputs.clear();
        let prompt_tokens = match self.fill() {
            Ok(tokens) => tokens,
            Err(error) => return self.fail(&error.to_string()),
        };
        if self.batch.n_tokens() == 0 {
            return;
        }
        let work = if prompt_tokens > 0 {
            Work::Prompts(prompt_tokens)
        } else {
            Work::Answers(self.outputs.len())
        };
        let began = Instant::now();
        let (context, batch) = (&mut self.context, &mut self.batch);
        let computed = self.threads.compute(work, || {
            context.decode(batch).map(|()| context.synchronize())
        });
        if let Err(error) = computed {
            return self.fail(&error.to_string());
        }
        if prompt_tokens > 0 {
            self.adapt(prompt_tokens, began.elapsed());
        }
        for at in 0..self.outputs.len() {
            let (slot, row) = self.outputs[at];
            self.choose(slot, row);
        }
    }

    fn fill(&mut self) -> Result<usize, llama_cpp_2::llama_batch::BatchAddError> {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if let Some(token) = slot.task.as_mut().and_then(|task| task.next.take()) {
                self.outputs.push((at, self.batch.n_tokens()));
                self.batch
                    .add(token, position(slot.cached.len()), &[slot.id], true)?;
                slot.cached.push(token);
            }
        }
        let mut left = self.chunk;
        let mut order: Vec<(u64, usize)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(at, slot)| {
                let task = slot.task.as_ref()?;
                (slot.cached.len() < task.job.prompt.len()).then_some((task.order, at))
            })
            .collect();
        order.sort_unstable();
        for (_, at) in order {
            let slot = &mut self.slots[at];
            let Some(task) = &slot.task else { continue };
            let from = slot.cached.len();
            let to = self.pace.end(&task.job, from, left);
            for (position_, token) in (from..to).zip(&task.job.prompt[from..to]) {
                let last = position_ + 1 == task.job.prompt.len();
                if last {
                    self.outputs.push((at, self.batch.n_tokens()));
                }
                self.batch
                    .add(*token, position(position_), &[slot.id], last)?;
                slot.cached.push(*token);
            }
            left -= to - from;
            if left == 0 {
                break;
            }
        }
        Ok(self.chunk - left)
    }

    /// Sets how many prompt tokens the next step takes, so that it lasts about `step_time`.
    fn adapt(&mut self, tokens: usize, took: Duration) {
        let too_few = tokens < SMALLEST_CHUNK && tokens < self.chunk;
        if too_few || !self.pace.prefix_reuse {
            return;
        }
        let ratio = self.pace.step_time.as_secs_f64() / took.as_secs_f64().max(1e-6);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a positive count of tokens, clamped below"
        )]
        let fits = (tokens as f64 * ratio.min(4.0)) as usize;
        self.chunk = fits.clamp(SMALLEST_CHUNK, self.pace.max_batch);
    }

    fn choose(&mut self, at: usize, row: i32) {
        let slot = &mut self.slots[at];
        let Some(task) = &mut slot.task else { return };
        let logits = self.context.get_logits_ith(row);
        let drawn = task.drawn();
        let token = self.scratch.sample(
            &task.job.sampling,
            logits,
            &slot.cached,
            drawn,
            task.grammar.as_mut(),
        );
        match token {
            Ok(token) => {
                if let Some(finish) = task.take(token, self.model, slot.cached.len())
                    && let Some(task) = slot.task.take()
                {
                    task.finish(finish, &slot.cached);
                }
            }
            Err(error) => {
                if let Some(task) = slot.task.take() {
                    let _ = task.job.events.send(Event::Failed(error));
                }
            }
        }
    }

    /// A step could not be computed: every answer in it ends, and the cache starts afresh.
    fn fail(&mut self, reason: &str) {
        tracing::error!(reason, "the model could not compute a step");
        self.context.clear_kv_cache();
        for slot in &mut self.slots {
            slot.cached.clear();
            if let Some(task) = slot.task.take() {
                let _ = task
                    .job
                    .events
                    .send(Event::Failed(EngineError::Internal(format!(
                        "the model could not compute: {reason}"
                    ))));
            }
        }
    }
}

fn position(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}
