//! What a model is told: the installation's instructions, then the branch that ends in the question.

use crate::app::App;
use jarvis_domain::{Generation, Message, Role};
use jarvis_protocol::ollama;
use jarvis_store::StoreError;

/// The conversation before the answer, oldest first.
pub(super) async fn read(
    app: &App,
    generation: &Generation,
) -> Result<Vec<ollama::Message>, StoreError> {
    let branch = app
        .db
        .branch(generation.conversation_id, generation.message_id)
        .await?;
    let system = app.options.system_prompt.as_deref();
    let instructions = system.map(|text| ollama::Message::new(ollama::Role::System, text));
    let told = branch
        .into_iter()
        .filter(|message| message.id != generation.message_id)
        .filter_map(|message| said(app, message));
    Ok(instructions.into_iter().chain(told).collect())
}

/// A message as the model reads it. Of an answer that is still being made: what has been shown of it. One that stayed empty
/// was never said.
fn said(app: &App, message: Message) -> Option<ollama::Message> {
    let role = match message.role {
        Role::User => ollama::Role::User,
        Role::System => ollama::Role::System,
        Role::Assistant => ollama::Role::Assistant,
    };
    let mut content = message.content;
    if content.is_empty() {
        let making = app.generations.making(message.id)?;
        content = app.answers.text(making)?;
    }
    (!content.is_empty()).then(|| ollama::Message::new(role, content))
}
