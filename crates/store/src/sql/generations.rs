//! Generations: begun once however often they are asked for, written by their present owner alone.

use super::{Db, conversations, row::Columns};
use crate::{Outcome, StoreError};
use jarvis_domain::{
    Conversation, ConversationId, Epoch, Generation, GenerationId, MessageId, Role, Status,
    Timestamp, UserId,
};
use serde::Serialize;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

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
pub(super) const COLUMNS: &str = "generations.id AS g_id, generations.conversation_id AS g_conversation_id, generations.message_id AS g_message_id, generations.user_id AS g_user_id, generations.model AS g_model,
     generations.status AS g_status, generations.epoch AS g_epoch, generations.attempts AS g_attempts, generations.usage AS g_usage, generations.error AS g_error, generations.created_at AS g_created_at,
     generations.finished_at AS g_finished_at";

impl Db {
    /// Begins a generation: the user's message, the empty answer, the generation and its key, all or nothing.
    pub async fn begin(&self, begin: Begin) -> Result<Begun, StoreError> {
        let mut tx = self.begin_write().await?;
        if let Some(key) = &begin.idempotency_key
            && let Some(before) = begun_before(&mut tx, begin.user, key).await?
        {
            return Ok(before);
        }
        let Some((conversation, message_id)) = place(&mut tx, &begin).await? else {
            return Ok(Begun::Absent);
        };
        let generation = Generation {
            id: GenerationId::new(),
            conversation_id: conversation,
            message_id: MessageId::new(),
            user_id: begin.user,
            model: begin.model,
            status: Status::Queued,
            epoch: 1,
            attempts: 1,
            usage: None,
            error: None,
            created_at: begin.now,
            finished_at: None,
        };
        insert_message(
            &mut tx,
            generation.message_id,
            conversation,
            Some(message_id),
            Role::Assistant,
            "",
            begin.now,
        )
        .await?;
        insert(&mut tx, &generation).await?;
        sqlx::query("UPDATE conversations SET head_message_id = $1, updated_at = $2 WHERE id = $3")
            .bind(generation.message_id.to_string())
            .bind(begin.now.micros())
            .bind(conversation.to_string())
            .execute(&mut *tx)
            .await?;
        if let Some(key) = begin.idempotency_key {
            sqlx::query("INSERT INTO idempotency_keys (user_id, key, request, generation_id, created_at) VALUES ($1, $2, $3, $4, $5)")
                .bind(begin.user.to_string())
                .bind(key.key)
                .bind(key.digest)
                .bind(generation.id.to_string())
                .bind(begin.now.micros())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        self.versions.advance(begin.user);
        Ok(Begun::New {
            generation,
            message_id,
        })
    }

    /// What an earlier request of this user with this key began ([`Begun::Before`]), or that it was another one
    /// ([`Begun::KeyReused`]); `None` for a new key.
    pub async fn begun(&self, user: UserId, key: &RequestKey) -> Result<Option<Begun>, StoreError> {
        let mut connection = self.reader.acquire().await?;
        begun_before(&mut connection, user, key).await
    }

    /// One generation of this user.
    pub async fn generation(
        &self,
        user: UserId,
        id: GenerationId,
    ) -> Result<Option<Generation>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM generations WHERE id = $1 AND user_id = $2"
        )))
        .bind(id.to_string())
        .bind(user.to_string())
        .fetch_optional(&self.reader)
        .await?;
        row.as_ref().map(generation_of).transpose()
    }

    /// Notes that tokens are coming. [`StoreError::Fenced`] if a later owner has taken over or it has ended.
    pub async fn mark_running(&self, id: GenerationId, epoch: Epoch) -> Result<(), StoreError> {
        let written = sqlx::query("UPDATE generations SET status = 'running' WHERE id = $1 AND epoch = $2 AND status IN ('queued', 'running')")
            .bind(id.to_string())
            .bind(i64::from(epoch))
            .execute(&self.writer)
            .await?;
        fenced(written.rows_affected())
    }

    /// Ends a generation with its whole text. [`StoreError::Fenced`] if a later owner has taken over or it has ended.
    pub async fn finish(
        &self,
        generation: &Generation,
        text: &str,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin_write().await?;
        let written = sqlx::query(
            "UPDATE generations SET status = $1, usage = $2, error = $3, finished_at = $4 WHERE id = $5 AND epoch = $6 AND status IN ('queued', 'running')",
        )
        .bind(outcome.status.as_str())
        .bind(json("usage", outcome.usage.as_ref())?)
        .bind(json("error", outcome.error.as_ref())?)
        .bind(now.micros())
        .bind(generation.id.to_string())
        .bind(i64::from(generation.epoch))
        .execute(&mut *tx)
        .await?;
        fenced(written.rows_affected())?;
        sqlx::query("UPDATE messages SET content = $1 WHERE id = $2")
            .bind(text)
            .bind(generation.message_id.to_string())
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE conversations SET updated_at = $1 WHERE id = $2")
            .bind(now.micros())
            .bind(generation.conversation_id.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        self.versions.advance(generation.user_id);
        Ok(())
    }

    /// The generations that had not ended when the last owner of this store did, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<Generation>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM generations WHERE status IN ('queued', 'running') ORDER BY id"
        )))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(generation_of).collect()
    }

    /// Takes over a generation from the owner of `epoch`: the generation in its next epoch, or `None` if somebody was faster.
    pub async fn claim(
        &self,
        id: GenerationId,
        epoch: Epoch,
    ) -> Result<Option<Generation>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE generations SET epoch = epoch + 1, attempts = attempts + 1 WHERE id = $1 AND epoch = $2 AND status IN ('queued', 'running') RETURNING {COLUMNS}"
        )))
        .bind(id.to_string())
        .bind(i64::from(epoch))
        .fetch_optional(&self.writer)
        .await?;
        row.as_ref().map(generation_of).transpose()
    }
}

fn fenced(rows: u64) -> Result<(), StoreError> {
    if rows == 0 {
        Err(StoreError::Fenced)
    } else {
        Ok(())
    }
}

/// Puts the user's message in its place: the conversation and the message to answer, or `None` if the place is not there.
async fn place(
    tx: &mut SqliteConnection,
    begin: &Begin,
) -> Result<Option<(ConversationId, MessageId)>, StoreError> {
    match &begin.start {
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
            let message = MessageId::new();
            insert_message(
                tx,
                message,
                conversation.id,
                None,
                Role::User,
                content,
                begin.now,
            )
            .await?;
            Ok(Some((conversation.id, message)))
        }
        Start::Message {
            conversation,
            parent,
            content,
        } => {
            let head = sqlx::query(
                "SELECT head_message_id FROM conversations WHERE id = $1 AND user_id = $2",
            )
            .bind(conversation.to_string())
            .bind(begin.user.to_string())
            .fetch_optional(&mut *tx)
            .await?;
            let Some(head) = head else { return Ok(None) };
            let parent = match parent {
                Parent::Head => head.parsed_or_null("head_message_id")?,
                Parent::Root => None,
                Parent::Message(id)
                    if role_of(tx, begin.user, *conversation, *id).await?.is_some() =>
                {
                    Some(*id)
                }
                Parent::Message(_) => return Ok(None),
            };
            let message = MessageId::new();
            insert_message(
                tx,
                message,
                *conversation,
                parent,
                Role::User,
                content,
                begin.now,
            )
            .await?;
            Ok(Some((*conversation, message)))
        }
        Start::Again {
            conversation,
            message,
        } => {
            let role = role_of(tx, begin.user, *conversation, *message).await?;
            Ok((role == Some(Role::User)).then_some((*conversation, *message)))
        }
    }
}

/// Who speaks in a message, if it stands in this user's conversation.
async fn role_of(
    tx: &mut SqliteConnection,
    user: UserId,
    conversation: ConversationId,
    message: MessageId,
) -> Result<Option<Role>, StoreError> {
    let row = sqlx::query("SELECT m.role FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.id = $1 AND c.id = $2 AND c.user_id = $3")
        .bind(message.to_string())
        .bind(conversation.to_string())
        .bind(user.to_string())
        .fetch_optional(tx)
        .await?;
    row.map(|row| row.parsed("role")).transpose()
}

async fn begun_before(
    tx: &mut SqliteConnection,
    user: UserId,
    key: &RequestKey,
) -> Result<Option<Begun>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!(
        "SELECT k.request, m.parent_id, {COLUMNS} FROM idempotency_keys k JOIN generations ON generations.id = k.generation_id JOIN messages m ON m.id = generations.message_id
         WHERE k.user_id = $1 AND k.key = $2"
    )))
    .bind(user.to_string())
    .bind(&key.key)
    .fetch_optional(tx)
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

async fn insert_message(
    tx: &mut SqliteConnection,
    id: MessageId,
    conversation: ConversationId,
    parent: Option<MessageId>,
    role: Role,
    content: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO messages (id, conversation_id, parent_id, role, content, created_at) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(id.to_string())
        .bind(conversation.to_string())
        .bind(parent.map(|id| id.to_string()))
        .bind(role.as_str())
        .bind(content)
        .bind(now.micros())
        .execute(tx)
        .await?;
    Ok(())
}

async fn insert(tx: &mut SqliteConnection, generation: &Generation) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO generations (id, conversation_id, message_id, user_id, model, status, epoch, attempts, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(generation.id.to_string())
    .bind(generation.conversation_id.to_string())
    .bind(generation.message_id.to_string())
    .bind(generation.user_id.to_string())
    .bind(&generation.model)
    .bind(generation.status.as_str())
    .bind(i64::from(generation.epoch))
    .bind(i64::from(generation.attempts))
    .bind(generation.created_at.micros())
    .execute(tx)
    .await?;
    Ok(())
}

/// The generation beside a message, if there is one.
pub(super) fn generation_or_null(row: &SqliteRow) -> Result<Option<Generation>, StoreError> {
    row.text_or_null("g_id")?
        .map(|_| generation_of(row))
        .transpose()
}

fn generation_of(row: &SqliteRow) -> Result<Generation, StoreError> {
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
