//! Taking up what an earlier process left unfinished.

use super::task;
use crate::app::{ApiError, App};
use jarvis_domain::{Generation, GenerationError};

/// How many owners may lose an answer before it counts as one that nobody can make: a prompt that kills its server must
/// not kill every later one.
const OWNERS: u32 = 3;

/// Goes on with every unfinished answer, or ends it as decided, and clears away the logs of those that have ended.
pub(crate) async fn take_up(app: &App) -> Result<(), ApiError> {
    let unfinished = app.db.unfinished().await?;
    let ids: Vec<_> = unfinished.iter().map(|generation| generation.id).collect();
    let removed = app.answers.sweep(&ids)?;
    if !ids.is_empty() || removed > 0 {
        tracing::info!(unfinished = ids.len(), removed, "taking up earlier answers");
    }
    for generation in unfinished {
        if let Some(claimed) = app.db.claim(generation.id, generation.epoch).await? {
            go_on(app, claimed);
        }
    }
    Ok(())
}

fn go_on(app: &App, generation: Generation) {
    let decided = task::decided(app, &generation).is_some();
    if !decided && generation.attempts <= OWNERS {
        return task::run(app, generation);
    }
    if !decided {
        tracing::warn!(id = %generation.id, "an answer has lost {OWNERS} owners and ends here");
    }
    let error = GenerationError {
        code: "too_many_owners".to_owned(),
        message: "the server stopped several times while it made this answer".to_owned(),
    };
    task::end(app, generation, error);
}
