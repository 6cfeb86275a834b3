//! Going on with an answer whose owner is gone.

use super::{
    Entry,
    hand::Hand,
    task::{self, Course},
};
use crate::app::{ApiError, App};
use jarvis_domain::{
    Epoch, Generation, GenerationError, Outcome, Status,
    durable::{self, Bases, Kept, Path, Verdict},
    sentence,
};
use jarvis_store::{Claimed, Hold, LogError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two tries to reach a log that is away.
const LOG_PAUSE: Duration = Duration::from_millis(500);

/// Clears away the logs of answers that have ended.
pub(crate) async fn sweep(app: &App) -> Result<(), ApiError> {
    let unfinished = app.db.unfinished().await?;
    let ids: Vec<_> = unfinished.iter().map(|generation| generation.id).collect();
    app.answers.sweep(&ids)?;
    Ok(())
}

/// Begins an answer that nobody was shown anything of. Readers can follow it when this returns.
pub(super) async fn begin_new(app: &App, generation: Generation, entry: Entry) {
    let hold = match app.answers.take_up(generation.id, generation.epoch).await {
        Ok(hold) => Some(hold),
        Err(LogError::Away(_)) => None,
        Err(error) => return task::without_log(app, &generation, &error).await,
    };
    let kept = Kept {
        bases: Bases::default(),
        text: String::new(),
        tokens: 0,
        path: Path::Log,
    };
    let logged = hold.as_ref().map(|hold| hold.logged().clone());
    let taken = durable::take_over(generation.epoch, kept, logged);
    match Hand::new(app, &generation, hold, taken, Path::Log, &entry.seen) {
        Ok(hand) => {
            let runner = app.clone();
            app.tasks.spawn(async move {
                task::run(&runner, generation, hand, Course::Make, entry).await;
            });
        }
        Err(error) => task::without_log(app, &generation, &error).await,
    }
}

/// Takes an answer over, if nobody is faster, and goes on with it or ends it. Readers can follow it when this returns.
pub(super) async fn take_over(app: &App, epoch: Epoch, entry: Entry) {
    let id = entry.id;
    match app.db.claim(id, epoch, app.instance).await {
        Ok(Some(claimed)) => {
            entry.is_of(&claimed.generation);
            if let Some((hand, course)) = begin(app, &claimed, &entry).await {
                let runner = app.clone();
                app.tasks.spawn(async move {
                    task::run(&runner, claimed.generation, hand, course, entry).await;
                });
            }
        }
        Ok(None) => {}
        // If it is ours now, the next looks will tell.
        Err(error) => {
            tracing::warn!(%id, error = sentence(&error), "an answer could not be claimed");
        }
    }
}

/// Reads what there is of a claimed answer, and decides what is to become of it; none if it is another one's already.
async fn begin(app: &App, claimed: &Claimed, entry: &Entry) -> Option<(Hand, Course)> {
    let generation = &claimed.generation;
    let hold = match log(app, claimed).await {
        Ok(hold) => hold,
        Err(error) => {
            tracing::warn!(id = %generation.id, error = sentence(&error), "an answer was not taken over");
            return None;
        }
    };
    let logged = hold.as_ref().map(|hold| hold.logged().clone());
    if logged.is_none() {
        tracing::warn!(id = %generation.id, "an answer goes on without its log");
    }
    let path = claimed.kept.path;
    let taken = durable::take_over(generation.epoch, claimed.kept.clone(), logged);
    let course = course(app, claimed, taken.end.clone());
    match Hand::new(app, generation, hold, taken, path, &entry.seen) {
        Ok(hand) => Some((hand, course)),
        Err(error) => {
            tracing::error!(id = %generation.id, error = sentence(&error), "an answer's log cannot be used");
            None
        }
    }
}

fn course(app: &App, claimed: &Claimed, end: Option<Outcome>) -> Course {
    if let Some(outcome) = end {
        return Course::Settle(outcome);
    }
    if claimed.stop {
        return Course::Settle(Outcome {
            status: Status::Stopped,
            usage: None,
            error: None,
        });
    }
    match app.rules.verdict(claimed.generation.attempts) {
        Verdict::GoOn => Course::Make,
        Verdict::TooManyOwners => {
            tracing::warn!(id = %claimed.generation.id, "an answer has lost too many owners and ends here");
            Course::Break(GenerationError {
                code: "too_many_owners".to_owned(),
                message: "the server stopped several times while it made this answer".to_owned(),
            })
        }
    }
}

/// The log, taken up; none where one may begin without it.
async fn log(app: &App, claimed: &Claimed) -> Result<Option<Hold>, LogError> {
    let generation = &claimed.generation;
    let since = Instant::now();
    loop {
        match app.answers.take_up(generation.id, generation.epoch).await {
            Ok(hold) => return Ok(Some(hold)),
            Err(LogError::Away(_))
                if app
                    .rules
                    .may_begin_without_log(claimed.kept.path, since.elapsed()) =>
            {
                return Ok(None);
            }
            Err(error @ LogError::Away(_)) => tokio::select! {
                () = sleep(LOG_PAUSE) => {}
                () = app.stopping.cancelled() => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
}
