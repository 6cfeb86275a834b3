//! Conversations are trees of messages: an edit or another answer is a new branch, nothing is overwritten.

use crate::{ConversationId, MessageId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A conversation of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its identifier.
    pub id: ConversationId,
    /// Who owns it.
    pub user_id: UserId,
    /// What the list shows; at most [`Conversation::MAX_TITLE_CHARS`] characters.
    pub title: String,
    /// The model it prefers; the installation's default where absent.
    pub model: Option<String>,
    /// The newest message of the branch shown last.
    pub head: Option<MessageId>,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When something last happened in it; the list's order.
    pub updated_at: Timestamp,
}

impl Conversation {
    /// The longest title, in characters.
    pub const MAX_TITLE_CHARS: usize = 200;
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The installation's instructions.
    System,
}

impl Role {
    /// The name that stores and wire formats carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "system" => Ok(Self::System),
            other => Err(format!("unknown role `{other}`")),
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its identifier.
    pub id: MessageId,
    /// The conversation it belongs to.
    pub conversation_id: ConversationId,
    /// The message it follows; none for a root.
    pub parent_id: Option<MessageId>,
    /// Who speaks.
    pub role: Role,
    /// The text; of an answer that is still being made, what was last checkpointed.
    pub content: String,
    /// When it was written or begun.
    pub created_at: Timestamp,
}

/// The text of a person's message: not blank, without NUL, within the installation's limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageText(String);

/// Why a text cannot be a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("the message is empty")]
    Empty,
    /// A NUL character, which no store keeps.
    #[error("the message holds a NUL character")]
    Nul,
    /// More bytes than the installation takes.
    #[error("the message has {bytes} bytes; at most {limit} are taken")]
    TooLong {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

impl MessageText {
    /// Takes `text` of at most `limit` bytes.
    pub fn new(text: String, limit: usize) -> Result<Self, TextError> {
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        if text.contains('\0') {
            return Err(TextError::Nul);
        }
        if text.len() > limit {
            return Err(TextError::TooLong {
                bytes: text.len(),
                limit,
            });
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, given away.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A first title for a conversation: the first line of its first message, cut at a word near 60 characters.
#[must_use]
pub fn title_of(text: &str) -> String {
    const LIMIT: usize = 60;
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let Some((end, _)) = line.char_indices().nth(LIMIT) else {
        return line.to_owned();
    };
    let cut = &line[..end];
    let at_word = cut
        .rfind(char::is_whitespace)
        .filter(|at| *at > LIMIT / 2)
        .map_or(cut, |at| &cut[..at]);
    format!("{}…", at_word.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_and_oversized_texts_are_refused() {
        assert_eq!(MessageText::new(" \n\t".into(), 10), Err(TextError::Empty));
        assert_eq!(MessageText::new("a\0".into(), 10), Err(TextError::Nul));
        assert_eq!(
            MessageText::new("éé".into(), 3),
            Err(TextError::TooLong { bytes: 4, limit: 3 })
        );
        assert_eq!(MessageText::new("éé".into(), 4).unwrap().as_str(), "éé");
    }

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(title_of("\n  Bonjour Jarvis \nsuite"), "Bonjour Jarvis");
        let long = title_of(&"mot ".repeat(40));
        assert!(
            long.ends_with("mot…") && long.chars().count() <= 61,
            "{long}"
        );
        assert_eq!(title_of(&"é".repeat(80)).chars().count(), 61);
    }
}
