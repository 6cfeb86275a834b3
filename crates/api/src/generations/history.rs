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
    let mut told: Vec<_> = instructions.into_iter().collect();
    let before = branch
        .into_iter()
        .filter(|message| message.id != generation.message_id);
    for message in before {
        told.extend(said(app, message).await);
    }
    Ok(told)
}

/// A message as the model reads it. Of an answer that is still being made: what has been shown of it. One that stayed empty
/// was never said.
async fn said(app: &App, message: Message) -> Option<ollama::Message> {
    let role = match message.role {
        Role::User => ollama::Role::User,
        Role::System => ollama::Role::System,
        Role::Assistant => ollama::Role::Assistant,
    };
    let mut content = message.content;
    // SQL has a checkpoint of it at most.
    if role == ollama::Role::Assistant
        && let Some(making) = app.generations.making(message.id)
        && let Ok(Some(now)) = app.answers.snapshot(making).await
    {
        content = now.text;
    }
    (!content.is_empty()).then(|| ollama::Message::new(role, content))
}
