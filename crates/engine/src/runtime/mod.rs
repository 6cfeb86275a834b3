//! Models in memory, and the thread each of them has.

mod job;
mod openmp;
mod shared;
mod slot;
mod threads;
mod worker;

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use jarvis_protocol::ollama::KeepAlive;
use llama_cpp_2::{
    LogOptions,
    context::params::LlamaContextParams,
    llama_backend::LlamaBackend,
    model::{LlamaModel, params::LlamaModelParams},
    send_logs_to_tracing,
};

pub(crate) use job::{Event, Finish, Job, Outcome, Ticket};

use crate::{error::EngineError, options::EngineOptions};
use shared::Shared;
use worker::{Command, Pace, Worker};

/// llama.cpp, initialised once in a process.
fn backend() -> Result<&'static LlamaBackend, EngineError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    BACKEND
        .get_or_init(|| {
            send_logs_to_tracing(LogOptions::default());
            LlamaBackend::init().map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|error| EngineError::Internal(format!("llama.cpp: {error}")))
}

/// Contexts must not be made at the same time: making one changes the model.
static CONTEXT: Mutex<()> = Mutex::new(());

/// A model in memory with the thread that computes it. Dropping it ends the thread after its present step.
pub(crate) struct Runner {
    /// The thread owns the weights: when it ends, they leave memory.
    model: Weak<LlamaModel>,
    window: usize,
    trained: usize,
    bytes: u64,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is loaded.
pub(crate) enum Source {
    /// A GGUF file.
    File(PathBuf),
    /// The weights are in memory already; only the window changes.
    Model(Arc<LlamaModel>),
}

impl Runner {
    /// Loads a model and starts its thread, with a first place in its queue: until that is given back, the model
    /// stays. Blocks: seconds for large models.
    ///
    /// # Errors
    /// The file cannot be loaded, or there is no memory for its context.
    pub(crate) fn load(
        source: Source,
        window: usize,
        keep_alive: KeepAlive,
        options: &EngineOptions,
    ) -> Result<(Arc<Self>, Ticket), EngineError> {
        let backend = backend()?;
        let model = match source {
            Source::Model(model) => model,
            Source::File(path) => Arc::new(load_model(backend, &path)?),
        };
        let trained = usize::try_from(model.n_ctx_train()).unwrap_or(usize::MAX);
        let window = window.min(trained).max(1);
        let shared = Shared::new(options.parallel + options.max_queue, keep_alive);
        let ticket = shared.take()?.ok_or(EngineError::ShuttingDown)?;
        let (commands, inbox) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let weak = Arc::downgrade(&model);
        let bytes = model.size() + cache_bytes(&model, window * options.parallel);
        let thread = {
            let (shared, options) = (Arc::clone(&shared), options.clone());
            std::thread::Builder::new()
                .name("jarvis-llama".to_owned())
                .spawn(move || {
                    compute(backend, &model, window, &options, inbox, shared, &ready);
                })
                .map_err(EngineError::io("starting the model's thread"))?
        };
        is_ready
            .recv()
            .map_err(|_| EngineError::Internal("the model's thread died".to_owned()))??;
        let runner = Self {
            model: weak,
            window,
            trained,
            bytes,
            shared,
            commands,
            thread: Mutex::new(Some(thread)),
        };
        Ok((Arc::new(runner), ticket))
    }

    /// The weights and the vocabulary; `None` when they have left memory.
    pub(crate) fn model(&self) -> Option<Arc<LlamaModel>> {
        self.model.upgrade()
    }

    /// Whether a request for this window can be served without loading anew.
    pub(crate) fn serves(&self, window: usize) -> bool {
        window.min(self.trained) <= self.window
    }

    /// Largest window of one request, tokens.
    pub(crate) fn window(&self) -> usize {
        self.window
    }

    /// A place in the queue, or `None` when this runner is going and another must be loaded.
    ///
    /// # Errors
    /// [`EngineError::Busy`].
    pub(crate) fn ticket(&self) -> Result<Option<Ticket>, EngineError> {
        self.shared.take()
    }

    /// Hands a job over. Its events end without a last one if the thread dies.
    pub(crate) fn submit(&self, job: Job) {
        let _ = self.commands.send(Command::Run(Box::new(job)));
    }

    /// Sets how long the model stays after its last job; the time starts anew.
    pub(crate) fn keep(&self, keep_alive: KeepAlive) {
        self.shared.keep(keep_alive);
        let _ = self.commands.send(Command::Wake);
    }

    /// Takes no further jobs; those in hand fail with [`EngineError::ShuttingDown`].
    pub(crate) fn stop(&self) {
        self.shared.refuse();
        let _ = self.commands.send(Command::Wake);
    }

    /// Weights and cache, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it still takes jobs.
    pub(crate) fn alive(&self) -> bool {
        self.shared.accepting()
    }

    /// Since when nothing is asked of it.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.shared.idle_since()
    }

    /// When it leaves memory if nobody asks; `None`: never.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.shared.deadline()
    }

    /// Waits for the thread's end. Blocks.
    pub(crate) fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Keys and values of so many tokens at two bytes a number; of models with an unusual attention an estimate.
fn cache_bytes(model: &LlamaModel, tokens: usize) -> u64 {
    let width = u64::try_from(model.n_embd()).unwrap_or(0) / u64::from(model.n_head().max(1))
        * u64::from(model.n_head_kv());
    u64::from(model.n_layer()) * width * 4 * tokens as u64
}

fn load_model(backend: &LlamaBackend, path: &Path) -> Result<LlamaModel, EngineError> {
    if !path.exists() {
        return Err(EngineError::Io {
            what: format!("opening {}", path.display()),
            cause: std::io::ErrorKind::NotFound.into(),
        });
    }
    LlamaModel::load_from_file(backend, path, &LlamaModelParams::default()).map_err(|error| {
        EngineError::Load {
            model: path.display().to_string(),
            reason: error.to_string(),
        }
    })
}

/// However the thread ends, the next request finds that another must be loaded.
struct Refuse(Arc<Shared>);

impl Drop for Refuse {
    fn drop(&mut self) {
        self.0.refuse();
    }
}

/// Most prompt tokens of one step, whatever its time.
const MAX_BATCH: usize = 512;

fn context_params(window: usize, options: &EngineOptions) -> LlamaContextParams {
    let cells = window.saturating_mul(options.parallel);
    let threads = i32::try_from(options.effective_threads()).unwrap_or(1);
    let batch = u32::try_from(MAX_BATCH + options.parallel).unwrap_or(u32::MAX);
    LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(u32::try_from(cells).unwrap_or(u32::MAX)))
        .with_n_batch(batch)
        .with_n_ubatch(batch)
        .with_n_seq_max(u32::try_from(options.parallel).unwrap_or(1))
        .with_kv_unified(true)
        .with_n_threads(threads)
        .with_n_threads_batch(threads)
        .with_no_perf(true)
}

fn compute(
    backend: &LlamaBackend,
    model: &LlamaModel,
    window: usize,
    options: &EngineOptions,
    inbox: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    ready: &mpsc::Sender<Result<(), EngineError>>,
) {
    let _at_the_end = Refuse(Arc::clone(&shared));
    let context = {
        let _one_at_a_time = CONTEXT.lock().unwrap_or_else(PoisonError::into_inner);
        model.new_context(backend, context_params(window, options))
    };
    match context {
        Ok(context) => {
            let _ = ready.send(Ok(()));
            let pace = Pace {
                parallel: options.parallel,
                threads: options.effective_threads(),
                max_batch: MAX_BATCH,
                step_time: options.step_time,
                prefix_reuse: options.prefix_reuse,
            };
            Worker::new(model, context, inbox, shared, pace).run();
        }
        Err(error) => {
            let _ = ready.send(Err(EngineError::Load {
                model: "context".to_owned(),
                reason: error.to_string(),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_dies_takes_no_more_jobs() {
        let shared = Shared::new(1, KeepAlive::Forever);
        let held = Refuse(Arc::clone(&shared));
        let died = std::thread::spawn(move || {
            let _at_the_end = held;
            panic!("as a fault in a model's thread would");
        })
        .join();
        assert!(died.is_err());
        assert!(shared.take().unwrap().is_none());
    }
}
