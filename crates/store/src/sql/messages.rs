//! Messages, read as the tree they form.

use super::{Db, generations, row::Columns};
use crate::StoreError;
use jarvis_domain::{ConversationId, Generation, Message, MessageId};
use sqlx::sqlite::SqliteRow;

/// A message, and the generation that makes or made it if it is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// The message.
    pub message: Message,
    /// What made it.
    pub generation: Option<Generation>,
}

impl Db {
    /// At most `limit` messages of a conversation in order of creation, from just after `after`. The caller has checked
    /// whose conversation it is.
    pub async fn messages(
        &self,
        conversation: ConversationId,
        limit: u32,
        after: Option<MessageId>,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT m.id, m.conversation_id, m.parent_id, m.role, m.content, m.created_at, {} FROM messages m LEFT JOIN generations ON generations.message_id = m.id
             WHERE m.conversation_id = $1 AND m.id > $2 ORDER BY m.id LIMIT $3",
            generations::COLUMNS
        )))
        .bind(conversation.to_string())
        .bind(after.map(|id| id.to_string()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(MessageRow {
                    message: message_of(row)?,
                    generation: generations::generation_or_null(row)?,
                })
            })
            .collect()
    }

    /// One message of a conversation.
    pub async fn message(
        &self,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Option<Message>, StoreError> {
        let row = sqlx::query("SELECT id, conversation_id, parent_id, role, content, created_at FROM messages WHERE id = $1 AND conversation_id = $2")
            .bind(id.to_string())
            .bind(conversation.to_string())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(message_of).transpose()
    }

    /// The branch that ends in `head`, from its root on; empty if there is no such message.
    pub async fn branch(
        &self,
        conversation: ConversationId,
        head: MessageId,
    ) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE branch (id, conversation_id, parent_id, role, content, created_at, depth) AS (
                 SELECT id, conversation_id, parent_id, role, content, created_at, 0 FROM messages WHERE id = $1 AND conversation_id = $2
                 UNION ALL
                 SELECT m.id, m.conversation_id, m.parent_id, m.role, m.content, m.created_at, b.depth + 1
                 FROM messages m JOIN branch b ON m.id = b.parent_id
             )
             SELECT id, conversation_id, parent_id, role, content, created_at FROM branch ORDER BY depth DESC",
        )
        .bind(head.to_string())
        .bind(conversation.to_string())
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(message_of).collect()
    }
}

fn message_of(row: &SqliteRow) -> Result<Message, StoreError> {
    Ok(Message {
        id: row.parsed("id")?,
        conversation_id: row.parsed("conversation_id")?,
        parent_id: row.parsed_or_null("parent_id")?,
        role: row.parsed("role")?,
        content: row.text("content")?,
        created_at: row.moment("created_at")?,
    })
}
