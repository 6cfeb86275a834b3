//! Generations: begun once however often they are asked for, written by their present owner alone.

use super::{
    Db, again,
    conn::{Conn, Tx},
    conversations,
    dialect::sql,
    row::Row,
    value::args,
};
use crate::{Outcome, StoreError};
use jarvis_domain::{
    Conversation, ConversationId, Epoch, Generation, GenerationId, InstanceId, MessageId, Role,
    Status, Timestamp, UserId,
};
use serde::Serialize;

/// Where a new message goes in its conversation's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// After the newest message of the branch shown last.
    Head,
    /// A new root: another first message.
    Root,
    /// After this message.
    Message(MessageId),
}

/// What a generation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The first message of a new conversation.
    NewConversation {
        /// Its title.
        title: String,
        /// The message's text.
        content: String,
    },
    /// A new message of an existing conversation.
    Message {
        /// The conversation.
        conversation: ConversationId,
        /// Where the message goes.
        parent: Parent,
        /// The message's text.
        content: String,
    },
    /// A user's message that has an answer already: another one, as a new branch.
    Again {
        /// The conversation.
        conversation: ConversationId,
        /// The user's message.
        message: MessageId,
    },
}

/// What makes two requests of one user one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Made by the client.
    pub key: String,
    /// A digest of what is asked for: it differs only where the client has used its key for another request.
    pub digest: String,
}

/// A request to begin a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The generation's identifier.
    pub id: GenerationId,
    /// Who makes it; nobody if this instance has no lease any more.
    pub owner: InstanceId,
    /// Who asks.
    pub user: UserId,
    /// Two requests of one user with one key are one request.
    pub idempotency_key: Option<RequestKey>,
    /// What is to be answered.
    pub start: Start,
    /// The model that answers.
    pub model: String,
    /// Now.
    pub now: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// A new generation, in epoch 1, and the user's message that it answers.
    New {
        /// The generation.
        generation: Generation,
        /// The user's message.
        message_id: MessageId,
    },
    /// The same request began this one before.
    Before {
        /// The generation.
        generation: Generation,
        /// The user's message.
        message_id: MessageId,
    },
    /// The key belongs to another request of this user.
    KeyReused,
    /// The conversation, the parent or the message to answer again is not there, or not this user's, or no user's message.
    Absent,
}

/// The columns of `generations`, under names that clash with no other table's.
macro_rules! columns {
    () => {
        "generations.id AS g_id, generations.conversation_id AS g_conversation_id, generations.message_id AS g_message_id, generations.user_id AS g_user_id,
         generations.model AS g_model, generations.status AS g_status, generations.epoch AS g_epoch, generations.attempts AS g_attempts,
         generations.usage AS g_usage, generations.error AS g_error, generations.created_at AS g_created_at, generations.finished_at AS g_finished_at"
    };
}
pub(super) use columns;

impl Db {
    /// Begins a generation: the user's message, the empty answer, the generation and its key, all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Unsure`] if it may have begun: with a key, asking again tells.
    pub async fn begin(&self, begin: Begin) -> Result<Begun, StoreError> {
        let outcome = again(|| self.try_begin(&begin)).await;
        // The key is unique, and what was begun under it before comes before any refusal.
        if let (Some(key), Ok(Begun::Absent) | Err(StoreError::Taken)) =
            (&begin.idempotency_key, &outcome)
            && let Some(before) = self.begun(begin.user, key).await?
        {
            return Ok(before);
        }
        outcome
    }

    async fn try_begin(&self, begin: &Begin) -> Result<Begun, StoreError> {
        let mut tx = self.begin_write().await?;
        let outcome = begin_in(&mut tx, begin).await?;
        if let Begun::New { .. } = outcome {
            tx.list_changed(begin.user);
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(outcome)
    }

    /// What an earlier request of this user with this key began ([`Begun::Before`]), or that it was another one
    /// ([`Begun::KeyReused`]); `None` for a new key.
    pub async fn begun(&self, user: UserId, key: &RequestKey) -> Result<Option<Begun>, StoreError> {
        begun_before(&mut self.reader().await?, user, key).await
    }

    /// One generation of this user.
    pub async fn generation(
        &self,
        user: UserId,
        id: GenerationId,
    ) -> Result<Option<Generation>, StoreError> {
        let text = concat!(
            "SELECT ",
            columns!(),
            " FROM generations WHERE id = $1 AND user_id = $2"
        );
        let mut conn = self.reader().await?;
        let row = conn
            .fetch_optional("generation", text, args![id, user])
            .await?;
        row.as_ref().map(generation_of).transpose()
    }

    /// Notes that tokens are coming. [`StoreError::Fenced`] if a later owner has taken over or it has ended.
    pub async fn mark_running(&self, id: GenerationId, epoch: Epoch) -> Result<(), StoreError> {
        let text = "UPDATE generations SET status = 'running' WHERE id = $1 AND epoch = $2 AND status IN ('queued', 'running')";
        let mut conn = self.writer().await?;
        match conn.execute("mark_running", text, args![id, epoch]).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }

    /// Ends a generation with its whole text. [`StoreError::Fenced`] if a later owner has taken over or it has ended.
    pub async fn finish(
        &self,
        generation: &Generation,
        text: &str,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        again(|| self.try_finish(generation, text, outcome, now)).await
    }

    async fn try_finish(
        &self,
        generation: &Generation,
        content: &str,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let usage = json("usage", outcome.usage.as_ref())?;
        let error = json("error", outcome.error.as_ref())?;
        let mut tx = self.begin_write().await?;
        // First, as everywhere: the conversation's row is what two transactions meet at.
        let text = "UPDATE conversations SET updated_at = $1 WHERE id = $2";
        tx.execute("touch", text, args![now, generation.conversation_id])
            .await?;
        let text = "UPDATE generations SET status = $1, usage = $2, error = $3, finished_at = $4 WHERE id = $5 AND epoch = $6 AND status IN ('queued', 'running')";
        let status = outcome.status.as_str();
        let values = args![status, usage, error, now, generation.id, generation.epoch];
        if tx.execute("finish", text, values).await? == 0 {
            tx.rollback().await?;
            return Err(StoreError::Fenced);
        }
        let text = "UPDATE messages SET content = $1 WHERE id = $2";
        tx.execute(
            "finish_message",
            text,
            args![content, generation.message_id],
        )
        .await?;
        tx.list_changed(generation.user_id);
        tx.commit().await
    }

    /// The generations that had not ended when the last owner of this store did, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<Generation>, StoreError> {
        let text = concat!(
            "SELECT ",
            columns!(),
            " FROM generations WHERE status IN ('queued', 'running') ORDER BY id"
        );
        let mut conn = self.reader().await?;
        let rows = conn.fetch_all("unfinished", text, args![]).await?;
        rows.iter().map(generation_of).collect()
    }
}

async fn begin_in(tx: &mut Tx, begin: &Begin) -> Result<Begun, StoreError> {
    let Some(place) = place(tx, begin).await? else {
        return Ok(Begun::Absent);
    };
    let (conversation, message_id) = (place.conversation, place.message);
    let generation = Generation {
        id: begin.id,
        conversation_id: conversation,
        message_id: MessageId::new(),
        user_id: begin.user,
        model: begin.model.clone(),
        status: Status::Queued,
        epoch: 1,
        attempts: 1,
        usage: None,
        error: None,
        created_at: begin.now,
        finished_at: None,
    };
    let answer = NewMessage {
        id: generation.message_id,
        conversation,
        parent: Some(message_id),
        role: Role::Assistant,
        content: "",
        now: begin.now,
    };
    match place.question {
        Some(question) => insert_both(tx, &question, &answer).await?,
        None => insert_message(tx, &answer).await?,
    }
    insert(tx, &generation, begin.owner).await?;
    let text = "UPDATE conversations SET head_message_id = $1, updated_at = $2 WHERE id = $3";
    let values = args![generation.message_id, begin.now, conversation];
    tx.execute("move_head", text, values).await?;
    if let Some(key) = &begin.idempotency_key {
        let text = "INSERT INTO idempotency_keys (user_id, key, request, generation_id, created_at) VALUES ($1, $2, $3, $4, $5)";
        let values = args![begin.user, &key.key, &key.digest, generation.id, begin.now];
        tx.execute("insert_key", text, values).await?;
    }
    Ok(Begun::New {
        generation,
        message_id,
    })
}

/// What an answer stands after.
struct Place<'a> {
    conversation: ConversationId,
    /// The user's message.
    message: MessageId,
    /// The same, if it is not there yet.
    question: Option<NewMessage<'a>>,
}

/// Finds or makes the conversation and the message to answer; `None` if the place is not there.
async fn place<'a>(tx: &mut Tx, begin: &'a Begin) -> Result<Option<Place<'a>>, StoreError> {
    let (conversation, parent, content) = match &begin.start {
        Start::NewConversation { title, content } => {
            let conversation = Conversation {
                id: ConversationId::new(),
                user_id: begin.user,
                title: title.clone(),
                model: Some(begin.model.clone()),
                head: None,
                created_at: begin.now,
                updated_at: begin.now,
            };
            conversations::insert(tx, &conversation).await?;
            (conversation.id, None, content)
        }
        Start::Message {
            conversation,
            parent,
            content,
        } => {
            let Some(head) = hold(tx, begin, *conversation).await? else {
                return Ok(None);
            };
            let parent = match parent {
                Parent::Head => head,
                Parent::Root => None,
                Parent::Message(id) if role_of(tx, *conversation, *id).await?.is_some() => {
                    Some(*id)
                }
                Parent::Message(_) => return Ok(None),
            };
            (*conversation, parent, content)
        }
        Start::Again {
            conversation,
            message,
        } => {
            let mine = hold(tx, begin, *conversation).await?.is_some();
            let question = mine && role_of(tx, *conversation, *message).await? == Some(Role::User);
            return Ok(question.then_some(Place {
                conversation: *conversation,
                message: *message,
                question: None,
            }));
        }
    };
    let question = NewMessage {
        id: MessageId::new(),
        conversation,
        parent,
        role: Role::User,
        content,
        now: begin.now,
    };
    Ok(Some(Place {
        conversation,
        message: question.id,
        question: Some(question),
    }))
}

/// The newest message of this user's conversation, if there is such a conversation, which stays as it is until the transaction ends:
/// of two messages that come at once, one goes after the other.
async fn hold(
    tx: &mut Tx,
    begin: &Begin,
    conversation: ConversationId,
) -> Result<Option<Option<MessageId>>, StoreError> {
    let text = sql![
        "SELECT head_message_id FROM conversations WHERE id = $1 AND user_id = $2",
        for_update
    ];
    let values = args![conversation, begin.user];
    let row = tx.fetch_optional("hold_conversation", text, values).await?;
    row.map(|row| row.parsed_or_null("head_message_id"))
        .transpose()
}

/// Who speaks in a message, if it stands in this conversation.
async fn role_of(
    tx: &mut Tx,
    conversation: ConversationId,
    message: MessageId,
) -> Result<Option<Role>, StoreError> {
    let text = "SELECT role FROM messages WHERE id = $1 AND conversation_id = $2";
    let row = tx
        .fetch_optional("role_of_message", text, args![message, conversation])
        .await?;
    row.map(|row| row.parsed("role")).transpose()
}

async fn begun_before(
    conn: &mut Conn,
    user: UserId,
    key: &RequestKey,
) -> Result<Option<Begun>, StoreError> {
    let text = concat!(
        "SELECT k.request, m.parent_id, ",
        columns!(),
        " FROM idempotency_keys k JOIN generations ON generations.id = k.generation_id JOIN messages m ON m.id = generations.message_id
         WHERE k.user_id = $1 AND k.key = $2"
    );
    let row = conn
        .fetch_optional("begun_before", text, args![user, &key.key])
        .await?;
    let Some(row) = row else { return Ok(None) };
    if row.text("request")? != key.digest {
        return Ok(Some(Begun::KeyReused));
    }
    Ok(Some(Begun::Before {
        generation: generation_of(&row)?,
        message_id: row.parsed("parent_id")?,
    }))
}

/// A message on its way in.
struct NewMessage<'a> {
    id: MessageId,
    conversation: ConversationId,
    parent: Option<MessageId>,
    role: Role,
    content: &'a str,
    now: Timestamp,
}

async fn insert_message(tx: &mut Tx, one: &NewMessage<'_>) -> Result<(), StoreError> {
    let text = "INSERT INTO messages (id, conversation_id, parent_id, role, content, created_at) VALUES ($1, $2, $3, $4, $5, $6)";
    let role = one.role.as_str();
    let values = args![
        one.id,
        one.conversation,
        one.parent,
        role,
        one.content,
        one.now
    ];
    tx.execute("insert_message", text, values).await?;
    Ok(())
}

/// Two at once: on a server each statement is a way there and back.
async fn insert_both(
    tx: &mut Tx,
    one: &NewMessage<'_>,
    two: &NewMessage<'_>,
) -> Result<(), StoreError> {
    let text = "INSERT INTO messages (id, conversation_id, parent_id, role, content, created_at) VALUES ($1, $2, $3, $4, $5, $6), ($7, $8, $9, $10, $11, $12)";
    let roles = (one.role.as_str(), two.role.as_str());
    let values = args![
        one.id,
        one.conversation,
        one.parent,
        roles.0,
        one.content,
        one.now,
        two.id,
        two.conversation,
        two.parent,
        roles.1,
        two.content,
        two.now,
    ];
    tx.execute("insert_messages", text, values).await?;
    Ok(())
}

async fn insert(tx: &mut Tx, generation: &Generation, owner: InstanceId) -> Result<(), StoreError> {
    let text = "INSERT INTO generations (id, conversation_id, message_id, user_id, model, status, epoch, attempts, created_at, owner)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, (SELECT id FROM instances WHERE id = $10))";
    let values = args![
        generation.id,
        generation.conversation_id,
        generation.message_id,
        generation.user_id,
        &generation.model,
        generation.status.as_str(),
        generation.epoch,
        generation.attempts,
        generation.created_at,
        owner,
    ];
    tx.execute("insert_generation", text, values).await?;
    Ok(())
}

/// The generation beside a message, if there is one.
pub(super) fn generation_or_null(row: &Row) -> Result<Option<Generation>, StoreError> {
    row.text_or_null("g_id")?
        .map(|_| generation_of(row))
        .transpose()
}

pub(super) fn generation_of(row: &Row) -> Result<Generation, StoreError> {
    Ok(Generation {
        id: row.parsed("g_id")?,
        conversation_id: row.parsed("g_conversation_id")?,
        message_id: row.parsed("g_message_id")?,
        user_id: row.parsed("g_user_id")?,
        model: row.text("g_model")?,
        status: row.parsed("g_status")?,
        epoch: row.count("g_epoch")?,
        attempts: row.count("g_attempts")?,
        usage: row.json_or_null("g_usage")?,
        error: row.json_or_null("g_error")?,
        created_at: row.moment("g_created_at")?,
        finished_at: row.moment_or_null("g_finished_at")?,
    })
}

fn json<T: Serialize>(
    column: &'static str,
    value: Option<&T>,
) -> Result<Option<String>, StoreError> {
    value
        .map(serde_json::to_string)
        .transpose()
        .map_err(|error| StoreError::Unreadable {
            column,
            reason: error.to_string(),
        })
}
