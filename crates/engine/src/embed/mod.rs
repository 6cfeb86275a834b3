//! Embeddings: texts to vectors, by a small BERT on the processor.

mod bert;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jarvis_protocol::ollama::KeepAlive;
use tokenizers::Tokenizer;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catalog::{Catalog, Kind, Manifest},
    error::EngineError,
    options::EngineOptions,
};
use bert::Bert;

/// Tokens of a text that count; the model was made for this many.
const WINDOW: usize = 256;
/// Texts computed together. Between two groups others have their turn and a client that left is noticed.
const GROUP: usize = 16;

/// Most texts of one request.
const MOST_TEXTS: usize = 4096;

/// A model in memory.
struct Encoder {
    bert: Bert,
    tokenizer: Tokenizer,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Embedded {
    /// One vector of length 1 for each text, in order.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub tokens: u64,
    /// Waiting for the model.
    pub load: Duration,
}

/// An embedding model in memory, for `ps`.
pub(crate) struct RunningEncoder {
    pub manifest: Manifest,
    pub deadline: Option<Instant>,
}

impl RunningEncoder {
    /// Tokens of a text that count.
    pub(crate) const WINDOW: usize = WINDOW;
}

struct Loaded {
    encoder: Arc<Encoder>,
    manifest: Manifest,
    deadline: Option<Instant>,
}

/// The embedding models in memory. One computation at a time: it uses every core itself.
pub(crate) struct Embedders {
    catalog: Arc<Catalog>,
    loaded: Arc<Mutex<HashMap<String, Loaded>>>,
    loading: tokio::sync::Mutex<()>,
    places: Semaphore,
    computing: Arc<Semaphore>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Embedders {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        options: &EngineOptions,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        Self {
            catalog,
            loaded: Arc::default(),
            loading: tokio::sync::Mutex::default(),
            places: Semaphore::new(options.parallel + options.max_queue),
            computing: Arc::new(Semaphore::new(1)),
            tasks,
            closing,
        }
    }

    /// The vectors of some texts; of none, the model is only loaded (or unloaded).
    ///
    /// # Errors
    /// Not an embedding model; too many texts; a text that is too long and may not be cut; the queue is full.
    pub(crate) async fn embed(
        &self,
        manifest: Manifest,
        texts: Vec<String>,
        truncate: bool,
        keep_alive: KeepAlive,
    ) -> Result<Embedded, EngineError> {
        if manifest.kind != Kind::Bert {
            return Err(EngineError::NotSupported {
                model: manifest.name,
                what: "embeddings",
            });
        }
        if texts.len() > MOST_TEXTS {
            return Err(EngineError::BadRequest(format!(
                "too many texts in one request: {}, at most {MOST_TEXTS}",
                texts.len()
            )));
        }
        let _place = self.places.try_acquire().map_err(|_| EngineError::Busy)?;
        let began = Instant::now();
        let name = manifest.name.clone();
        let encoder = self.get(manifest).await?;
        let load = began.elapsed();
        let result = if texts.is_empty() {
            Ok((Vec::new(), 0))
        } else {
            self.compute(encoder, texts, truncate).await
        };
        self.keep(&name, keep_alive);
        let (vectors, tokens) = result?;
        Ok(Embedded {
            vectors,
            tokens,
            load,
        })
    }

    /// Group by group, so that others have their turn between two of them, and who has left ends it.
    async fn compute(
        &self,
        encoder: Arc<Encoder>,
        texts: Vec<String>,
        truncate: bool,
    ) -> Result<(Vec<Vec<f32>>, u64), EngineError> {
        let reader = Arc::clone(&encoder);
        let inputs = self
            .apart(move |left| read(&reader, &texts, truncate, left))
            .await?;
        let inputs = Arc::new(inputs);
        let tokens = inputs.iter().map(|ids| ids.len() as u64).sum();
        // Texts of like length together: little is computed for padding.
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|at| inputs[*at].len());
        let mut vectors = vec![Vec::new(); inputs.len()];
        for group in order.chunks(GROUP) {
            let turn = Arc::clone(&self.computing)
                .acquire_owned()
                .await
                .map_err(|_| EngineError::ShuttingDown)?;
            let (encoder, inputs) = (Arc::clone(&encoder), Arc::clone(&inputs));
            let places = group.to_vec();
            let results = self
                .apart(move |_| {
                    let _turn = turn;
                    let ids: Vec<&[u32]> = places.iter().map(|at| inputs[*at].as_slice()).collect();
                    encoder
                        .bert
                        .embed(&ids)
                        .map_err(|error| EngineError::Internal(format!("embedding: {error}")))
                })
                .await?;
            for (at, vector) in group.iter().zip(results) {
                vectors[*at] = vector;
            }
        }
        Ok((vectors, tokens))
    }

    /// Runs something off the async threads. It can ask whether its caller has left.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (sender, result) = tokio::sync::oneshot::channel();
        self.tasks.spawn_blocking(move || {
            let done = work(&|| sender.is_closed());
            let _ = sender.send(done);
        });
        result
            .await
            .map_err(|_| EngineError::Internal("the embedding broke off".to_owned()))?
    }

    async fn get(&self, manifest: Manifest) -> Result<Arc<Encoder>, EngineError> {
        let _one = self.loading.lock().await;
        if let Some(loaded) = lock(&self.loaded).get(&manifest.name)
            && loaded.manifest.digest == manifest.digest
        {
            return Ok(Arc::clone(&loaded.encoder));
        }
        let weights = self.catalog.blob_path(&manifest.digest);
        let tokenizer = manifest
            .tokenizer
            .as_deref()
            .map(|digest| self.catalog.blob_path(digest))
            .ok_or_else(|| load_error(&manifest, "it has no tokenizer"))?;
        let encoder = tokio::task::spawn_blocking(move || {
            Ok::<_, String>(Encoder {
                bert: Bert::load(&weights).map_err(|error| error.to_string())?,
                tokenizer: open_tokenizer(&tokenizer)?,
            })
        })
        .await
        .map_err(|error| EngineError::Internal(error.to_string()))?
        .map_err(|reason| load_error(&manifest, &reason))?;
        let encoder = Arc::new(encoder);
        let name = manifest.name.clone();
        lock(&self.loaded).insert(
            name.clone(),
            Loaded {
                encoder: Arc::clone(&encoder),
                manifest,
                deadline: None,
            },
        );
        self.reap(name);
        Ok(encoder)
    }

    fn keep(&self, name: &str, keep_alive: KeepAlive) {
        let mut all = lock(&self.loaded);
        match keep_alive {
            KeepAlive::For(time) if time.is_zero() => {
                all.remove(name);
            }
            KeepAlive::For(time) => {
                if let Some(loaded) = all.get_mut(name) {
                    loaded.deadline = Instant::now().checked_add(time);
                }
            }
            KeepAlive::Forever => {
                if let Some(loaded) = all.get_mut(name) {
                    loaded.deadline = None;
                }
            }
        }
    }

    /// Watches over a loaded model until it has left memory.
    fn reap(&self, name: String) {
        const LOOK: Duration = Duration::from_secs(1);
        let all = Arc::clone(&self.loaded);
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            loop {
                let next = {
                    let mut all = lock(&all);
                    let Some(loaded) = all.get(&name) else { return };
                    match loaded.deadline {
                        Some(at) if at <= Instant::now() => {
                            all.remove(&name);
                            return;
                        }
                        Some(at) => at.saturating_duration_since(Instant::now()).max(LOOK),
                        None => LOOK,
                    }
                };
                if closing
                    .run_until_cancelled(tokio::time::sleep(next))
                    .await
                    .is_none()
                {
                    lock(&all).clear();
                    return;
                }
            }
        });
    }

    /// Every embedding model in memory.
    pub(crate) fn running(&self) -> Vec<RunningEncoder> {
        lock(&self.loaded)
            .values()
            .map(|loaded| RunningEncoder {
                manifest: loaded.manifest.clone(),
                deadline: loaded.deadline,
            })
            .collect()
    }

    /// Lets a model go.
    pub(crate) fn unload(&self, name: &str) {
        lock(&self.loaded).remove(name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load_error(manifest: &Manifest, reason: &str) -> EngineError {
    EngineError::Load {
        model: manifest.name.clone(),
        reason: reason.to_owned(),
    }
}

fn open_tokenizer(path: &std::path::Path) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::from_file(path).map_err(|error| error.to_string())?;
    // The file asks for a fixed length; texts are padded in their groups instead, and cut here.
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(None)
        .map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// The tokens of each text, as far as anybody waits for them.
fn read(
    encoder: &Encoder,
    texts: &[String],
    truncate: bool,
    left: &dyn Fn() -> bool,
) -> Result<Vec<Vec<u32>>, EngineError> {
    texts
        .iter()
        .take_while(|_| !left())
        .map(|text| token_ids(encoder, text, truncate))
        .collect()
}

fn token_ids(encoder: &Encoder, text: &str, truncate: bool) -> Result<Vec<u32>, EngineError> {
    let encoding = encoder
        .tokenizer
        .encode_fast(text, true)
        .map_err(|error| EngineError::Internal(format!("tokenizer: {error}")))?;
    let mut ids = encoding.get_ids().to_vec();
    if ids.len() > WINDOW {
        if !truncate {
            return Err(EngineError::BadRequest(format!(
                "the input length exceeds the context length: {} tokens, at most {WINDOW}",
                ids.len()
            )));
        }
        // The last token closes the text; it stays.
        let end = ids.last().copied();
        ids.truncate(WINDOW - 1);
        ids.extend(end);
    }
    Ok(ids)
}

/// The first dimensions of a vector, at length 1 again.
pub(crate) fn shorten(vectors: &mut [Vec<f32>], dimensions: Option<usize>) {
    let Some(dimensions) = dimensions.filter(|n| *n > 0) else {
        return;
    };
    for vector in vectors {
        if dimensions < vector.len() {
            vector.truncate(dimensions);
            let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-12);
            for x in vector {
                *x /= length;
            }
        }
    }
}
