//! One answer, from the question to its end.
//!
//! Text is logged, then shown; the end is decided in the log, committed in SQL, then shown. Whatever stops this process in
//! between, the next one finds the text in the log and the generation unfinished, and goes on, or ends it as decided.

use super::{
    Entry,
    hand::{Halt, Hand},
    history,
    patience::Patience,
};
use crate::{app::App, conversations, meter, problem};
use futures_util::{FutureExt as _, StreamExt as _};
use jarvis_balancer::{Caller, ChatError, ChatEvent, ChatTurn};
use jarvis_domain::{Generation, GenerationError, Outcome, Status, Usage, sentence};
use jarvis_protocol::ollama;
use jarvis_store::{LogError, QueuePlace, StoreError};
use std::{panic::AssertUnwindSafe, pin::pin, time::Duration};
use tokio::time::sleep;

/// Between two tries to keep an end that the store did not take.
const KEEP_PAUSE: Duration = Duration::from_secs(2);
/// The code that says "another process goes on", which no reader is shown.
pub(super) const HANDED_OVER: &str = "handed_over";

/// Whether this end is none: another process goes on with the answer.
pub(super) fn goes_on(outcome: &Outcome) -> bool {
    outcome
        .error
        .as_ref()
        .is_some_and(|error| error.code == HANDED_OVER)
}

/// What is to become of an answer.
pub(super) enum Course {
    /// It goes on.
    Make,
    /// It has ended so.
    Settle(Outcome),
    /// It cannot go on.
    Break(GenerationError),
}

/// Carries it out. Readers can follow the answer already.
pub(super) async fn run(
    app: &App,
    generation: Generation,
    hand: Hand,
    course: Course,
    entry: Entry,
) {
    let work = carry_out(app, &generation, hand, course, &entry);
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        panicked(&generation);
    }
    drop(entry);
    conversations::tell_current(app, generation.user_id, generation.conversation_id).await;
}

async fn carry_out(
    app: &App,
    generation: &Generation,
    mut hand: Hand,
    course: Course,
    entry: &Entry,
) {
    match course {
        Course::Make => make(app, generation, hand, entry).await,
        Course::Break(error) => {
            let ending = Ending::Broken(error);
            conclude(app, generation, hand, ending, entry, Made::default()).await;
        }
        Course::Settle(outcome) => match settled(app, &mut hand, entry).await {
            None => settle(app, generation, hand, outcome, entry, None).await,
            Some(ending) => {
                conclude(app, generation, hand, ending, entry, Made::default()).await;
            }
        },
    }
}

async fn make(app: &App, generation: &Generation, hand: Hand, entry: &Entry) {
    meter::generation_started();
    let mut maker = Maker {
        app,
        generation,
        hand,
        entry,
        shown: false,
        made: Made::default(),
    };
    // Caught here, where the writer is still held: whoever follows the answer is told how it ended, once, by its only writer.
    let ending = AssertUnwindSafe(maker.make()).catch_unwind().await;
    let ending = ending.unwrap_or_else(|_| Ending::Broken(panicked(generation)));
    let Maker { hand, made, .. } = maker;
    conclude(app, generation, hand, ending, entry, made).await;
}

/// Without a log nothing may be shown: the answer fails before it begins.
pub(super) async fn without_log(app: &App, generation: &Generation, cause: &LogError) {
    let outcome = outcome(app, generation, "", Ending::Broken(log_error(cause)), None);
    if let Err(error) = app
        .db
        .finish(generation, "", &outcome, app.clock.now())
        .await
    {
        tracing::error!(id = %generation.id, "an answer without a log could not be ended: {error}");
    }
}

fn error(code: &str, message: &str) -> GenerationError {
    GenerationError {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn panicked(generation: &Generation) -> GenerationError {
    tracing::error!(id = %generation.id, "the task of an answer panicked; this is a defect of Jarvis");
    error("internal", "the server failed on this answer")
}

fn log_error(cause: &LogError) -> GenerationError {
    tracing::error!(error = sentence(cause), "an answer cannot be logged");
    match cause {
        LogError::Full(_) => error("storage_full", "no space is left to keep the answer"),
        LogError::Io(_) | LogError::Fenced | LogError::Away(_) => {
            error("storage_failed", "the answer cannot be kept")
        }
    }
}

fn store_error(cause: &StoreError) -> GenerationError {
    tracing::error!(error = sentence(cause), "the store failed an answer");
    match cause {
        StoreError::Full => error("storage_full", "no space is left to keep the answer"),
        _ => error("storage_failed", "the database does not answer"),
    }
}

/// How the making ended.
enum Ending {
    /// The model has said all.
    Done {
        prompt_tokens: u64,
        completion_tokens: u64,
    },
    /// Its user stopped it.
    Stopped,
    /// This process stops; the next one goes on.
    HandedOver,
    /// A later owner has it, or it was deleted.
    Lost,
    /// It cannot go on.
    Broken(GenerationError),
}

impl From<Halt> for Ending {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Lost => Self::Lost,
            Halt::Broken(cause) => Self::Broken(log_error(&cause)),
        }
    }
}

struct Maker<'a> {
    app: &'a App,
    generation: &'a Generation,
    hand: Hand,
    entry: &'a Entry,
    /// Whether this owner has shown anything.
    shown: bool,
    made: Made,
}

/// What is known of the making.
#[derive(Default)]
struct Made {
    /// From acceptance to the first character.
    first_token_ms: Option<u64>,
    /// The node that made the end.
    node: Option<String>,
}

impl Maker<'_> {
    async fn make(&mut self) -> Ending {
        let messages = match history::read(self.app, self.generation).await {
            Ok(messages) => messages,
            Err(cause) => return Ending::Broken(store_error(&cause)),
        };
        let mut patience = Patience::new(self.app.options.resume_within);
        loop {
            let before = self.hand.offset();
            let error = match self.attempt(&messages).await {
                Ok(ending) => return ending,
                Err(error) => error,
            };
            if self.hand.offset() > before {
                patience.renew();
            }
            let begun = self.hand.offset() > 0 || self.generation.epoch > 1;
            tracing::warn!(id = %self.generation.id, error = sentence(&error), "an answer was cut off");
            let Some(pause) = patience.after(&error, begun) else {
                return Ending::Broken(problem::of_chat(&error));
            };
            tokio::select! {
                biased;
                ending = called_off(self.entry) => return ending,
                () = sleep(pause) => {}
                halt = self.hand.tend() => return halt.into(),
            }
        }
    }

    /// One call of the balancer, from the text so far on.
    async fn attempt(&mut self, messages: &[ollama::Message]) -> Result<Ending, ChatError> {
        let text = self.hand.text();
        let mut stream = self.app.balancer.chat(ChatTurn {
            model: self.generation.model.clone(),
            messages: messages.to_vec(),
            text_so_far: (!text.is_empty()).then_some(text),
            tokens_so_far: self.hand.tokens(),
            caller: Caller::user(&self.generation.user_id),
        });
        // Once for all parts: who begins to wait anew takes a place in a queue.
        let mut called_off = pin!(called_off(self.entry));
        loop {
            let event = tokio::select! {
                biased;
                ending = &mut called_off => return Ok(ending),
                event = stream.next() => event,
                halt = self.hand.tend() => return Ok(halt.into()),
            };
            match event {
                Some(Ok(ChatEvent::Queued { position, eta_ms })) => {
                    self.hand.queued(QueuePlace { position, eta_ms }).await;
                }
                // All that has arrived, together.
                Some(Ok(ChatEvent::Text { text, tokens })) => {
                    if let Some(ending) = self.show(&text, tokens).await {
                        return Ok(ending);
                    }
                }
                Some(Ok(ChatEvent::Done {
                    prompt_tokens,
                    completion_tokens,
                    node,
                })) => {
                    self.made.node = (!node.is_empty()).then_some(node);
                    return Ok(Ending::Done {
                        prompt_tokens,
                        completion_tokens,
                    });
                }
                Some(Err(error)) => return Err(error),
                None => {
                    return Ok(Ending::Broken(error(
                        "node_failed",
                        "the node ended without an end",
                    )));
                }
            }
        }
    }

    /// Logs and shows text, as far as an answer may go; an ending if that cannot go on.
    async fn show(&mut self, text: &str, tokens: u64) -> Option<Ending> {
        let limit = self.app.options.answer_bytes;
        let room = limit.saturating_sub(self.hand.offset());
        let fitting = &text[..text.floor_char_boundary(room)];
        if let Some(ending) = self.show_fitting(fitting, tokens).await {
            return Some(ending);
        }
        (fitting.len() < text.len()).then(|| {
            let message = format!("the answer was cut off at {limit} bytes");
            Ending::Broken(error("answer_too_long", &message))
        })
    }

    async fn show_fitting(&mut self, text: &str, tokens: u64) -> Option<Ending> {
        let first = self.hand.offset() == 0;
        let said = tokio::select! {
            biased;
            said = self.hand.say(text, tokens) => said,
            ending = called_off(self.entry) => return Some(ending),
        };
        if let Err(halt) = said {
            return Some(halt.into());
        }
        if std::mem::replace(&mut self.shown, true) {
            return None;
        }
        // The first character of an answer that goes on was an earlier owner's.
        if first {
            let waited = self.app.clock.now().since(self.generation.created_at);
            self.made.first_token_ms = Some(millis(waited));
            meter::first_character(waited);
        }
        // Checkpoints say so too.
        if self.generation.status == Status::Running || self.app.is_shared() {
            return None;
        }
        let marked = self
            .app
            .db
            .mark_running(self.generation.id, self.generation.epoch);
        match marked.await {
            Ok(()) => None,
            Err(StoreError::Fenced) => Some(Ending::Lost),
            // The text is logged and shown; the end will try the store again.
            Err(cause) => {
                tracing::warn!(
                    error = sentence(&cause),
                    "an answer could not be marked as running"
                );
                None
            }
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(
    app: &App,
    generation: &Generation,
    text: &str,
    ending: Ending,
    first_token_ms: Option<u64>,
) -> Outcome {
    let (status, error, prompt_tokens, completion_tokens) = match ending {
        Ending::Done {
            prompt_tokens,
            completion_tokens,
        } => (Status::Done, None, prompt_tokens, completion_tokens),
        Ending::Stopped => (Status::Stopped, None, 0, 0),
        Ending::HandedOver | Ending::Lost => {
            let error = error(HANDED_OVER, "another process goes on with this answer");
            (Status::Interrupted, Some(error), 0, 0)
        }
        Ending::Broken(error) if text.is_empty() => (Status::Failed, Some(error), 0, 0),
        Ending::Broken(error) => (Status::Interrupted, Some(error), 0, 0),
    };
    let usage = (status == Status::Done).then(|| Usage {
        prompt_tokens,
        completion_tokens,
        total_ms: millis(app.clock.now().since(generation.created_at)),
        first_token_ms,
    });
    Outcome {
        status,
        usage,
        error,
    }
}

/// Returns when the answer is not to be gone on with here.
async fn called_off(entry: &Entry) -> Ending {
    let off = &entry.off;
    off.any.cancelled().await;
    if off.stop.is_cancelled() {
        Ending::Stopped
    } else if off.lost.is_cancelled() {
        Ending::Lost
    } else {
        Ending::HandedOver
    }
}

/// Waits until everything there is may be shown; an ending if that is not for this owner to do.
async fn settled(app: &App, hand: &mut Hand, entry: &Entry) -> Option<Ending> {
    tokio::select! {
        biased;
        settled = hand.settle() => settled.err().map(Into::into),
        () = entry.off.lost.cancelled() => Some(Ending::Lost),
        () = app.stopping.cancelled() => Some(Ending::HandedOver),
    }
}

/// Decides the end, or leaves the answer to its next owner.
async fn conclude(
    app: &App,
    generation: &Generation,
    mut hand: Hand,
    mut ending: Ending,
    entry: &Entry,
    made: Made,
) {
    let mut here = !matches!(ending, Ending::HandedOver | Ending::Lost);
    if here && let Some(other) = settled(app, &mut hand, entry).await {
        here = matches!(other, Ending::Broken(_));
        ending = other;
    }
    if matches!(ending, Ending::HandedOver) {
        hand.leave().await;
    }
    let text = hand.text();
    let outcome = outcome(app, generation, &text, ending, made.first_token_ms);
    if !here {
        return leave(app, generation, hand, outcome).await;
    }
    if let Err(cause) = hand.decide(&outcome).await {
        tracing::error!(
            id = %generation.id, error = sentence(&cause),
            "how an answer ended could not be written down; it is lost if the server dies before the store takes it"
        );
    }
    settle(app, generation, hand, outcome, entry, made.node).await;
}

/// Commits a decided end, which `node` made if that is known, then shows it.
async fn settle(
    app: &App,
    generation: &Generation,
    mut hand: Hand,
    outcome: Outcome,
    entry: &Entry,
    node: Option<String>,
) {
    let text = hand.text();
    let mut told = false;
    loop {
        match app
            .db
            .finish(generation, &text, &outcome, app.clock.now())
            .await
        {
            Ok(()) => break,
            // An earlier try may have been committed though nobody said so.
            Err(StoreError::Fenced) => match ended_before(app, generation).await {
                Some(true) => break,
                Some(false) => return leave(app, generation, hand, outcome).await,
                None => {}
            },
            Err(cause) if !told => {
                told = true;
                let error = store_error(&cause);
                // Where others may take the answer over, they may also be the ones to end it.
                if !app.is_shared() {
                    // It has not ended for good: whoever has the stores next ends it, or goes on with it.
                    hand.show_end(Outcome {
                        status: Status::Running,
                        usage: None,
                        error: Some(error),
                    })
                    .await;
                }
            }
            Err(_) => {}
        }
        // Text and end lie in the log meanwhile, where readers find them; if this process stops first, the next one tries.
        tokio::select! {
            () = app.stopping.cancelled() => return hand.go(),
            () = entry.off.lost.cancelled() => return leave(app, generation, hand, outcome).await,
            () = sleep(KEEP_PAUSE) => {}
        }
    }
    meter::generation_ended(app, generation, &outcome, node);
    close(generation, hand, outcome).await;
}

/// Whether this owner has ended it; none if the store does not say.
async fn ended_before(app: &App, generation: &Generation) -> Option<bool> {
    let found = app.db.generation(generation.user_id, generation.id).await;
    let found = found.ok()?;
    Some(found.is_some_and(|row| row.epoch == generation.epoch && !row.status.is_live()))
}

async fn close(generation: &Generation, hand: Hand, outcome: Outcome) {
    if let Err(error) = hand.finish(outcome).await {
        // The next start sweeps it away.
        tracing::warn!(id = %generation.id, "the log of an answer could not be removed: {error}");
    }
}

/// Leaves an answer to its next owner; what was deleted has none, and its files go too.
async fn leave(app: &App, generation: &Generation, hand: Hand, outcome: Outcome) {
    match app.db.generation(generation.user_id, generation.id).await {
        Ok(None) => close(generation, hand, outcome).await,
        Ok(Some(_)) | Err(_) => hand.hand_over(outcome),
    }
}
