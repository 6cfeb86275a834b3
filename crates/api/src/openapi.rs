//! The contract as a document, made from the code that keeps it.

use crate::{auth, conversations, generations, invitations, me, messages, models, status};
use std::sync::LazyLock;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Jarvis",
        description = "Conversations with models that run on their owner's machines. Live answers also come over the WebSocket `/ws`.",
        license(name = "Apache-2.0")
    ),
    paths(
        status::instance,
        status::status,
        auth::register,
        auth::login,
        auth::refresh,
        auth::logout,
        me::me,
        invitations::list,
        invitations::create,
        invitations::withdraw,
        models::list,
        conversations::list,
        conversations::create,
        conversations::get,
        conversations::update,
        conversations::delete,
        messages::list,
        messages::send,
        messages::regenerate,
        generations::get,
        generations::events,
        generations::cancel,
    ),
    components(schemas(generations::StatusName)),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
});

/// The OpenAPI document, pretty-printed, with a final newline.
pub fn document() -> String {
    TEXT.clone()
}

pub(crate) fn text() -> &'static str {
    &TEXT
}
