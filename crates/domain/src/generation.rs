//! A generation is the making of one assistant message. It belongs to the server, not to a socket.

use crate::{ConversationId, GenerationId, MessageId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Which owner of a generation wrote something: each claim counts one up, and stores refuse what is older.
pub type Epoch = u32;

/// How far a generation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted; no token yet.
    Queued,
    /// Tokens are coming.
    Running,
    /// Whole.
    Done,
    /// Ended by its user; the text so far is kept.
    Stopped,
    /// Cut off by a fault after it had begun; the text so far is kept.
    Interrupted,
    /// Failed before its first character.
    Failed,
}

impl Status {
    /// The name that stores carry.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }

    /// Whether more text may still come.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [
            Self::Queued,
            Self::Running,
            Self::Done,
            Self::Stopped,
            Self::Interrupted,
            Self::Failed,
        ]
        .into_iter()
        .find(|status| status.as_str() == text)
        .ok_or_else(|| format!("unknown status `{text}`"))
    }
}

/// What a generation cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, those read from a cache included.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// From acceptance to the end, in milliseconds.
    pub total_ms: u64,
    /// From acceptance to the first character, in milliseconds; not known of an answer that another process began.
    pub first_token_ms: Option<u64>,
}

/// Why a generation was interrupted or failed, in words for its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationError {
    /// A stable snake_case name.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// How a generation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// One of the ended ones; of what readers alone are told, `running` where it is not the end for good.
    pub status: Status,
    /// What it cost, as far as known.
    pub usage: Option<Usage>,
    /// Why it was interrupted or failed.
    pub error: Option<GenerationError>,
}

/// The making of one assistant message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its identifier.
    pub id: GenerationId,
    /// The conversation it belongs to.
    pub conversation_id: ConversationId,
    /// The assistant message it makes.
    pub message_id: MessageId,
    /// Who asked.
    pub user_id: UserId,
    /// The model that answers.
    pub model: String,
    /// How far it has come.
    pub status: Status,
    /// Its present owner's epoch.
    pub epoch: Epoch,
    /// How many owners have taken it up.
    pub attempts: u32,
    /// What it cost, once it has ended.
    pub usage: Option<Usage>,
    /// Why it was interrupted or failed.
    pub error: Option<GenerationError>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}
