//! One generation, whatever dialect asked for it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jarvis_protocol::{
    Continue,
    ollama::{DoneReason, Format, KeepAlive, Metrics, Options},
};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    Inner,
    catalog::Manifest,
    error::EngineError,
    grammar::{self, Grammar},
    models::ChatModel,
    prompt::{self, Input, Room},
    runtime::{Event, Finish, Job, Outcome, Ticket},
    sampling::SamplingParams,
};

/// A request in no dialect.
#[derive(Debug)]
pub(crate) struct Call {
    pub manifest: Manifest,
    /// `None`: only load the model (or unload it, with `keep_alive` 0).
    pub input: Option<Input>,
    pub options: Options,
    pub format: Option<Format>,
    pub keep_alive: Option<KeepAlive>,
    pub resume: Option<Continue>,
    pub report_tokens: bool,
}

/// What became of it.
pub(crate) enum Started {
    /// Nothing was to be generated.
    Idle(DoneReason, Metrics),
    /// The answer is on its way.
    Running(Answer),
}

/// An answer on its way. Dropping it stops it.
pub(crate) struct Answer {
    events: UnboundedReceiver<Event>,
    /// A model that another has replaced stays as long as an answer comes from it.
    _model: Arc<ChatModel>,
    ready: Option<Event>,
    arrived: Instant,
    load: Duration,
}

/// The end of an answer.
#[derive(Debug)]
pub(crate) struct End {
    pub reason: DoneReason,
    pub metrics: Metrics,
    pub outcome: Outcome,
}

/// One piece of an answer.
pub(crate) enum Piece {
    Text(String, Vec<i32>),
    End(End),
}

impl Answer {
    /// The next piece. After [`Piece::End`] or an error there is none.
    ///
    /// # Errors
    /// The answer cannot go on.
    pub(crate) async fn next(&mut self) -> Result<Piece, EngineError> {
        let event = match self.ready.take() {
            Some(event) => Some(event),
            None => self.events.recv().await,
        };
        match event {
            Some(Event::Text { text, tokens }) => Ok(Piece::Text(text, tokens)),
            Some(Event::Done(outcome)) => Ok(Piece::End(self.end(outcome))),
            Some(Event::Failed(error)) => Err(error),
            None => Err(EngineError::Internal("the model's thread died".to_owned())),
        }
    }

    /// Waits for the first piece, so that what fails at once fails before anything is answered.
    async fn first(&mut self) -> Result<(), EngineError> {
        match self.events.recv().await {
            Some(Event::Failed(error)) => Err(error),
            None => Err(EngineError::Internal("the model's thread died".to_owned())),
            event => {
                self.ready = event;
                Ok(())
            }
        }
    }

    fn end(&self, outcome: Outcome) -> End {
        End {
            reason: match outcome.finish {
                Finish::Stop => DoneReason::Stop,
                Finish::Length => DoneReason::Length,
            },
            metrics: Metrics {
                total_duration: nanos(self.arrived.elapsed()),
                load_duration: nanos(self.load),
                prompt_eval_count: outcome.prompt_tokens,
                prompt_eval_duration: outcome.prompt_nanos,
                eval_count: outcome.eval_tokens,
                eval_duration: outcome.eval_nanos,
            },
            outcome,
        }
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Inner {
    /// Starts a generation and waits for its first piece.
    ///
    /// # Errors
    /// Everything that can be said before the first piece.
    pub(crate) async fn start(&self, call: Call) -> Result<Started, EngineError> {
        let arrived = Instant::now();
        let manifest = call.manifest;
        let options = merged(&manifest, call.options)?;
        let sampling = SamplingParams::new(&options)?;
        let window = window(&options, self.options.num_ctx)?;
        let keep_alive = call.keep_alive.unwrap_or(self.options.keep_alive);
        if call.format.is_some() && call.resume.is_some() {
            return Err(EngineError::BadRequest(
                "an answer of a given format cannot be continued".to_owned(),
            ));
        }
        let rules = call.format.as_ref().map(grammar::rules).transpose()?;
        let Some(input) = call.input else {
            return self.only_load(manifest, window, keep_alive, arrived).await;
        };
        let (model, ticket) = self.claim(manifest, window, keep_alive).await?;
        let load = arrived.elapsed();
        let room = Room::new(window.min(model.runner.window()), &options);
        let (prompt, grammar) = {
            let model = Arc::clone(&model);
            let resume = call.resume;
            tokio::task::spawn_blocking(move || {
                let weights = model.runner.model().ok_or(EngineError::ShuttingDown)?;
                let grammar = rules
                    .map(|rules| Grammar::new(&weights, &rules))
                    .transpose()?;
                let prompt =
                    prompt::build(&weights, &model.template, input, resume.as_ref(), room)?;
                Ok::<_, EngineError>((prompt, grammar))
            })
            .await
            .map_err(|error| EngineError::Internal(error.to_string()))??
        };
        let (events, receiver) = unbounded_channel();
        let mut answer = Answer {
            events: receiver,
            _model: Arc::clone(&model),
            ready: None,
            arrived,
            load,
        };
        if prompt.tokens.len() >= room.window {
            // The answer so far fills the window: it is at its end.
            answer.ready = Some(Event::Done(Outcome::full(&prompt.tokens)));
            return Ok(Started::Running(answer));
        }
        let job = Job {
            prompt: prompt.tokens,
            answered: prompt.answered,
            sampling,
            grammar,
            stops: options.stop.clone(),
            max_tokens: options
                .num_predict
                .and_then(|n| usize::try_from(n).ok())
                .filter(|n| *n > 0)
                .unwrap_or(usize::MAX),
            window: room.window,
            report_tokens: call.report_tokens,
            events,
            ticket,
        };
        model.runner.submit(job);
        answer.first().await?;
        Ok(Started::Running(answer))
    }

    /// The model in memory and a place in its queue.
    async fn claim(
        &self,
        manifest: Manifest,
        window: usize,
        keep_alive: KeepAlive,
    ) -> Result<(Arc<ChatModel>, Ticket), EngineError> {
        if self.closing.is_cancelled() {
            return Err(EngineError::ShuttingDown);
        }
        self.models.get(manifest, window, keep_alive).await
    }

    async fn only_load(
        &self,
        manifest: Manifest,
        window: usize,
        keep_alive: KeepAlive,
        arrived: Instant,
    ) -> Result<Started, EngineError> {
        if keep_alive == KeepAlive::For(Duration::ZERO) {
            self.models.unload(&manifest.name);
            return Ok(Started::Idle(DoneReason::Unload, Metrics::default()));
        }
        match self.claim(manifest, window, keep_alive).await {
            // A full queue is that of a loaded model.
            Ok(_) | Err(EngineError::Busy) => {}
            Err(error) => return Err(error),
        }
        let took = nanos(arrived.elapsed());
        Ok(Started::Idle(
            DoneReason::Load,
            Metrics {
                total_duration: took,
                load_duration: took,
                ..Metrics::default()
            },
        ))
    }

    /// A model's manifest, read off the async threads.
    ///
    /// # Errors
    /// No such model.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Manifest, EngineError> {
        let (catalog, name) = (Arc::clone(&self.catalog), name.to_owned());
        tokio::task::spawn_blocking(move || catalog.get(&name))
            .await
            .map_err(|error| EngineError::Internal(error.to_string()))?
    }
}

/// Refuses options that no request could be computed with.
///
/// # Errors
/// Which value it is, and what it should be.
pub(crate) fn check(options: &Options) -> Result<(), EngineError> {
    window(options, 0)?;
    SamplingParams::new(options).map(drop)
}

fn window(options: &Options, default: usize) -> Result<usize, EngineError> {
    match options.num_ctx {
        None => Ok(default),
        Some(given) => usize::try_from(given)
            .ok()
            .filter(|window| (4..=1 << 24).contains(window))
            .ok_or_else(|| {
                EngineError::BadRequest(format!("invalid num_ctx {given}: expected 4 to 16777216"))
            }),
    }
}

/// The model's own options, and over them those of the request.
fn merged(manifest: &Manifest, request: Options) -> Result<Options, EngineError> {
    if manifest.parameters.is_empty() {
        return Ok(request);
    }
    let mut both = manifest.parameters.clone();
    if let Ok(Value::Object(request)) = serde_json::to_value(&request) {
        both.extend(request);
    }
    serde_json::from_value(Value::Object(both))
        .map_err(|error| EngineError::BadRequest(format!("options: {error}")))
}
