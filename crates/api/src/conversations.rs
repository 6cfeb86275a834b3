//! Conversations: the list, and one by one.

use crate::{
    app::App,
    auth::Principal,
    json::{Id, Json, identifier},
    list_cache::CachedPage,
    models,
    page::{PageQuery, cut},
    problem::{Problem, ProblemBody},
    ws::ServerFrame,
};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use jarvis_domain::{self as domain, ConversationId, MessageId, Timestamp, UserId};
use jarvis_store::ConversationPatch;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// A conversation.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub(crate) struct ConversationBody {
    #[schema(value_type = String)]
    id: ConversationId,
    title: String,
    /// The model it prefers; the default where null.
    #[schema(required)]
    model: Option<String>,
    /// The newest message of the branch shown last.
    #[schema(required, value_type = Option<String>)]
    head_message_id: Option<MessageId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<domain::Conversation> for ConversationBody {
    fn from(conversation: domain::Conversation) -> Self {
        Self {
            id: conversation.id,
            title: conversation.title,
            model: conversation.model,
            head_message_id: conversation.head,
            created_at: conversation.created_at,
            updated_at: conversation.updated_at,
        }
    }
}

/// A page of conversations.
#[derive(Serialize, ToSchema)]
pub(crate) struct ConversationPage {
    items: Vec<ConversationBody>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A conversation without messages.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CreateConversation {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

/// What is to change; what is absent or null stays.
#[derive(Deserialize, ToSchema)]
pub(crate) struct UpdateConversation {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    model: Option<String>,
    /// A message of this conversation: the newest of the branch to show.
    #[serde(default)]
    head_message_id: Option<String>,
}

/// Conversations, the latest changed first. Answers carry an `ETag`.
#[utoipa::path(get, path = "/api/v1/conversations", operation_id = "list_conversations", tag = "conversations",
    params(("limit" = Option<u32>, Query, description = "Items on the page, 1 to 200; 50 where absent."),
        ("cursor" = Option<String>, Query, description = "An earlier page's `next_cursor`.")),
    responses((status = 200, description = "A page.", body = ConversationPage), (status = 304, description = "As the `If-None-Match` says."),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
    query: PageQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // The version first: what is written while we read makes the page outdated, never wrongly fresh.
    let version = app.db.conversations_version(who.user).await?;
    let page = match app.lists.get(who.user, &query, version) {
        Some(page) => page,
        None => read_page(&app, who.user, query, version).await?,
    };
    let seen = headers.get(header::IF_NONE_MATCH);
    Ok(if seen.is_some_and(|seen| matches(seen, &page.etag)) {
        (StatusCode::NOT_MODIFIED, validators(page.etag)).into_response()
    } else {
        let kind = (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        ([kind], validators(page.etag), page.body).into_response()
    })
}

fn validators(etag: HeaderValue) -> [(header::HeaderName, HeaderValue); 2] {
    [
        (header::ETAG, etag),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        ),
    ]
}

fn matches(seen: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(seen) = seen.to_str() else {
        return false;
    };
    seen.split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

async fn read_page(
    app: &App,
    user: UserId,
    query: PageQuery,
    version: i64,
) -> Result<CachedPage, Problem> {
    let after = query.after::<(Timestamp, ConversationId)>()?;
    let rows = app.db.conversations(user, query.limit + 1, after).await?;
    let (rows, next_cursor) = cut(rows, query.limit, |row| (row.updated_at, row.id));
    let body = ConversationPage {
        items: rows.into_iter().map(Into::into).collect(),
        next_cursor,
    };
    let body = serde_json::to_vec(&body)
        .map_err(|error| Problem::internal("a page could not be written", &error))?;
    let digest = URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..16]);
    let etag = HeaderValue::from_str(&format!("\"{digest}\""))
        .map_err(|error| Problem::internal("an ETag could not be written", &error))?;
    let page = CachedPage {
        body: Bytes::from(body),
        etag,
    };
    app.lists.put(user, query, version, page.clone());
    Ok(page)
}

/// Begins a conversation without messages.
#[utoipa::path(post, path = "/api/v1/conversations", operation_id = "create_conversation", tag = "conversations",
    request_body = CreateConversation,
    responses((status = 201, description = "The conversation.", body = ConversationBody),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    who: Principal,
    Json(request): Json<CreateConversation>,
) -> Result<Response, Problem> {
    let title = request
        .title
        .as_deref()
        .map(title)
        .transpose()?
        .unwrap_or_default();
    let model = match &request.model {
        Some(asked) => Some(models::resolve(&app, Some(asked)).await?),
        None => None,
    };
    let now = app.clock.now();
    let conversation = domain::Conversation {
        id: ConversationId::new(),
        user_id: who.user,
        title,
        model,
        head: None,
        created_at: now,
        updated_at: now,
    };
    let writer = app.clone();
    let made = conversation.clone();
    app.shielded(async move {
        writer.db.create_conversation(&made).await?;
        tell(&writer, made);
        Ok::<_, Problem>(())
    })
    .await??;
    Ok((
        StatusCode::CREATED,
        Json(ConversationBody::from(conversation)),
    )
        .into_response())
}

fn title(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let limit = domain::Conversation::MAX_TITLE_CHARS;
    if text.is_empty() || text.chars().count() > limit || text.chars().any(char::is_control) {
        return Err(Problem::invalid(format!(
            "`title` must have 1 to {limit} characters, none of them control characters"
        )));
    }
    Ok(text.to_owned())
}

/// One conversation.
#[utoipa::path(get, path = "/api/v1/conversations/{id}", operation_id = "get_conversation", tag = "conversations",
    params(("id" = String, Path, description = "The conversation.")),
    responses((status = 200, description = "The conversation.", body = ConversationBody),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<ConversationId>,
) -> Result<Json<ConversationBody>, Problem> {
    Ok(Json(find(&app, who.user, id).await?.into()))
}

/// A conversation of this user, or the problem of its absence.
pub(crate) async fn find(
    app: &App,
    user: UserId,
    id: ConversationId,
) -> Result<domain::Conversation, Problem> {
    let found = app.db.conversation(user, id).await?;
    found.ok_or_else(Problem::not_found)
}

/// Renames a conversation, sets its model or shows another branch.
#[utoipa::path(patch, path = "/api/v1/conversations/{id}", operation_id = "update_conversation", tag = "conversations",
    params(("id" = String, Path, description = "The conversation.")),
    request_body = UpdateConversation,
    responses((status = 200, description = "The conversation as it is now.", body = ConversationBody),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn update(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<ConversationId>,
    Json(request): Json<UpdateConversation>,
) -> Result<Json<ConversationBody>, Problem> {
    find(&app, who.user, id).await?;
    let head = request
        .head_message_id
        .map(|text| identifier("head_message_id", &text))
        .transpose()?;
    let model = match &request.model {
        Some(asked) => Some(models::resolve(&app, Some(asked)).await?),
        None => None,
    };
    let patch = ConversationPatch {
        title: request.title.as_deref().map(title).transpose()?,
        model,
        head,
    };
    let writer = app.clone();
    let updated = app
        .shielded(async move {
            let updated = writer.db.update_conversation(who.user, id, &patch).await?;
            if let Some(conversation) = &updated {
                tell(&writer, conversation.clone());
            }
            Ok::<_, Problem>(updated)
        })
        .await??;
    updated
        .map(|conversation| Json(conversation.into()))
        .ok_or_else(Problem::not_found)
}

/// Deletes a conversation with all that is in it; answers that are being made in it are stopped.
#[utoipa::path(delete, path = "/api/v1/conversations/{id}", operation_id = "delete_conversation", tag = "conversations",
    params(("id" = String, Path, description = "The conversation.")),
    responses((status = 204, description = "It is gone."),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn delete(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<ConversationId>,
) -> Result<StatusCode, Problem> {
    let writer = app.clone();
    let deleted = app
        .shielded(async move {
            let deleted = writer.db.delete_conversation(who.user, id).await?;
            if deleted {
                writer.generations.cancel_all_of(id);
                writer.tell(who.user, &ServerFrame::ConversationDeleted { id });
            }
            Ok::<_, Problem>(deleted)
        })
        .await??;
    if deleted {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}

/// Shows a conversation to all the user's sockets.
pub(crate) fn tell(app: &App, conversation: domain::Conversation) {
    let user = conversation.user_id;
    let conversation = conversation.into();
    app.tell(user, &ServerFrame::Conversation { conversation });
}

/// Shows a conversation as it is now to all the user's sockets, if there are any.
pub(crate) async fn tell_current(app: &App, user: UserId, id: ConversationId) {
    if !app.may_be_heard(user) {
        return;
    }
    match app.db.conversation(user, id).await {
        Ok(Some(conversation)) => tell(app, conversation),
        Ok(None) => {}
        Err(error) => tracing::warn!("a conversation could not be read for its sockets: {error}"),
    }
}
