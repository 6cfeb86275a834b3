//! The making of answers: asked for, run, followed and stopped. An answer belongs to the server, not to a connection.

mod events;
mod history;
mod patience;
mod rest;
mod resume;
mod task;

pub(crate) use events::{Event, Follower};
pub(crate) use rest::{__path_cancel, __path_events, __path_get, StatusName, cancel, events, get};
pub(crate) use resume::take_up;

use crate::{app::App, auth::hex, conversations, messages::Accepted, models, problem::Problem};
use jarvis_domain::{
    ConversationId, Generation, GenerationId, MessageId, MessageText, UserId, title_of,
};
use jarvis_store::{Begin, Begun, Parent, RequestKey, Start};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
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
    let result = app.db.begin(begin).await?;
    let accepted = told(&result)?;
    if let Begun::New { generation, .. } = result {
        task::run(app, generation);
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

/// An answer that is being made here.
#[derive(Debug)]
struct Running {
    conversation: ConversationId,
    message: MessageId,
    stop: CancellationToken,
}

/// The answers that are being made here.
#[derive(Debug, Default)]
pub(crate) struct Generations(Mutex<HashMap<GenerationId, Running>>);

impl Generations {
    /// Stops one; false if it is not being made here.
    pub(crate) fn cancel(&self, id: GenerationId) -> bool {
        let running = self.running();
        let found = running.get(&id);
        if let Some(running) = found {
            running.stop.cancel();
        }
        found.is_some()
    }

    /// Stops every one of a conversation.
    pub(crate) fn cancel_all_of(&self, conversation: ConversationId) {
        for running in self.running().values() {
            if running.conversation == conversation {
                running.stop.cancel();
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
            .find(|(_, running)| running.message == message);
        found.map(|(id, _)| *id)
    }

    fn add(&self, generation: &Generation) -> CancellationToken {
        let stop = CancellationToken::new();
        let running = Running {
            conversation: generation.conversation_id,
            message: generation.message_id,
            stop: stop.clone(),
        };
        self.running().insert(generation.id, running);
        stop
    }

    fn remove(&self, id: GenerationId) {
        self.running().remove(&id);
    }

    fn running(&self) -> MutexGuard<'_, HashMap<GenerationId, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
