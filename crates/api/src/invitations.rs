//! Invitations to make an account, for administrators.

use crate::{
    app::App,
    auth::{Principal, hash_token, random_token},
    json::{Id, Json},
    me,
    options::Registration,
    problem::{Problem, ProblemBody},
};
use axum::{extract::State, http::StatusCode};
use jarvis_domain::{InviteId, Timestamp};
use jarvis_store::Invite;
use serde::{Deserialize, Serialize};
use std::{ops::RangeInclusive, time::Duration};
use utoipa::ToSchema;

const USUAL_SECONDS: u64 = 7 * 86_400;
const SECONDS: RangeInclusive<u64> = 60..=90 * 86_400;

/// An invitation that has been neither used nor withdrawn.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invitation {
    #[schema(value_type = String)]
    id: InviteId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl From<Invite> for Invitation {
    fn from(invite: Invite) -> Self {
        Self {
            id: invite.id,
            created_at: invite.created_at,
            expires_at: invite.expires_at,
        }
    }
}

/// An invitation that was made now.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewInvitation {
    #[serde(flatten)]
    invitation: Invitation,
    /// What whoever is invited registers with, once. It is told here and never again.
    code: String,
}

/// All that are open.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvitationList {
    items: Vec<Invitation>,
}

/// An invitation to be made.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CreateInvitation {
    /// Seconds until it expires, 60 to 7776000; a week where absent.
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Makes an invitation, good for one account.
#[utoipa::path(post, path = "/api/v1/invitations", operation_id = "create_invitation", tag = "invitations",
    request_body = CreateInvitation,
    responses((status = 201, description = "The invitation and its code.", body = NewInvitation),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(app): State<App>,
    who: Principal,
    Json(request): Json<CreateInvitation>,
) -> Result<(StatusCode, Json<NewInvitation>), Problem> {
    let by = me::administrator(&app, who).await?.id;
    if app.options.registration == Registration::Closed {
        return Err(Problem::registration_closed());
    }
    let seconds = request.expires_in.unwrap_or(USUAL_SECONDS);
    if !SECONDS.contains(&seconds) {
        let (least, most) = SECONDS.into_inner();
        let detail = format!("`expires_in` is from {least} to {most} seconds");
        return Err(Problem::invalid(detail));
    }
    let code = random_token()?;
    let hash = hash_token(&code);
    let now = app.clock.now();
    let writer = app.clone();
    let invite = app
        .shielded(async move {
            let expires_at = now + Duration::from_secs(seconds);
            writer.db.create_invite(by, &hash, now, expires_at).await
        })
        .await??;
    let made = NewInvitation {
        invitation: invite.into(),
        code,
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// The invitations that are open, the newest first.
#[utoipa::path(get, path = "/api/v1/invitations", operation_id = "list_invitations", tag = "invitations",
    responses((status = 200, description = "All of them.", body = InvitationList),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    who: Principal,
) -> Result<Json<InvitationList>, Problem> {
    me::administrator(&app, who).await?;
    let open = app.db.invites(app.clock.now()).await?;
    let items = open.into_iter().map(Invitation::from).collect();
    Ok(Json(InvitationList { items }))
}

/// Withdraws an invitation. An account that was made with it stays.
#[utoipa::path(delete, path = "/api/v1/invitations/{id}", operation_id = "withdraw_invitation", tag = "invitations",
    params(("id" = String, Path, description = "The invitation.")),
    responses((status = 204, description = "It is worth nothing now."),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn withdraw(
    State(app): State<App>,
    who: Principal,
    Id(id): Id<InviteId>,
) -> Result<StatusCode, Problem> {
    me::administrator(&app, who).await?;
    let writer = app.clone();
    let withdrawn = app
        .shielded(async move { writer.db.withdraw_invite(id).await })
        .await??;
    if withdrawn {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}
