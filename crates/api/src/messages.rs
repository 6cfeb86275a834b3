//! Messages, and asking for an answer to one.

use crate::{
    app::App,
    auth::Principal,
    conversations,
    generations::{self, Asked, Question, StatusName},
    json::{Id, Json, identifier},
    page::{PageQuery, cut},
    problem::{Problem, ProblemBody},
};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use jarvis_domain::{self as domain, ConversationId, GenerationId, MessageId, Role, Timestamp};
use jarvis_store::{MessageRow, Parent};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an answer cost.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[schema(as = Usage)]
pub(crate) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    /// From acceptance to the end.
    total_ms: u64,
    /// From acceptance to the first character.
    #[schema(required)]
    first_token_ms: Option<u64>,
}

impl From<domain::Usage> for UsageBody {
    fn from(usage: domain::Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_ms: usage.total_ms,
            first_token_ms: usage.first_token_ms,
        }
    }
}

/// Why an answer was interrupted or failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = GenerationError)]
pub(crate) struct ErrorBody {
    /// A stable name.
    code: String,
    /// A sentence.
    message: String,
}

impl From<domain::GenerationError> for ErrorBody {
    fn from(error: domain::GenerationError) -> Self {
        Self {
            code: error.code,
            message: error.message,
        }
    }
}

/// What makes or made an answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessageGeneration {
    #[schema(value_type = String)]
    id: GenerationId,
    #[schema(value_type = StatusName)]
    status: domain::Status,
    model: String,
    #[schema(required)]
    usage: Option<UsageBody>,
    #[schema(required)]
    error: Option<ErrorBody>,
}

/// A message of a conversation's tree.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(crate) struct MessageBody {
    #[schema(value_type = String)]
    id: MessageId,
    #[schema(value_type = String)]
    conversation_id: ConversationId,
    #[schema(required, value_type = Option<String>)]
    parent_id: Option<MessageId>,
    #[schema(inline, value_type = RoleName)]
    role: Role,
    /// The text; of an answer that is being made, read it from its generation.
    content: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Of an assistant's message: what makes or made it.
    #[schema(required)]
    generation: Option<MessageGeneration>,
}

/// Who speaks.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "names the values for the contract")]
enum RoleName {
    User,
    Assistant,
    System,
}

impl From<MessageRow> for MessageBody {
    fn from(row: MessageRow) -> Self {
        let generation = row.generation.map(|generation| MessageGeneration {
            id: generation.id,
            status: generation.status,
            model: generation.model,
            usage: generation.usage.map(Into::into),
            error: generation.error.map(Into::into),
        });
        Self {
            id: row.message.id,
            conversation_id: row.message.conversation_id,
            parent_id: row.message.parent_id,
            role: row.message.role,
            content: row.message.content,
            created_at: row.message.created_at,
            generation,
        }
    }
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessagePage {
    items: Vec<MessageBody>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A message, to be answered.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SendMessage {
    content: String,
    /// The message it follows. Absent: the conversation's head. Null: none, another first message.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    parent_id: ParentField,
    #[serde(default)]
    model: Option<String>,
}

/// A user's message, to be answered again.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Regenerate {
    parent_id: String,
    #[serde(default)]
    model: Option<String>,
}

/// An answer is on its way.
#[expect(clippy::struct_field_names, reason = "the contract's names")]
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Accepted {
    #[schema(value_type = String)]
    pub(crate) conversation_id: ConversationId,
    /// The user's message.
    #[schema(value_type = String)]
    pub(crate) message_id: MessageId,
    /// The message that will hold the answer.
    #[schema(value_type = String)]
    pub(crate) assistant_message_id: MessageId,
    #[schema(value_type = String)]
    pub(crate) generation_id: GenerationId,
}

/// The whole tree of a conversation, in order of creation.
#[utoipa::path(get, path = "/api/v1/conversations/{id}/messages", operation_id = "list_messages", tag = "messages",
    params(("id" = String, Path, description = "The conversation."),
        ("limit" = Option<u32>, Query, description = "Items on the page, 1 to 200; 50 where absent."),
        ("cursor" = Option<String>, Query, description = "An earlier page's `next_cursor`.")),
    responses((status = 200, description = "A page.", body = MessagePage),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<ConversationId>,
    query: PageQuery,
) -> Result<Json<MessagePage>, Problem> {
    conversations::find(&app, who.user, id).await?;
    let after = query.after::<MessageId>()?;
    let rows = app
        .db
        .messages(who.user, id, query.limit + 1, after)
        .await?;
    let (rows, next_cursor) = cut(rows, query.limit, |row| row.message.id);
    Ok(Json(MessagePage {
        items: rows.into_iter().map(Into::into).collect(),
        next_cursor,
    }))
}

/// Sends a message and has it answered. Two requests with one `Idempotency-Key` are one.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/messages", operation_id = "send_message", tag = "messages",
    params(("id" = String, Path, description = "The conversation."),
        ("Idempotency-Key" = Option<String>, Header, description = "Made by the client; at most 128 bytes.")),
    request_body = SendMessage,
    responses((status = 202, description = "The answer is on its way.", body = Accepted),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn send(
    State(app): State<App>,
    who: Principal,
    Id(conversation): Id<ConversationId>,
    headers: HeaderMap,
    Json(request): Json<SendMessage>,
) -> Result<Response, Problem> {
    let parent = request.parent_id.parent()?;
    let asked = Asked {
        question: Question::Message {
            conversation,
            parent,
            content: request.content,
        },
        model: request.model,
        key: key(&headers)?,
    };
    accepted(&app, who, asked).await
}

/// `parent_id` of a new message: absent, null and a value are three different requests.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Option<String>")]
pub(crate) enum ParentField {
    #[default]
    Absent,
    Null,
    Text(String),
}

impl From<Option<String>> for ParentField {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl ParentField {
    /// Where the message goes.
    pub(crate) fn parent(&self) -> Result<Parent, Problem> {
        match self {
            Self::Absent => Ok(Parent::Head),
            Self::Null => Ok(Parent::Root),
            Self::Text(text) => identifier("parent_id", text).map(Parent::Message),
        }
    }
}

/// Has a user's message answered again, as another branch.
#[utoipa::path(post, path = "/api/v1/conversations/{id}/regenerate", operation_id = "regenerate", tag = "messages",
    params(("id" = String, Path, description = "The conversation."),
        ("Idempotency-Key" = Option<String>, Header, description = "Made by the client; at most 128 bytes.")),
    request_body = Regenerate,
    responses((status = 202, description = "The answer is on its way.", body = Accepted),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn regenerate(
    State(app): State<App>,
    who: Principal,
    Id(conversation): Id<ConversationId>,
    headers: HeaderMap,
    Json(request): Json<Regenerate>,
) -> Result<Response, Problem> {
    let message = identifier("parent_id", &request.parent_id)?;
    let asked = Asked {
        question: Question::Again {
            conversation,
            message,
        },
        model: request.model,
        key: key(&headers)?,
    };
    accepted(&app, who, asked).await
}

async fn accepted(app: &App, who: Principal, asked: Asked) -> Result<Response, Problem> {
    let accepted = generations::ask(app, who.user, asked).await?;
    Ok((StatusCode::ACCEPTED, Json(accepted)).into_response())
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    checked_key(value.to_str().unwrap_or_default()).map(Some)
}

/// A key that a client made for one request.
pub(crate) fn checked_key(key: &str) -> Result<String, Problem> {
    if (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(key.to_owned());
    }
    Err(Problem::malformed(
        "the idempotency key must have 1 to 128 printable characters",
    ))
}
