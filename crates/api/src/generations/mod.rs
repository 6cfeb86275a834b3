//! The making of answers: asked for, run, followed and stopped. An answer belongs to the server, not to a connection.

mod events;
mod hand;
mod history;
mod keeper;
mod patience;
mod rest;
mod resume;
mod task;
mod watch;

pub(crate) use events::{Event, Follower};
pub(crate) use rest::{__path_cancel, __path_events, __path_get, StatusName, cancel, events, get};
pub(crate) use resume::sweep;
pub(crate) use watch::{begin as begin_watch, keep as keep_watch};

use crate::{app::App, auth::hex, conversations, messages::Accepted, models, problem::Problem};
use jarvis_domain::{
    ConversationId, Generation, GenerationId, MessageId, MessageText, UserId, title_of,
};
use jarvis_store::{Begin, Begun, Notice, Parent, RequestKey, Start};
use keeper::Keeper;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is to be answered.
#[derive(Debug)]
pub(crate) enum Question {
    /// The first message of a new conversation.
    NewConversation { content: String },
    /// A new message.
    Message {
        conversation: ConversationId,
        parent: Parent,
        content: String,
    },
    /// A message that has an answer already.
    Again {
        conversation: ConversationId,
        message: MessageId,
    },
}

/// A request for an answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) question: Question,
    /// The model that shall answer; the conversation's or the default where absent.
    pub(crate) model: Option<String>,
    /// Two requests of one user with one key are one.
    pub(crate) key: Option<String>,
}

/// Begins an answer, once however often it is asked for, and says what will come of it.
pub(crate) async fn ask(app: &App, user: UserId, asked: Asked) -> Result<Accepted, Problem> {
    let key = asked.key.as_ref().map(|key| RequestKey {
        key: key.clone(),
        digest: digest(&asked),
    });
    // First of all: a repeated request must not fail where the first one did not.
    if let Some(key) = &key
        && let Some(before) = app.db.begun(user, key).await?
    {
        return told(&before);
    }
    if app.stopping.is_cancelled() {
        return Err(Problem::stopping());
    }
    let (start, preferred) = start(app, user, asked.question).await?;
    let model = asked.model.or(preferred);
    let model = models::resolve(app, model.as_deref()).await?;
    let begin = Begin {
        id: GenerationId::new(),
        owner: app.instance,
        user,
        idempotency_key: key,
        start,
        model,
        now: app.clock.now(),
    };
    let runner = app.clone();
    app.shielded(async move { begun(&runner, begin).await })
        .await?
}

async fn begun(app: &App, begin: Begin) -> Result<Accepted, Problem> {
    let user = begin.user;
    // Before it is in SQL, where the watch finds what is ours.
    let entry = Entry::new(app, begin.id);
    let result = app.db.begin(begin).await?;
    let accepted = told(&result)?;
    if let (Begun::New { generation, .. }, Some(entry)) = (result, entry) {
        entry.is_of(&generation);
        resume::begin_new(app, generation, entry).await;
        conversations::tell_current(app, user, accepted.conversation_id).await;
    }
    Ok(accepted)
}

/// What the client is told of it.
fn told(begun: &Begun) -> Result<Accepted, Problem> {
    match begun {
        Begun::New {
            generation,
            message_id,
        }
        | Begun::Before {
            generation,
            message_id,
        } => Ok(accepted(generation, *message_id)),
        Begun::KeyReused => Err(Problem::key_reused()),
        Begun::Absent => Err(Problem::not_found()),
    }
}

/// A digest of all that a client asks for, as it asks: each part is preceded by its length, so that no two requests read
/// alike.
fn digest(asked: &Asked) -> String {
    let (place, content) = match &asked.question {
        Question::NewConversation { content } => (["new".into(), String::new()], &**content),
        Question::Message {
            conversation,
            parent,
            content,
        } => {
            let parent = match parent {
                Parent::Head => "head".to_owned(),
                Parent::Root => "root".to_owned(),
                Parent::Message(id) => id.to_string(),
            };
            ([conversation.to_string(), parent], &**content)
        }
        Question::Again {
            conversation,
            message,
        } => (
            [format!("again in {conversation}"), message.to_string()],
            "",
        ),
    };
    let model = asked.model.as_ref().map(|name| format!("={name}"));
    let mut hash = Sha256::new();
    for part in [
        &*place[0],
        &*place[1],
        model.as_deref().unwrap_or(""),
        content,
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn accepted(generation: &Generation, message_id: MessageId) -> Accepted {
    Accepted {
        conversation_id: generation.conversation_id,
        message_id,
        assistant_message_id: generation.message_id,
        generation_id: generation.id,
    }
}

/// What the store is asked to begin, and the model that the conversation prefers.
async fn start(
    app: &App,
    user: UserId,
    question: Question,
) -> Result<(Start, Option<String>), Problem> {
    let text = |content| Ok::<_, Problem>(MessageText::new(content, app.options.message_bytes)?);
    Ok(match question {
        Question::NewConversation { content } => {
            let content = text(content)?.into_string();
            let title = title_of(&content);
            (Start::NewConversation { title, content }, None)
        }
        Question::Message {
            conversation,
            parent,
            content,
        } => {
            let found = conversations::find(app, user, conversation).await?;
            let content = text(content)?.into_string();
            let start = Start::Message {
                conversation,
                parent,
                content,
            };
            (start, found.model)
        }
        Question::Again {
            conversation,
            message,
        } => {
            let found = conversations::find(app, user, conversation).await?;
            let start = Start::Again {
                conversation,
                message,
            };
            (start, found.model)
        }
    })
}

/// Stops an answer, wherever it is made; its text so far stays. One that has ended stays as it is.
pub(crate) async fn stop(app: &App, generation: &Generation) -> Result<(), Problem> {
    let (user, id) = (generation.user_id, generation.id);
    if app.is_shared() {
        // What is asked for holds, whoever makes the answer or takes it over; the hint is for those who wait.
        if app.db.ask_to_stop(user, id, app.clock.now()).await? {
            app.bus.send(Notice::Stop { generation: id }).await;
        }
    }
    app.generations.cancel(id);
    Ok(())
}

/// When SQL was last asked with the answer that this instance is the owner.
#[derive(Debug, Clone)]
struct Seen(Arc<Mutex<Instant>>);

impl Seen {
    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, asked: Instant) {
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *at = asked.max(*at);
    }
}

/// An answer that is being made here, or is about to be.
#[derive(Debug)]
struct Running {
    /// The conversation and the message, once it is this instance's for certain.
    of: Option<(ConversationId, MessageId)>,
    off: Off,
    seen: Seen,
}

/// Says that an answer is not to be gone on with here, and why: one thing to wait for.
#[derive(Debug, Clone)]
struct Off {
    /// For any reason; also when this instance stops.
    any: CancellationToken,
    /// Its user has stopped it.
    stop: CancellationToken,
    /// It is another instance's, or gone.
    lost: CancellationToken,
}

impl Off {
    fn new(app: &App) -> Self {
        Self {
            any: app.stopping.child_token(),
            stop: CancellationToken::new(),
            lost: CancellationToken::new(),
        }
    }

    /// Its user stops it.
    fn stop(&self) {
        self.stop.cancel();
        self.any.cancel();
    }

    /// It is not this instance's any more.
    fn lose(&self) {
        self.lost.cancel();
        self.any.cancel();
    }
}

/// The place of an answer among those that are made here, for as long as it lives.
struct Entry {
    app: App,
    id: GenerationId,
    off: Off,
    seen: Seen,
}

impl Entry {
    /// Takes a place; none if the answer has one.
    fn new(app: &App, id: GenerationId) -> Option<Self> {
        let mut running = app.generations.running();
        let hash_map::Entry::Vacant(place) = running.entry(id) else {
            return None;
        };
        let off = Off::new(app);
        let seen = Seen(Arc::new(Mutex::new(Instant::now())));
        place.insert(Running {
            of: None,
            off: off.clone(),
            seen: seen.clone(),
        });
        Some(Self {
            app: app.clone(),
            id,
            off,
            seen,
        })
    }

    /// It is this instance's.
    fn is_of(&self, generation: &Generation) {
        if let Some(running) = self.app.generations.running().get_mut(&self.id) {
            running.of = Some((generation.conversation_id, generation.message_id));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.app.generations.running().remove(&self.id);
    }
}

/// The answers that are being made here.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    running: Mutex<HashMap<GenerationId, Running>>,
    keeper: Keeper,
}

impl Generations {
    /// Stops one; false if it is not being made here.
    pub(crate) fn cancel(&self, id: GenerationId) -> bool {
        let running = self.running();
        let found = running.get(&id);
        if let Some(running) = found {
            running.off.stop();
        }
        found.is_some()
    }

    /// Stops every one of a conversation.
    pub(crate) fn cancel_all_of(&self, conversation: ConversationId) {
        for running in self.running().values() {
            if running.of.is_some_and(|(found, _)| found == conversation) {
                running.off.stop();
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.running().len()
    }

    /// Which one makes this message.
    fn making(&self, message: MessageId) -> Option<GenerationId> {
        let running = self.running();
        let found = running
            .iter()
            .find(|(_, running)| running.of.is_some_and(|(_, found)| found == message));
        found.map(|(id, _)| *id)
    }

    /// Those that are this instance's for certain.
    fn ids(&self) -> Vec<GenerationId> {
        let running = self.running();
        let certain = running.iter().filter(|(_, running)| running.of.is_some());
        certain.map(|(id, _)| *id).collect()
    }

    fn is_here(&self, id: GenerationId) -> bool {
        self.running().contains_key(&id)
    }

    /// SQL, asked at a moment, has said that it is this instance's.
    fn seen(&self, id: GenerationId, asked: Instant) {
        if let Some(running) = self.running().get(&id) {
            running.seen.set(asked);
        }
    }

    /// It is not this instance's any more.
    fn lose(&self, id: GenerationId) {
        if let Some(running) = self.running().get(&id) {
            running.off.lose();
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<GenerationId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
