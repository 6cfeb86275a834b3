//! Conversations. Every call names the user: another user's conversation is as absent as one that never was.

use super::{Db, row::Columns};
use crate::StoreError;
use jarvis_domain::{Conversation, ConversationId, MessageId, Timestamp, UserId};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// What is to change in a conversation; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConversationPatch {
    /// A new title.
    pub title: Option<String>,
    /// Another preferred model.
    pub model: Option<String>,
    /// The newest message of the branch to show; must belong to the conversation.
    pub head: Option<MessageId>,
}

const COLUMNS: &str = "id, user_id, title, model, head_message_id, created_at, updated_at";

impl Db {
    /// Moves with every committed change of what [`Db::conversations`] would show this user: a page read after it stood
    /// at a number may be shown while it still stands there.
    #[must_use]
    pub fn conversations_version(&self, user: UserId) -> u64 {
        self.versions.of(user)
    }

    /// Keeps a new conversation.
    pub async fn create_conversation(&self, conversation: &Conversation) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        insert(&mut connection, conversation).await?;
        self.versions.advance(conversation.user_id);
        Ok(())
    }

    /// One conversation of this user.
    pub async fn conversation(
        &self,
        user: UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM conversations WHERE id = $1 AND user_id = $2"
        )))
        .bind(id.to_string())
        .bind(user.to_string())
        .fetch_optional(&self.reader)
        .await?;
        row.as_ref().map(conversation_of).transpose()
    }

    /// At most `limit` conversations of this user, the latest changed first, from just after `after`.
    pub async fn conversations(
        &self,
        user: UserId,
        limit: u32,
        after: Option<(Timestamp, ConversationId)>,
    ) -> Result<Vec<Conversation>, StoreError> {
        let (moment, id) = after.map_or((i64::MAX, String::new()), |(moment, id)| {
            (moment.micros(), id.to_string())
        });
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM conversations WHERE user_id = $1 AND (updated_at < $2 OR (updated_at = $2 AND id < $3)) ORDER BY updated_at DESC, id DESC LIMIT $4"
        )))
        .bind(user.to_string())
        .bind(moment)
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(conversation_of).collect()
    }

    /// Changes a conversation of this user; `None` if there is none such, or the head named is not one of its messages.
    pub async fn update_conversation(
        &self,
        user: UserId,
        id: ConversationId,
        patch: &ConversationPatch,
    ) -> Result<Option<Conversation>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "UPDATE conversations SET title = COALESCE($1, title), model = COALESCE($2, model), head_message_id = COALESCE($3, head_message_id)
             WHERE id = $4 AND user_id = $5 AND ($3 IS NULL OR EXISTS (SELECT 1 FROM messages WHERE id = $3 AND conversation_id = $4))
             RETURNING {COLUMNS}"
        )))
        .bind(patch.title.as_deref())
        .bind(patch.model.as_deref())
        .bind(patch.head.map(|head| head.to_string()))
        .bind(id.to_string())
        .bind(user.to_string())
        .fetch_optional(&self.writer)
        .await?;
        let updated = row.as_ref().map(conversation_of).transpose()?;
        if updated.is_some() {
            self.versions.advance(user);
        }
        Ok(updated)
    }

    /// Deletes a conversation of this user with all that is in it; false if there was none such.
    pub async fn delete_conversation(
        &self,
        user: UserId,
        id: ConversationId,
    ) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM conversations WHERE id = $1 AND user_id = $2")
            .bind(id.to_string())
            .bind(user.to_string())
            .execute(&self.writer)
            .await?
            .rows_affected();
        self.versions.advance(user);
        Ok(deleted > 0)
    }
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    conversation: &Conversation,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO conversations (id, user_id, title, model, head_message_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(conversation.id.to_string())
        .bind(conversation.user_id.to_string())
        .bind(&conversation.title)
        .bind(conversation.model.as_deref())
        .bind(conversation.head.map(|head| head.to_string()))
        .bind(conversation.created_at.micros())
        .bind(conversation.updated_at.micros())
        .execute(connection)
        .await?;
    Ok(())
}

fn conversation_of(row: &SqliteRow) -> Result<Conversation, StoreError> {
    Ok(Conversation {
        id: row.parsed("id")?,
        user_id: row.parsed("user_id")?,
        title: row.text("title")?,
        model: row.text_or_null("model")?,
        head: row.parsed_or_null("head_message_id")?,
        created_at: row.moment("created_at")?,
        updated_at: row.moment("updated_at")?,
    })
}
