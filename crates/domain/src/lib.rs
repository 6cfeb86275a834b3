//! What Jarvis is about: identities, conversations, messages and generations.
//!
//! Nothing here reads, writes or waits. Every other crate may depend on this one.

mod clock;
mod conversation;
pub mod durable;
mod generation;
mod id;
mod sentence;
mod user;

pub use clock::{Clock, Timestamp};
pub use conversation::{Conversation, Message, MessageText, Role, TextError, title_of};
pub use generation::{Epoch, Generation, GenerationError, Outcome, Status, Usage};
pub use id::{
    ConversationId, GenerationId, IdError, InstanceId, InviteId, MessageId, SessionId, UserId,
};
pub use sentence::sentence;
pub use user::{Email, EmailError, User, UserRole};
