//! Which models are in memory, and bringing them there.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use jarvis_protocol::ollama::KeepAlive;
use llama_cpp_2::{model::LlamaModel, token::LlamaToken};

use crate::{
    catalog::{Catalog, Kind, Manifest},
    error::EngineError,
    gguf::{Gguf, GgufError},
    options::EngineOptions,
    runtime::{Runner, Source, Ticket},
    template::ChatTemplate,
};

/// A generating model in memory.
pub(crate) struct ChatModel {
    pub manifest: Manifest,
    pub template: ChatTemplate,
    pub runner: Arc<Runner>,
}

/// The models in memory, by name. One name loads once, however many ask for it.
pub(crate) struct Models {
    catalog: Arc<Catalog>,
    options: EngineOptions,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    /// Replaced by others, but with answers still in hand.
    retiring: Mutex<Vec<Weak<ChatModel>>>,
}

/// Most replaced models that still finish their answers; each has a cache of its own.
const MOST_RETIRING: usize = 4;

#[derive(Default)]
struct Entry {
    loading: tokio::sync::Mutex<()>,
    model: Mutex<Option<Arc<ChatModel>>>,
}

impl Entry {
    fn current(&self) -> Option<Arc<ChatModel>> {
        self.model
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .filter(|model| model.runner.alive())
    }
}

impl Models {
    pub(crate) fn new(catalog: Arc<Catalog>, options: EngineOptions) -> Self {
        Self {
            catalog,
            options,
            entries: Mutex::default(),
            retiring: Mutex::default(),
        }
    }

    /// A model, loaded if it is not, with a window of at least `window` tokens (or the most it was trained
    /// on), and a place in its queue, which keeps it in memory. The time its unloading is counted from starts
    /// anew.
    ///
    /// # Errors
    /// No such model, or it cannot be loaded; [`EngineError::Busy`].
    pub(crate) async fn get(
        &self,
        manifest: Manifest,
        window: usize,
        keep_alive: KeepAlive,
    ) -> Result<(Arc<ChatModel>, Ticket), EngineError> {
        if manifest.kind != Kind::Gguf || !manifest.can("completion") {
            return Err(EngineError::NotSupported {
                model: manifest.name,
                what: "generate",
            });
        }
        let entry = self.entry(&manifest.name);
        let _one = entry.loading.lock().await;
        let current = entry.current();
        if let Some(model) = &current
            && model.manifest == manifest
            && model.runner.serves(window)
        {
            // The place first: without one, a model that is not to be kept could leave at once.
            let ticket = model.runner.ticket();
            model.runner.keep(keep_alive);
            if let Some(ticket) = ticket? {
                return Ok((Arc::clone(model), ticket));
            }
        }
        if self.retiring().len() >= MOST_RETIRING {
            return Err(EngineError::Busy);
        }
        let weights = current
            .filter(|model| model.manifest.digest == manifest.digest)
            .and_then(|model| model.runner.model());
        let window = self.rounded(window);
        let (model, ticket) = self.load(manifest, weights, window, keep_alive).await?;
        let replaced = entry
            .model
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(Arc::clone(&model));
        if let Some(old) = replaced {
            // What it has in hand it finishes; then it goes.
            old.runner.keep(KeepAlive::For(Duration::ZERO));
            self.retiring
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Arc::downgrade(&old));
        }
        Ok((model, ticket))
    }

    /// The window to load for a request: few sizes, so that growing windows do not load one after the other.
    fn rounded(&self, window: usize) -> usize {
        if window == self.options.num_ctx {
            window
        } else {
            window.next_power_of_two()
        }
    }

    /// Replaced models that answers still hold.
    fn retiring(&self) -> Vec<Arc<ChatModel>> {
        let mut retiring = self.retiring.lock().unwrap_or_else(PoisonError::into_inner);
        retiring.retain(|model| model.strong_count() > 0);
        retiring.iter().filter_map(Weak::upgrade).collect()
    }

    async fn load(
        &self,
        manifest: Manifest,
        weights: Option<Arc<LlamaModel>>,
        window: usize,
        keep_alive: KeepAlive,
    ) -> Result<(Arc<ChatModel>, Ticket), EngineError> {
        if weights.is_none() {
            self.make_room();
        }
        let options = self.options.clone();
        let path = self.catalog.blob_path(&manifest.digest);
        let name = manifest.name.clone();
        tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let source = match weights {
                Some(model) => Source::Model(model),
                None => whole(path)?,
            };
            let (runner, ticket) = Runner::load(source, window, keep_alive, &options)?;
            let model = runner.model().ok_or(EngineError::ShuttingDown)?;
            let template = chat_template(&model, &manifest, &options)?;
            tracing::info!(
                model = manifest.name,
                window = runner.window(),
                seconds = began.elapsed().as_secs_f64(),
                "model loaded"
            );
            let model = ChatModel {
                manifest,
                template,
                runner,
            };
            Ok((Arc::new(model), ticket))
        })
        .await
        .map_err(|error| EngineError::Internal(error.to_string()))?
        .map_err(|error| match error {
            EngineError::Load { reason, .. } => EngineError::Load {
                model: name,
                reason,
            },
            other => other,
        })
    }

    fn entry(&self, name: &str) -> Arc<Entry> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(entries.entry(name.to_owned()).or_default())
    }

    /// Every model in memory.
    pub(crate) fn running(&self) -> Vec<Arc<ChatModel>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .values()
            .filter_map(|entry| entry.current())
            .collect()
    }

    /// Takes the model out of memory that has been idle the longest, if there are too many.
    fn make_room(&self) {
        let running = self.running();
        if running.len() < self.options.max_loaded.max(1) {
            return;
        }
        let idle = running
            .iter()
            .filter_map(|model| Some((model.runner.idle_since()?, model)))
            .min_by_key(|(since, _)| *since);
        if let Some((_, model)) = idle {
            model.runner.stop();
        }
    }

    /// Lets a model go when it is done with what it has in hand.
    pub(crate) fn unload(&self, name: &str) {
        if let Some(model) = self.entry(name).current() {
            model.runner.keep(KeepAlive::For(Duration::ZERO));
        }
    }

    /// Ends every thread. What is in hand fails with [`EngineError::ShuttingDown`]. Blocks for one step.
    pub(crate) fn shutdown(&self) {
        let mut all = self.retiring();
        {
            // Also those that take nothing more: they may be computing still.
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(entries.values().filter_map(|entry| {
                entry
                    .model
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone()
            }));
        }
        for model in &all {
            model.runner.stop();
        }
        for model in &all {
            model.runner.join();
        }
    }
}

/// A thread that still computes when the process ends reads what llama.cpp has freed by then.
impl Drop for Models {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// The file, if it is one: llama.cpp itself does not say what is wrong with it.
fn whole(path: PathBuf) -> Result<Source, EngineError> {
    match Gguf::open(&path).and_then(|gguf| gguf.check_vocabulary()) {
        Ok(()) => Ok(Source::File(path)),
        Err(GgufError::Io(source)) => Err(EngineError::io(format!("opening {}", path.display()))(
            source,
        )),
        Err(error) => {
            tracing::error!(file = %path.display(), "a model's file cannot be used: {error}");
            Err(EngineError::Load {
                model: String::new(),
                reason: error.to_string(),
            })
        }
    }
}

fn chat_template(
    model: &LlamaModel,
    manifest: &Manifest,
    options: &EngineOptions,
) -> Result<ChatTemplate, EngineError> {
    let own = model
        .chat_template(None)
        .ok()
        .and_then(|template| template.to_string().ok());
    let source = manifest.template.as_deref().or(own.as_deref());
    let vocab = model.vocab();
    let text = |token: LlamaToken| {
        if token.0 < 0 {
            return String::new();
        }
        String::from_utf8_lossy(&vocab.token_to_piece(token, true, None)).into_owned()
    };
    ChatTemplate::new(
        source,
        text(vocab.bos()),
        text(vocab.eos()),
        options.clock.clone(),
    )
}
