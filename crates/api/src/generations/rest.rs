//! Answers over REST: as they are now, as a stream of events, and their stop.

use super::{Event, Follower, task};
use crate::{
    app::App,
    auth::Principal,
    hub::Notice,
    json::{Id, Json},
    messages::{ErrorBody, UsageBody},
    problem::{Problem, ProblemBody},
};
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response, Sse,
        sse::{self, KeepAlive},
    },
};
use futures_util::StreamExt as _;
use jarvis_domain::{
    ConversationId, Epoch, Generation, GenerationId, MessageId, Status, Timestamp, UserId,
    durable::Reader,
};
use serde::Serialize;
use tokio::{sync::broadcast::error::RecvError, time::sleep};
use utoipa::ToSchema;

/// How far an answer has come.
#[derive(ToSchema)]
#[schema(as = GenerationStatus, rename_all = "lowercase")]
#[expect(dead_code, reason = "names the values for the contract")]
pub(crate) enum StatusName {
    Queued,
    Running,
    Done,
    Stopped,
    Interrupted,
    Failed,
}

/// The making of an answer.
#[derive(Serialize, ToSchema)]
#[schema(as = Generation)]
pub(crate) struct GenerationBody {
    #[schema(value_type = String)]
    id: GenerationId,
    #[schema(value_type = String)]
    conversation_id: ConversationId,
    /// The assistant's message that holds the answer.
    #[schema(value_type = String)]
    message_id: MessageId,
    #[schema(value_type = StatusName)]
    status: Status,
    model: String,
    /// Which owner makes it.
    #[schema(value_type = u32)]
    epoch: Epoch,
    /// Bytes of `text`.
    offset: usize,
    /// The text so far.
    text: String,
    #[schema(required)]
    usage: Option<UsageBody>,
    #[schema(required)]
    error: Option<ErrorBody>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

async fn find(app: &App, user: UserId, id: GenerationId) -> Result<Generation, Problem> {
    let found = app.db.generation(user, id).await?;
    found.ok_or_else(Problem::not_found)
}

/// An answer as it is now.
#[utoipa::path(get, path = "/api/v1/generations/{id}", operation_id = "get_generation", tag = "generations",
    params(("id" = String, Path, description = "The generation.")),
    responses((status = 200, description = "The generation.", body = GenerationBody),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn get(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<GenerationId>,
) -> Result<Json<GenerationBody>, Problem> {
    let mut generation = find(&app, who.user, id).await?;
    if generation.status.is_live()
        && let Some(now) = app.answers.snapshot(id).await?
    {
        // An end that the store has not taken yet: what those who follow it were told.
        if let Some(end) = now.end.filter(|end| !task::goes_on(end)) {
            generation.status = end.status;
            generation.usage = end.usage;
            generation.error = end.error;
        }
        return Ok(Json(body(generation, now.text)));
    }
    // It may have ended in between: whoever is not in the log is in SQL.
    let generation = find(&app, who.user, id).await?;
    let message = app
        .db
        .message(generation.conversation_id, generation.message_id)
        .await?;
    let text = message.map(|message| message.content).unwrap_or_default();
    Ok(Json(body(generation, text)))
}

fn body(generation: Generation, text: String) -> GenerationBody {
    GenerationBody {
        id: generation.id,
        conversation_id: generation.conversation_id,
        message_id: generation.message_id,
        status: generation.status,
        model: generation.model,
        epoch: generation.epoch,
        offset: text.len(),
        text,
        usage: generation.usage.map(Into::into),
        error: generation.error.map(Into::into),
        created_at: generation.created_at,
        finished_at: generation.finished_at,
    }
}

/// Stops an answer; its text so far stays. One that has ended stays as it is.
#[utoipa::path(post, path = "/api/v1/generations/{id}/cancel", operation_id = "cancel_generation", tag = "generations",
    params(("id" = String, Path, description = "The generation.")),
    responses((status = 202, description = "It will stop."),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn cancel(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<GenerationId>,
) -> Result<StatusCode, Problem> {
    let generation = find(&app, who.user, id).await?;
    super::stop(&app, &generation).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Follows an answer: the text from its beginning or from `Last-Event-ID` on, then what comes, to its end. Event names and
/// data are those of the WebSocket's frames; identifiers are `<epoch>-<bytes held after this event>`.
#[utoipa::path(get, path = "/api/v1/generations/{id}/events", operation_id = "generation_events", tag = "generations",
    params(("id" = String, Path, description = "The generation."),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event's identifier.")),
    responses((status = 200, description = "The events.", body = String, content_type = "text/event-stream"),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn events(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<GenerationId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let generation = find(&app, who.user, id).await?;
    let held = last_event(&headers)?;
    let keep_alive = KeepAlive::new().interval(app.options.sse_keep_alive);
    let events = Follower::new(app.clone(), &generation, held)
        .events()
        .map(|(event, epoch, offset)| wire(&event, epoch, offset))
        .take_until(Box::pin(no_longer(app, who)));
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // A proxy that gathers the answer before it passes it on would defeat the purpose (nginx reads this).
    response.headers_mut().insert(
        "x-accel-buffering",
        axum::http::HeaderValue::from_static("no"),
    );
    Ok(response)
}

fn wire(event: &Event, epoch: Epoch, offset: usize) -> Result<sse::Event, axum::Error> {
    sse::Event::default()
        .event(event.name())
        .id(format!("{epoch}-{offset}"))
        .json_data(event)
}

fn last_event(headers: &HeaderMap) -> Result<Reader, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(Reader {
            epoch: 0,
            offset: 0,
        });
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.split_once('-'))
        .and_then(|(epoch, offset)| {
            Some(Reader {
                epoch: epoch.parse().ok()?,
                offset: offset.parse().ok()?,
            })
        })
        .ok_or_else(|| Problem::malformed("`Last-Event-ID` is not one of this stream's"))
}

/// Returns when a stream must end: the token expires, the sign-in ends, the server stops.
async fn no_longer(app: App, who: Principal) {
    let mut listener = app.hub.listen(who.user);
    let expiry = sleep(who.expires_at.since(app.clock.now()));
    let revoked = async {
        loop {
            match listener.notices.recv().await {
                Ok(Notice::Revoked(session)) if session == who.session => return,
                Ok(Notice::Missed) | Err(RecvError::Lagged(_))
                    if app.tokens.still_good(&who).await.is_err() =>
                {
                    return;
                }
                Err(RecvError::Closed) => return,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = expiry => {}
        () = revoked => {}
        () = app.stopping.cancelled() => {}
    }
}
