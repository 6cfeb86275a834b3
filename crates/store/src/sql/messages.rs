//! Messages, read as the tree they form.

use super::{Db, generations, row::Row, value::args};
use crate::StoreError;
use jarvis_domain::{ConversationId, Generation, Message, MessageId, UserId};

/// A message, and the generation that makes or made it if it is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// The message.
    pub message: Message,
    /// What made it.
    pub generation: Option<Generation>,
}

impl Db {
    /// At most `limit` messages of this user's conversation in order of creation, from just after `after`. The caller has
    /// checked that it is this user's.
    pub async fn messages(
        &self,
        user: UserId,
        conversation: ConversationId,
        limit: u32,
        after: Option<MessageId>,
    ) -> Result<Vec<MessageRow>, StoreError> {
        let text = concat!(
            "SELECT m.id, m.conversation_id, m.parent_id, m.role, m.content, m.created_at, ",
            generations::columns!(),
            " FROM messages m LEFT JOIN generations ON generations.message_id = m.id
             WHERE m.conversation_id = $1 AND m.id > $2 ORDER BY m.id LIMIT $3"
        );
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let mut conn = self.reader_for(user).await?;
        let values = args![conversation, after, limit];
        let rows = conn.fetch_all("messages", text, values).await?;
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
        let text = "SELECT id, conversation_id, parent_id, role, content, created_at FROM messages WHERE id = $1 AND conversation_id = $2";
        let mut conn = self.reader().await?;
        let row = conn
            .fetch_optional("message", text, args![id, conversation])
            .await?;
        row.as_ref().map(message_of).transpose()
    }

    /// The branch that ends in `head`, from its root on; empty if there is no such message.
    pub async fn branch(
        &self,
        conversation: ConversationId,
        head: MessageId,
    ) -> Result<Vec<Message>, StoreError> {
        let text = "WITH RECURSIVE branch (id, conversation_id, parent_id, role, content, created_at, depth) AS (
                 SELECT id, conversation_id, parent_id, role, content, created_at, 0 FROM messages WHERE id = $1 AND conversation_id = $2
                 UNION ALL
                 SELECT m.id, m.conversation_id, m.parent_id, m.role, m.content, m.created_at, b.depth + 1
                 FROM messages m JOIN branch b ON m.id = b.parent_id
             )
             SELECT id, conversation_id, parent_id, role, content, created_at FROM branch ORDER BY depth DESC";
        let mut conn = self.reader().await?;
        let rows = conn
            .fetch_all("branch", text, args![head, conversation])
            .await?;
        rows.iter().map(message_of).collect()
    }
}

fn message_of(row: &Row) -> Result<Message, StoreError> {
    Ok(Message {
        id: row.parsed("id")?,
        conversation_id: row.parsed("conversation_id")?,
        parent_id: row.parsed_or_null("parent_id")?,
        role: row.parsed("role")?,
        content: row.text("content")?,
        created_at: row.moment("created_at")?,
    })
}
