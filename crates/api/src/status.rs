//! How the installation is: what a page shows before anybody signs in, and what is down.

use crate::{
    app::App,
    auth::Principal,
    json::Json,
    options::Registration,
    problem::{Problem, ProblemBody},
};
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

/// What anybody may know of the installation.
#[derive(Serialize, ToSchema)]
pub(crate) struct Instance {
    /// The program's version.
    version: String,
    /// Whether there is no account yet: the first one becomes the administrator's.
    needs_setup: bool,
    /// Whether that first account needs the set-up token.
    setup_token_required: bool,
    #[schema(inline)]
    registration: RegistrationName,
}

/// Who may make an account.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum RegistrationName {
    Open,
    Invite,
    Closed,
}

impl From<Registration> for RegistrationName {
    fn from(registration: Registration) -> Self {
        match registration {
            Registration::Open => Self::Open,
            Registration::Invite => Self::Invite,
            Registration::Closed => Self::Closed,
        }
    }
}

/// What a page needs before anybody signs in.
#[utoipa::path(get, path = "/api/v1/instance", operation_id = "instance", tag = "status", security(()),
    responses((status = 200, description = "The installation.", body = Instance),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn instance(State(app): State<App>) -> Result<Json<Instance>, Problem> {
    let needs_setup = app.needs_setup().await?;
    Ok(Json(Instance {
        version: app.options.version.clone(),
        needs_setup,
        setup_token_required: needs_setup && app.setup_token.is_some(),
        registration: app.options.registration.into(),
    }))
}

/// How well something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Health {
    Ok,
    Degraded,
    Down,
}

/// One part of the installation.
#[derive(Serialize, ToSchema)]
pub(crate) struct Component {
    name: String,
    #[schema(inline)]
    status: Health,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Component {
    fn of(name: String, failure: Option<String>) -> Self {
        let status = if failure.is_some() {
            Health::Down
        } else {
            Health::Ok
        };
        Self {
            name,
            status,
            detail: failure,
        }
    }
}

/// The whole, and its parts.
#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    #[schema(inline)]
    status: Health,
    components: Vec<Component>,
}

/// What works and what does not: the stores and every node.
#[utoipa::path(get, path = "/api/v1/status", operation_id = "status", tag = "status",
    responses((status = 200, description = "`ok`, or `degraded` if any part is not.", body = Status),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn status(
    State(app): State<App>,
    _who: Principal,
) -> Result<Json<Status>, Problem> {
    let store = app.db.ping().await.err().map(|error| error.to_string());
    let answers = app.answers.probe().err().map(|error| error.to_string());
    let mut components = vec![
        Component::of("store".into(), store),
        Component::of("answers".into(), answers),
    ];
    if let Some(redis) = app.answers.redis() {
        let trouble = redis.trouble();
        let failure = (!trouble.is_empty()).then(|| trouble.join("; "));
        components.push(Component::of("redis".into(), failure));
    }
    for node in app.balancer.catalog().await.nodes {
        let waiting = || "not ready yet".to_owned();
        let failure = (!node.ready).then(|| node.error.unwrap_or_else(waiting));
        components.push(Component::of(format!("node {}", node.name), failure));
    }
    let good = components.iter().all(|part| part.status == Health::Ok);
    Ok(Json(Status {
        status: if good { Health::Ok } else { Health::Degraded },
        components,
    }))
}
