//! The account of whoever asks.

use crate::{
    app::App,
    auth::Principal,
    json::Json,
    problem::{Problem, ProblemBody},
};
use axum::{extract::State, http::StatusCode};
use jarvis_domain::{Email, Timestamp, User, UserId, UserRole};
use serde::Serialize;
use utoipa::ToSchema;

/// An account.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    #[schema(value_type = String)]
    id: UserId,
    #[schema(value_type = String)]
    email: Email,
    #[schema(inline, value_type = RoleName)]
    role: UserRole,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// What an account may do.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "names the values for the contract")]
enum RoleName {
    Admin,
    User,
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/v1/me", operation_id = "me", tag = "auth",
    responses((status = 200, description = "The account.", body = Me),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn me(State(app): State<App>, who: Principal) -> Result<Json<Me>, Problem> {
    let user = account(&app, who).await?;
    Ok(Json(Me {
        id: user.id,
        email: user.email,
        role: user.role,
        created_at: user.created_at,
    }))
}

/// The account of whoever asks, if it may change what concerns all.
pub(crate) async fn administrator(app: &App, who: Principal) -> Result<User, Problem> {
    let user = account(app, who).await?;
    if user.role == UserRole::Admin {
        return Ok(user);
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "administrators_only",
        "this is for administrators",
    ))
}

async fn account(app: &App, who: Principal) -> Result<User, Problem> {
    let user = app.db.user(who.user).await?;
    user.ok_or_else(Problem::not_found)
}
