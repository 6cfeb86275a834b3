//! One answer, from the question to its end.
//!
//! Text is logged, then shown; the end is decided in the log, committed in SQL, then shown. Whatever stops this process in
//! between, the next one finds the text in the log and the generation unfinished, and goes on, or ends it as decided.

use super::{history, patience::Patience};
use crate::{app::App, conversations, meter, problem};
use futures_util::{FutureExt as _, StreamExt as _};
use jarvis_balancer::{Caller, ChatError, ChatEvent, ChatStream, ChatTurn};
use jarvis_domain::{Generation, GenerationError, Status, Usage, sentence};
use jarvis_protocol::ollama;
use jarvis_store::{AnswerWriter, LogError, Outcome, QueuePlace, StoreError};
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

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

/// Makes an answer, or goes on with one. Readers can follow it when this returns.
pub(super) fn run(app: &App, generation: Generation) {
    let stop = app.generations.add(&generation);
    let writer = app.answers.writer(generation.id, generation.epoch);
    let app = app.clone();
    let tasks = app.tasks.clone();
    tasks.spawn(async move {
        let work = AssertUnwindSafe(make(&app, &generation, writer, stop)).catch_unwind();
        if work.await.is_err() {
            let error = panicked(&generation);
            let writer = app.answers.writer(generation.id, generation.epoch);
            end_with(&app, &generation, writer, error).await;
        }
        app.generations.remove(generation.id);
        conversations::tell_current(&app, generation.user_id, generation.conversation_id).await;
    });
}

/// Ends an answer with what its log holds, beside whatever else goes on: the store may take its time.
pub(super) fn end(app: &App, generation: Generation, error: GenerationError) {
    let _stop = app.generations.add(&generation);
    let writer = app.answers.writer(generation.id, generation.epoch);
    let app = app.clone();
    let tasks = app.tasks.clone();
    tasks.spawn(async move {
        end_with(&app, &generation, writer, error).await;
        app.generations.remove(generation.id);
        conversations::tell_current(&app, generation.user_id, generation.conversation_id).await;
    });
}

/// As it was decided before, or else with `error`.
async fn end_with(
    app: &App,
    generation: &Generation,
    writer: Result<AnswerWriter, LogError>,
    error: GenerationError,
) {
    let writer = match writer {
        Ok(writer) => writer,
        Err(error) => {
            tracing::error!(id = %generation.id, "an answer's log cannot be read: {error}");
            return;
        }
    };
    match decided(app, generation) {
        Some(outcome) => settle(app, generation, writer, outcome).await,
        None => conclude(app, generation, writer, Ending::Broken(error), None).await,
    }
}

/// How an answer ended that the store has not taken yet, if it did.
pub(super) fn decided(app: &App, generation: &Generation) -> Option<Outcome> {
    match app.answers.decided(generation.id) {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(
                id = %generation.id, error = sentence(&error),
                "how an answer ended cannot be read: it goes on"
            );
            None
        }
    }
}

async fn make(
    app: &App,
    generation: &Generation,
    writer: Result<AnswerWriter, LogError>,
    stop: CancellationToken,
) {
    meter::generation_started();
    let writer = match writer {
        Ok(writer) => writer,
        Err(cause) => return without_log(app, generation, &cause).await,
    };
    let mut maker = Maker {
        app,
        generation,
        writer,
        stop,
        shown: false,
        first_token_ms: None,
    };
    // Caught here, where the writer is still held: whoever follows the answer is told how it ended, once, by its only writer.
    let ending = AssertUnwindSafe(maker.make()).catch_unwind().await;
    let ending = ending.unwrap_or_else(|_| Ending::Broken(panicked(generation)));
    let Maker {
        writer,
        first_token_ms,
        ..
    } = maker;
    conclude(app, generation, writer, ending, first_token_ms).await;
}

/// Without a log nothing may be shown: the answer fails before it begins.
async fn without_log(app: &App, generation: &Generation, cause: &LogError) {
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
        LogError::Io(_) => error("storage_failed", "the answer cannot be kept"),
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

struct Maker<'a> {
    app: &'a App,
    generation: &'a Generation,
    writer: AnswerWriter,
    stop: CancellationToken,
    /// Whether this owner has shown anything.
    shown: bool,
    first_token_ms: Option<u64>,
}

impl Maker<'_> {
    async fn make(&mut self) -> Ending {
        let messages = match history::read(self.app, self.generation).await {
            Ok(messages) => messages,
            Err(cause) => return Ending::Broken(store_error(&cause)),
        };
        let mut patience = Patience::new(self.app.options.resume_within);
        loop {
            let before = self.writer.offset();
            let error = match self.attempt(&messages).await {
                Ok(ending) => return ending,
                Err(error) => error,
            };
            if self.writer.offset() > before {
                patience.renew();
            }
            let begun = self.writer.offset() > 0 || self.generation.attempts > 1;
            tracing::warn!(id = %self.generation.id, error = sentence(&error), "an answer was cut off");
            let Some(pause) = patience.after(&error, begun) else {
                return Ending::Broken(problem::of_chat(&error));
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ending::Stopped,
                () = self.app.stopping.cancelled() => return Ending::HandedOver,
                () = sleep(pause) => {}
            }
        }
    }

    /// One call of the balancer, from the text so far on.
    async fn attempt(&mut self, messages: &[ollama::Message]) -> Result<Ending, ChatError> {
        let text = self.writer.text();
        let mut stream = self.app.balancer.chat(ChatTurn {
            model: self.generation.model.clone(),
            messages: messages.to_vec(),
            text_so_far: (!text.is_empty()).then_some(text),
            tokens_so_far: self.writer.tokens(),
            caller: Caller::user(&self.generation.user_id),
        });
        let mut next = None;
        loop {
            let event = if let Some(event) = next.take() {
                event
            } else {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(Ending::Stopped),
                    () = self.app.stopping.cancelled() => return Ok(Ending::HandedOver),
                    event = stream.next() => event,
                }
            };
            match event {
                Some(Ok(ChatEvent::Queued { position, eta_ms })) => {
                    self.writer.queued(QueuePlace { position, eta_ms });
                }
                Some(Ok(ChatEvent::Text {
                    mut text,
                    mut tokens,
                })) => {
                    let limit = self.app.options.answer_bytes;
                    next = gather(&mut text, &mut tokens, &mut stream, limit);
                    if let Some(ending) = self.show(&text).await {
                        return Ok(ending);
                    }
                    self.note_tokens(tokens);
                }
                Some(Ok(ChatEvent::Done {
                    prompt_tokens,
                    completion_tokens,
                    ..
                })) => {
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
    async fn show(&mut self, text: &str) -> Option<Ending> {
        let limit = self.app.options.answer_bytes;
        let room = limit.saturating_sub(self.writer.offset());
        let fitting = &text[..text.floor_char_boundary(room)];
        if let Some(ending) = self.show_fitting(fitting).await {
            return Some(ending);
        }
        (fitting.len() < text.len()).then(|| {
            let message = format!("the answer was cut off at {limit} bytes");
            Ending::Broken(error("answer_too_long", &message))
        })
    }

    /// For the figures alone: without it an answer that goes on would count too little.
    fn note_tokens(&mut self, tokens: u64) {
        if let Err(cause) = self.writer.note_tokens(tokens) {
            tracing::warn!(
                id = %self.generation.id, error = sentence(&cause),
                "the tokens of an answer could not be noted"
            );
        }
    }

    async fn show_fitting(&mut self, text: &str) -> Option<Ending> {
        let first = self.writer.offset() == 0;
        if let Err(cause) = self.writer.append(text) {
            return Some(Ending::Broken(log_error(&cause)));
        }
        if std::mem::replace(&mut self.shown, true) {
            return None;
        }
        // The first character of an answer that goes on was an earlier owner's.
        if first {
            let waited = self.app.clock.now().since(self.generation.created_at);
            self.first_token_ms = Some(millis(waited));
            meter::first_character(waited);
        }
        if self.generation.status == Status::Running {
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

/// Adds what has arrived meanwhile to `text`, up to about `limit` bytes, and says how many `tokens` there are then; the first event that is no text, if there is one.
#[expect(
    clippy::option_option,
    reason = "nothing yet and the stream's end are two different things"
)]
fn gather(
    text: &mut String,
    tokens: &mut u64,
    stream: &mut ChatStream,
    limit: usize,
) -> Option<Option<Result<ChatEvent, ChatError>>> {
    while text.len() <= limit {
        match stream.next().now_or_never()? {
            Some(Ok(ChatEvent::Text {
                text: more,
                tokens: so_far,
            })) => {
                text.push_str(&more);
                *tokens = so_far;
            }
            other => return Some(other),
        }
    }
    None
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

/// Decides the end, or leaves the answer to its next owner.
async fn conclude(
    app: &App,
    generation: &Generation,
    writer: AnswerWriter,
    ending: Ending,
    first_token_ms: Option<u64>,
) {
    let here = !matches!(ending, Ending::HandedOver | Ending::Lost);
    let text = writer.text();
    let outcome = outcome(app, generation, &text, ending, first_token_ms);
    if !here {
        return leave(app, generation, writer, outcome).await;
    }
    if let Err(cause) = writer.decide(&outcome) {
        tracing::error!(
            id = %generation.id, error = sentence(&cause),
            "how an answer ended could not be written down; it is lost if the server dies before the store takes it"
        );
    }
    settle(app, generation, writer, outcome).await;
}

/// Commits a decided end, then shows it.
async fn settle(app: &App, generation: &Generation, writer: AnswerWriter, outcome: Outcome) {
    let text = writer.text();
    match app
        .db
        .finish(generation, &text, &outcome, app.clock.now())
        .await
    {
        Ok(()) => {
            meter::generation_ended(outcome.status);
            close(generation, writer, outcome);
        }
        Err(StoreError::Fenced) => leave(app, generation, writer, outcome).await,
        Err(cause) => {
            writer.show_end(Outcome {
                status: Status::Interrupted,
                usage: None,
                error: Some(store_error(&cause)),
            });
            keep(app, generation, writer, &text, outcome).await;
        }
    }
}

fn close(generation: &Generation, writer: AnswerWriter, outcome: Outcome) {
    if let Err(error) = writer.finish(outcome) {
        // The next start sweeps it away.
        tracing::warn!(id = %generation.id, "the log of an answer could not be removed: {error}");
    }
}

/// Leaves an answer to its next owner; what was deleted has none, and its files go too.
async fn leave(app: &App, generation: &Generation, writer: AnswerWriter, outcome: Outcome) {
    match app.db.generation(generation.user_id, generation.id).await {
        Ok(None) => close(generation, writer, outcome),
        Ok(Some(_)) | Err(_) => writer.hand_over(outcome),
    }
}

/// Tries again and again to commit an end that the store did not take. Text and end lie in the log meanwhile, where readers
/// find them; if this process stops first, the next one does.
async fn keep(
    app: &App,
    generation: &Generation,
    writer: AnswerWriter,
    text: &str,
    outcome: Outcome,
) {
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            () = sleep(KEEP_PAUSE) => {}
        }
        match app
            .db
            .finish(generation, text, &outcome, app.clock.now())
            .await
        {
            Ok(()) => break,
            Err(StoreError::Fenced) => return leave(app, generation, writer, outcome).await,
            Err(_) => {}
        }
    }
    meter::generation_ended(outcome.status);
    close(generation, writer, outcome);
}
