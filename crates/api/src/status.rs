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
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// Who asks has little patience: a probe in front of several instances takes one that is slow for one that is gone.
const PATIENCE: Duration = Duration::from_secs(1);

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
pub struct Status {
    #[schema(inline)]
    status: Health,
    components: Vec<Component>,
}

impl Status {
    /// Asks the stores, and tells what was last heard of the rest.
    pub(crate) async fn of(app: &App) -> Self {
        let store = match timeout(PATIENCE, app.db.ping()).await {
            Ok(asked) => asked.err().map(|error| error.to_string()),
            Err(_) => Some("the database does not answer".to_owned()),
        };
        let answers = app.answers.probe().err().map(|error| error.to_string());
        let mut components = vec![
            Component::of("store".into(), store),
            Component::of("answers".into(), answers),
        ];
        for (host, state) in app.db.servers() {
            let failure = (!state.is_well()).then(|| state.to_string());
            components.push(Component::of(format!("postgresql {host}"), failure));
        }
        if let Some(redis) = app.answers.redis() {
            let trouble = redis.trouble();
            let failure = (!trouble.is_empty()).then(|| trouble.join("; "));
            components.push(Component::of("redis".into(), failure));
        }
        if let Some(series) = &app.options.series
            && series.is_apart()
        {
            components.push(Component::of("series".into(), series.trouble()));
        }
        if let Some(crowd) = app.crowd() {
            components.push(Component::of("instances".into(), Some(crowd)));
        }
        for node in app.balancer.catalog().await.nodes {
            let waiting = || "not ready yet".to_owned();
            let failure = (!node.ready).then(|| node.error.unwrap_or_else(waiting));
            components.push(Component::of(format!("node {}", node.name), failure));
        }
        let good = components.iter().all(|part| part.status == Health::Ok);
        Self {
            status: if good { Health::Ok } else { Health::Degraded },
            components,
        }
    }
}

/// What works and what does not: the stores and every node.
#[utoipa::path(get, path = "/api/v1/status", operation_id = "status", tag = "status",
    responses((status = 200, description = "`ok`, or `degraded` if any part is not.", body = Status),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn status(
    State(app): State<App>,
    _who: Principal,
) -> Result<Json<Status>, Problem> {
    Ok(Json(Status::of(&app).await))
}
