//! The watch: every second an instance renews its lease and sees what has become of its answers and of others'.

use super::{Entry, resume};
use crate::app::{ApiError, App};
use jarvis_domain::{Epoch, GenerationId, sentence};
use jarvis_store::Look;
use std::collections::HashSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Renews the lease and takes up what nobody makes: before anything else is done, and of what earlier processes left.
pub(crate) async fn begin(app: &App) -> Result<(), ApiError> {
    let look = if app.must_be_alone() {
        alone(app).await?
    } else {
        app.db.look_around(app.instance, &app.rules).await?
    };
    if !look.unowned.is_empty() {
        tracing::info!(unfinished = look.unowned.len(), "taking up earlier answers");
    }
    for (id, epoch) in look.unowned {
        if app.is_shared() {
            take_over(app, id, epoch);
        } else if let Some(entry) = Entry::new(app, id) {
            // Nobody else can: whoever asks from now on finds it.
            resume::take_over(app, epoch, entry).await;
        }
    }
    Ok(())
}

/// Looks around until nobody else is there. A predecessor that was killed is there until its lease has run out; who renews
/// it is one too many.
async fn alone(app: &App) -> Result<Look, ApiError> {
    let begun = Instant::now();
    // This look says that one is there: of two that come at the same moment, one at least sees the other in its next.
    app.db.look_around(app.instance, &app.rules).await?;
    loop {
        let look = app.db.look_around(app.instance, &app.rules).await?;
        if look.others.is_empty() {
            return Ok(look);
        }
        if begun.elapsed() > app.rules.lease + app.rules.renew {
            app.db.give_up(app.instance, &[]).await?;
            return Err(ApiError::NotAlone);
        }
        sleep(app.rules.renew).await;
    }
}

/// Keeps watch until the backend stops.
pub(crate) async fn keep(app: App) {
    let mut tick = interval(app.rules.renew);
    // Someone who was asleep must not hurry to make good for it.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut strange = HashSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = app.stopping.cancelled() => return,
        }
        let known = app.generations.ids();
        let asked = Instant::now();
        match app.db.look_around(app.instance, &app.rules).await {
            Ok(look) => {
                app.note_others(!look.others.is_empty());
                strange = mind_own(&app, &look, asked, &known, &strange);
                for (id, epoch) in look.unowned {
                    take_over(&app, id, epoch);
                }
            }
            Err(error) => {
                tracing::warn!(error = sentence(&error), "the lease could not be renewed");
            }
        }
    }
}

/// Stops what is to be stopped, lets go of what is another one's, and takes back what is one's own without one's knowledge:
/// the answer to a begin or a claim was lost. Returns what was seen so for the first time: it may be on its way still.
fn mind_own(
    app: &App,
    look: &Look,
    asked: Instant,
    known: &[GenerationId],
    strange: &HashSet<GenerationId>,
) -> HashSet<GenerationId> {
    let mut unknown = HashSet::new();
    for owned in &look.mine {
        app.generations.seen(owned.id, asked);
        if owned.stop {
            app.generations.cancel(owned.id);
        }
        if app.generations.is_here(owned.id) {
            continue;
        }
        if strange.contains(&owned.id) {
            take_over(app, owned.id, owned.epoch);
        } else {
            unknown.insert(owned.id);
        }
    }
    for id in known {
        if !look.mine.iter().any(|owned| owned.id == *id) {
            app.generations.lose(*id);
        }
    }
    unknown
}

/// Takes an answer over beside whatever else goes on, unless that is under way.
fn take_over(app: &App, id: GenerationId, epoch: Epoch) {
    if let Some(entry) = Entry::new(app, id) {
        let app = app.clone();
        let tasks = app.tasks.clone();
        tasks.spawn(async move { resume::take_over(&app, epoch, entry).await });
    }
}
