//! Accounts and sign-ins.

mod crypto;
mod password;
mod refresh;
mod tokens;

pub(crate) use password::Passwords;
pub(crate) use refresh::{hash as hash_token, hex, random_token};
pub(crate) use tokens::{Principal, Tokens};

use crate::{
    app::App,
    forwarded,
    json::Json,
    limits,
    options::{Options, Registration, SetUp},
    problem::{Problem, ProblemBody},
};
use axum::{
    extract::{FromRequestParts, State},
    http::{Extensions, HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use jarvis_domain::{Email, UserId};
use jarvis_store::{Grant, NewUser, Registered, Rotation};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use utoipa::ToSchema;

impl FromRequestParts<App> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).ok_or_else(tokens::missing)?;
        let who = app.tokens.verify(token).await?;
        app.limits.request_of(who.user).await?;
        Ok(who)
    }
}

/// The access token that a request carries.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a request says about where it comes from.
pub(crate) struct Origin {
    client: IpAddr,
    https: bool,
    ours: bool,
}

impl FromRequestParts<App> for Origin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        Ok(Self::of(&app.options, &parts.headers, &parts.extensions))
    }
}

impl Origin {
    fn of(options: &Options, headers: &HeaderMap, extensions: &Extensions) -> Self {
        Self {
            client: forwarded::client(options, headers, extensions),
            https: forwarded::is_https(options, headers, extensions),
            ours: forwarded::is_same_origin(options, headers),
        }
    }

    /// A request that carries a cookie, or is given one, must come from our own pages, or from no page at all: another page
    /// must neither use a browser's sign-in nor put it into an account of its own choosing.
    fn must_be_ours(&self) -> Result<(), Problem> {
        if self.ours {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign_origin",
            "this request does not come from a page of this installation",
        ))
    }

    /// Takes one of the tries that an address has.
    async fn take_try(&self, app: &App) -> Result<(), Problem> {
        let client = limits::network(self.client);
        let tried = app.limits.address.take(&client).await;
        tried.map_err(Problem::too_many)
    }
}

/// A new account.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RegisterRequest {
    /// The address to sign in with.
    email: String,
    /// 8 to 1024 bytes.
    password: String,
    /// What `serve` prints at start; for the first account where it is required.
    #[serde(default)]
    setup_token: Option<String>,
    /// An invitation's code.
    #[serde(default)]
    invite: Option<String>,
}

/// A sign-in.
#[derive(Deserialize, ToSchema)]
pub(crate) struct LoginRequest {
    /// The account's address.
    email: String,
    /// Its password.
    password: String,
}

/// The right to make requests, for a while. The refresh token comes beside it, as a cookie.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenResponse {
    /// To be sent as `Authorization: Bearer`.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds until it ends.
    expires_in: u64,
}

/// Makes an account and signs in.
#[utoipa::path(post, path = "/api/v1/auth/register", operation_id = "register", tag = "auth", security(()),
    request_body = RegisterRequest,
    responses((status = 201, description = "The account exists; the refresh token is in the cookie.", body = TokenResponse),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn register(
    State(app): State<App>,
    origin: Origin,
    Json(request): Json<RegisterRequest>,
) -> Result<Response, Problem> {
    origin.must_be_ours()?;
    origin.take_try(&app).await?;
    let email = email(&request.email)?;
    Passwords::check(&request.password)?;
    let right = right_to_register(&app, &request).await?;
    let password_hash = app.passwords.hash(request.password).await?;
    let new = NewUser {
        id: UserId::new(),
        email,
        password_hash,
        created_at: app.clock.now(),
    };
    let writer = app.clone();
    let registered = app
        .shielded(async move {
            let grant = match &right {
                Right::First => Grant::First,
                Right::Open => Grant::Open,
                Right::Invite(hash) => Grant::Invite(hash),
            };
            writer.db.register(new, grant).await
        })
        .await??;
    match registered {
        Registered::Made(user) => {
            app.note_account();
            sign_in(&app, user.id, StatusCode::CREATED, origin.https).await
        }
        Registered::EmailTaken => Err(Problem::new(
            StatusCode::CONFLICT,
            "email_taken",
            "there is an account with this address already",
        )),
        Registered::NotFirst => Err(Problem::new(
            StatusCode::CONFLICT,
            "already_set_up",
            "somebody else has just made the first account; try again",
        )),
        Registered::BadInvite => Err(no_invite()),
    }
}

enum Right {
    First,
    Open,
    Invite(String),
}

async fn right_to_register(app: &App, request: &RegisterRequest) -> Result<Right, Problem> {
    if app.needs_setup().await? {
        return match app.setup_token.as_deref() {
            Some(token) if !same(token, request.setup_token.as_deref()) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "setup_token_required",
                "the first account needs the set-up token that the server printed at its start",
            )),
            _ => Ok(Right::First),
        };
    }
    match (app.options.registration, &request.invite) {
        (Registration::Open, _) => Ok(Right::Open),
        (Registration::Invite, Some(code)) => Ok(Right::Invite(hash_token(code))),
        (Registration::Invite, None) => Err(no_invite()),
        (Registration::Closed, _) => Err(Problem::registration_closed()),
    }
}

fn no_invite() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "invite_required",
        "an account needs an invitation that has been neither used nor expired",
    )
}

/// Compares digests, so that the time taken says nothing about the token.
fn same(token: &str, given: Option<&str>) -> bool {
    given.is_some_and(|given| Sha256::digest(token) == Sha256::digest(given))
}

fn email(text: &str) -> Result<Email, Problem> {
    text.parse().map_err(|_| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_email",
            "this is not an e-mail address",
        )
    })
}

/// Signs in.
#[utoipa::path(post, path = "/api/v1/auth/login", operation_id = "login", tag = "auth", security(()),
    request_body = LoginRequest,
    responses((status = 200, description = "Signed in; the refresh token is in the cookie.", body = TokenResponse),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn login(
    State(app): State<App>,
    origin: Origin,
    Json(request): Json<LoginRequest>,
) -> Result<Response, Problem> {
    origin.must_be_ours()?;
    origin.take_try(&app).await?;
    // What cannot be an address has no account: the same answer, for the same work.
    let email: Option<Email> = request.email.parse().ok();
    if let Some(email) = &email {
        let tried = app.limits.email.take(email.as_str()).await;
        tried.map_err(Problem::too_many)?;
    }
    let found = match &email {
        Some(email) => app.db.credentials(email).await?,
        None => None,
    };
    let (user, hash) = found.unzip();
    let good = app.passwords.verify(request.password, hash).await?;
    match user.filter(|_| good) {
        Some(user) => sign_in(&app, user.id, StatusCode::OK, origin.https).await,
        None => Err(Problem::unauthorized(
            "invalid_credentials",
            "the e-mail address or the password is wrong",
        )),
    }
}

async fn sign_in(
    app: &App,
    user: UserId,
    status: StatusCode,
    secure: bool,
) -> Result<Response, Problem> {
    let token = random_token()?;
    let token_hash = hash_token(&token);
    let now = app.clock.now();
    let expires_at = now + app.options.refresh_token_lifetime;
    let writer = app.clone();
    let session = app
        .shielded(async move {
            let made = writer.db.create_session(user, &token_hash, now, expires_at);
            made.await
        })
        .await??;
    let access = app.tokens.issue(user, session)?;
    Ok(granted(app, status, access, &token, secure))
}

fn granted(app: &App, status: StatusCode, access: String, refresh: &str, secure: bool) -> Response {
    let body = Json(TokenResponse {
        access_token: access,
        token_type: "Bearer",
        expires_in: app.options.access_token_lifetime.as_secs(),
    });
    let mut response = (status, body).into_response();
    put_cookie(app, &mut response, Some(refresh), secure);
    response
}

fn put_cookie(app: &App, response: &mut Response, token: Option<&str>, secure: bool) {
    let headers = response.headers_mut();
    if let Some(cookie) = refresh::cookie(token, app.options.refresh_token_lifetime, secure) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    headers.insert(
        header::CACHE_CONTROL,
        axum::http::HeaderValue::from_static("no-store"),
    );
}

/// Uses up the refresh token in the cookie and gives a new one, with a new access token.
#[utoipa::path(post, path = "/api/v1/auth/refresh", operation_id = "refresh", tag = "auth", security(()),
    responses((status = 200, description = "Still signed in; the cookie is renewed.", body = TokenResponse),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn refresh(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    origin.must_be_ours()?;
    let Some(old) = refresh::from_cookies(&headers) else {
        return Err(signed_out());
    };
    origin.take_try(&app).await?;
    let new = random_token()?;
    let (old_hash, new_hash) = (hash_token(old), hash_token(&new));
    let writer = app.clone();
    let rotation = app
        .shielded(async move {
            let now = writer.clock.now();
            let expires_at = now + writer.options.refresh_token_lifetime;
            let db = &writer.db;
            let rotation = db.rotate_refresh_token(&old_hash, &new_hash, now, expires_at).await;
            if let Ok(Rotation::Reused { session, user }) = &rotation {
                tracing::warn!(%user, %session, "a refresh token was used twice: the sign-in is revoked");
                writer.session_revoked(*session);
            }
            rotation
        })
        .await??;
    match rotation {
        Rotation::Rotated { session, user } => {
            // Many who are signed in may share an address: only what fails counts.
            let client = limits::network(origin.client);
            app.limits.address.give_back(&client).await;
            let access = app.tokens.issue(user, session)?;
            Ok(granted(&app, StatusCode::OK, access, &new, origin.https))
        }
        Rotation::Reused { .. } | Rotation::Refused => {
            let mut response = signed_out().into_response();
            put_cookie(&app, &mut response, None, origin.https);
            Ok(response)
        }
    }
}

fn signed_out() -> Problem {
    Problem::unauthorized("unauthorized", "this sign-in has ended; sign in again")
}

/// Ends the sign-in that the cookie belongs to, or without a cookie the access token, on every open connection too.
#[utoipa::path(post, path = "/api/v1/auth/logout", operation_id = "logout", tag = "auth", security(()),
    responses((status = 204, description = "Signed out."),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn logout(
    State(app): State<App>,
    origin: Origin,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    origin.must_be_ours()?;
    if let Some(token) = refresh::from_cookies(&headers) {
        origin.take_try(&app).await?;
        let token_hash = hash_token(token);
        let writer = app.clone();
        app.shielded(async move {
            let now = writer.clock.now();
            let revoked = writer.db.revoke_session_of(&token_hash, now).await;
            if let Ok(Some(session)) = &revoked {
                writer.session_revoked(*session);
            }
            revoked
        })
        .await??;
    } else if let Some(token) = bearer(&headers) {
        let session = app.tokens.verify(token).await?.session;
        let writer = app.clone();
        app.shielded(async move {
            let revoked = writer.db.revoke_session(session, writer.clock.now()).await;
            if let Ok(true) = revoked {
                writer.session_revoked(session);
            }
            revoked
        })
        .await??;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    put_cookie(&app, &mut response, None, origin.https);
    Ok(response)
}

/// Makes the token that the first account needs.
pub(crate) fn setup_token(set_up: &SetUp) -> Result<Option<String>, Problem> {
    match set_up {
        SetUp::NotRequired => Ok(None),
        SetUp::Required(Some(token)) => Ok(Some(token.clone())),
        SetUp::Required(None) => random_token().map(Some),
    }
}
