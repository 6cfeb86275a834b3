//! The frames of `/ws`: JSON text, told apart by `type`. Events of answers are [`crate::generations::Event`].

use crate::{
    conversations::ConversationBody,
    messages::{Accepted, ParentField},
    problem::Problem,
};
use jarvis_domain::{ConversationId, Epoch, Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// What a client says. Identifiers come as text: in the place of a path's (the conversation, the generation), what is none is
/// answered like one that does not exist; elsewhere it is a field that is wrong.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ClientFrame {
    /// The first frame; sent again to renew.
    Auth { access_token: String },
    /// A message, to be answered. `id` is made by the client, and is the idempotency key.
    Send {
        id: String,
        #[serde(default)]
        conversation_id: Option<String>,
        content: String,
        #[serde(default)]
        parent_id: ParentField,
        #[serde(default)]
        model: Option<String>,
    },
    /// Another answer to a message.
    Regenerate {
        id: String,
        conversation_id: String,
        parent_id: String,
        #[serde(default)]
        model: Option<String>,
    },
    /// Follow an answer, of which `offset` bytes are held, the last of them from a frame with this `epoch`. Without an epoch
    /// nobody knows whose bytes they are: after a change of owner the text may be told again.
    Subscribe {
        generation_id: String,
        #[serde(default)]
        offset: usize,
        #[serde(default)]
        epoch: Epoch,
    },
    /// Follow it no more.
    Unsubscribe { generation_id: String },
    /// Stop it.
    Cancel { generation_id: String },
}

/// What the server says, besides the events of answers.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ServerFrame {
    /// The socket is authenticated, until a moment.
    Ready {
        user_id: UserId,
        expires_at: Timestamp,
    },
    /// An answer is on its way; the socket follows it from byte 0 on.
    Accepted {
        id: String,
        #[serde(flatten)]
        accepted: Accepted,
    },
    /// A conversation is new or has changed.
    Conversation { conversation: ConversationBody },
    /// A conversation is gone.
    ConversationDeleted { id: ConversationId },
    /// More has changed than was told: read the list again.
    ConversationsChanged,
    /// A frame was refused.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        generation_id: Option<String>,
        code: &'static str,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        models: Option<Vec<String>>,
    },
}

impl ServerFrame {
    /// A refusal; `id` of what was asked for.
    pub(super) fn refused(problem: &Problem, id: Option<String>) -> Self {
        Self::Error {
            id,
            generation_id: None,
            code: problem.code(),
            message: problem.detail().to_owned(),
            models: problem.models().map(<[_]>::to_vec),
        }
    }

    /// A refusal about an answer.
    pub(super) fn refused_answer(problem: &Problem, generation_id: String) -> Self {
        Self::Error {
            id: None,
            generation_id: Some(generation_id),
            code: problem.code(),
            message: problem.detail().to_owned(),
            models: None,
        }
    }
}
