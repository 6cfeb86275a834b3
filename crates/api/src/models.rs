//! The models there are, and which one answers.

use crate::{
    app::App,
    auth::Principal,
    json::Json,
    problem::{Problem, ProblemBody},
};
use axum::extract::State;
use jarvis_balancer::Catalog;
use serde::Serialize;
use utoipa::ToSchema;

/// A model.
#[derive(Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelBody {
    name: String,
    digest: String,
    size: u64,
    family: String,
    parameter_size: String,
    quantization: String,
    capabilities: Vec<String>,
    /// One of the small models that come with the installation.
    demonstration: bool,
    /// Whether a node holds it in memory now.
    loaded: bool,
    /// Whether it answers where none is named.
    default: bool,
    /// The nodes that have it.
    nodes: Vec<String>,
}

/// Every model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelPage {
    items: Vec<ModelBody>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The models of all nodes.
#[utoipa::path(get, path = "/api/v1/models", operation_id = "list_models", tag = "models",
    responses((status = 200, description = "Every model.", body = ModelPage),
        (status = "default", description = "A problem.", body = ProblemBody<'static>, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(app): State<App>,
    _who: Principal,
) -> Result<Json<ModelPage>, Problem> {
    let catalog = app.balancer.catalog().await;
    let default = default_model(&app, &catalog).map(str::to_owned);
    let items = catalog
        .models
        .into_iter()
        .map(|model| ModelBody {
            default: default.as_deref() == Some(model.name.as_str()),
            name: model.name,
            digest: model.digest,
            size: model.size,
            family: model.family,
            parameter_size: model.parameter_size,
            quantization: model.quantization,
            capabilities: model.capabilities,
            demonstration: model.demonstration,
            loaded: model.loaded,
            nodes: model.nodes,
        })
        .collect();
    Ok(Json(ModelPage {
        items,
        next_cursor: None,
    }))
}

/// Ollama's rule: a name without a tag means `latest`.
fn same_name(asked: &str, name: &str) -> bool {
    asked == name || name.strip_suffix(":latest") == Some(asked)
}

/// The configured model if it is there, else the first that can hold a conversation; a demonstration model only where there
/// is no other.
fn default_model<'a>(app: &App, catalog: &'a Catalog) -> Option<&'a str> {
    let configured = app.options.default_model.as_deref();
    let chats = || catalog.models.iter().filter(|model| model.completes());
    let model = chats()
        .find(|model| configured.is_some_and(|asked| same_name(asked, &model.name)))
        .or_else(|| chats().find(|model| !model.demonstration))
        .or_else(|| chats().next())?;
    Some(&model.name)
}

/// The model that is to answer: the one named, or the default.
pub(crate) async fn resolve(app: &App, asked: Option<&str>) -> Result<String, Problem> {
    let catalog = app.balancer.catalog().await;
    let default = default_model(app, &catalog);
    let Some(asked) = asked else {
        return default.map_or_else(|| Err(none(&catalog)), |name| Ok(name.to_owned()));
    };
    let mut models = catalog.models.iter();
    match models.find(|model| same_name(asked, &model.name)) {
        Some(model) if model.completes() => Ok(model.name.clone()),
        Some(model) => Err(Problem::no_chat_model(&model.name)),
        None if catalog.models.is_empty() => Err(none(&catalog)),
        None => {
            let names = catalog.models.into_iter().map(|model| model.name).collect();
            Err(Problem::unknown_model(asked, names))
        }
    }
}

/// Why no model can answer: as long as a node is down it may be the one that has some; else there is none.
fn none(catalog: &Catalog) -> Problem {
    if catalog.nodes.is_empty() || catalog.nodes.iter().any(|node| !node.ready) {
        Problem::no_node()
    } else {
        Problem::no_model()
    }
}
