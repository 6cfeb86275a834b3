//! Conversations. Every call names the user: another user's conversation is as absent as one that never was.

use super::{Db, Engine, conn::Tx, row::Row, value::args};
use crate::StoreError;
use jarvis_domain::{Conversation, ConversationId, MessageId, Timestamp, UserId};

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

macro_rules! columns {
    () => {
        "id, user_id, title, model, head_message_id, created_at, updated_at"
    };
}

impl Db {
    /// Moves with every committed change of what [`Db::conversations`] would show this user, whichever instance made it: a page read
    /// after it stood at a number may be shown while it still stands there.
    pub async fn conversations_version(&self, user: UserId) -> Result<i64, StoreError> {
        match &self.engine {
            Engine::Sqlite(_, counted) => Ok(counted.of(user)),
            Engine::Postgres(_, asked) => asked.of(user, || self.writer()).await,
        }
    }

    /// Keeps a new conversation.
    pub async fn create_conversation(&self, conversation: &Conversation) -> Result<(), StoreError> {
        let mut tx = self.begin_write().await?;
        insert(&mut tx, conversation).await?;
        tx.list_changed(conversation.user_id);
        tx.commit().await
    }

    /// One conversation of this user.
    pub async fn conversation(
        &self,
        user: UserId,
        id: ConversationId,
    ) -> Result<Option<Conversation>, StoreError> {
        let text = concat!(
            "SELECT ",
            columns!(),
            " FROM conversations WHERE id = $1 AND user_id = $2"
        );
        let mut conn = self.reader().await?;
        let row = conn
            .fetch_optional("conversation", text, args![id, user])
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
        let text = concat!(
            "SELECT ",
            columns!(),
            " FROM conversations WHERE user_id = $1 AND (updated_at < $2 OR (updated_at = $2 AND id < $3))
             ORDER BY updated_at DESC, id DESC LIMIT $4"
        );
        let (moment, id) = after.map_or((i64::MAX, String::new()), |(moment, id)| {
            (moment.micros(), id.to_string())
        });
        let mut conn = self.reader_for(user).await?;
        let rows = conn
            .fetch_all("conversations", text, args![user, moment, id, limit])
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
        let text = concat!(
            "UPDATE conversations SET title = COALESCE($1, title), model = COALESCE($2, model), head_message_id = COALESCE($3, head_message_id)
             WHERE id = $4 AND user_id = $5 AND ($3 IS NULL OR EXISTS (SELECT 1 FROM messages WHERE id = $3 AND conversation_id = $4))
             RETURNING ",
            columns!()
        );
        let (title, model) = (patch.title.as_deref(), patch.model.as_deref());
        let values = args![title, model, patch.head, id, user];
        let mut tx = self.begin_write().await?;
        let Some(row) = tx
            .fetch_optional("update_conversation", text, values)
            .await?
        else {
            tx.rollback().await?;
            return Ok(None);
        };
        tx.list_changed(user);
        tx.commit().await?;
        conversation_of(&row).map(Some)
    }

    /// Deletes a conversation of this user with all that is in it; false if there was none such.
    pub async fn delete_conversation(
        &self,
        user: UserId,
        id: ConversationId,
    ) -> Result<bool, StoreError> {
        let text = "DELETE FROM conversations WHERE id = $1 AND user_id = $2";
        let mut tx = self.begin_write().await?;
        let deleted = tx
            .execute("delete_conversation", text, args![id, user])
            .await?;
        tx.list_changed(user);
        tx.commit().await?;
        Ok(deleted > 0)
    }
}

pub(super) async fn insert(tx: &mut Tx, conversation: &Conversation) -> Result<(), StoreError> {
    let text = "INSERT INTO conversations (id, user_id, title, model, head_message_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = args![
        conversation.id,
        conversation.user_id,
        &conversation.title,
        conversation.model.as_deref(),
        conversation.head,
        conversation.created_at,
        conversation.updated_at,
    ];
    tx.execute("insert_conversation", text, values).await?;
    Ok(())
}

fn conversation_of(row: &Row) -> Result<Conversation, StoreError> {
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
