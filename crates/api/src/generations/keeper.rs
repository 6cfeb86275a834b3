//! The checkpoints of all answers that are made here, committed together.

use crate::app::App;
use jarvis_domain::sentence;
use jarvis_store::{Checkpoint, Db};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

/// Between two commits for checkpoints that somebody waits for.
const GATHER: Duration = Duration::from_millis(10);

/// What became of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// SQL has it.
    Taken,
    /// SQL refuses it: the answer has a later owner, or has ended, or is gone.
    Refused,
}

/// Gathers checkpoints: while one transaction runs, or waits for its turn, others come together for the next.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    desk: Mutex<Desk>,
    hurry: Notify,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: Vec<Waiting>,
    /// Somebody commits.
    busy: bool,
    /// When the last transaction began.
    last: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    checkpoint: Checkpoint,
    /// Somebody waits for text.
    urgent: bool,
    fate: oneshot::Sender<Fate>,
}

impl Keeper {
    /// Commits a checkpoint together with others, one transaction in [`Rules::checkpoint`](jarvis_domain::durable::Rules);
    /// sooner if it is `urgent`. An error of the receiver: SQL did not say.
    pub(super) fn keep(app: &App, checkpoint: Checkpoint, urgent: bool) -> oneshot::Receiver<Fate> {
        let (fate, answer) = oneshot::channel();
        let keeper = &app.generations.keeper;
        let was_busy = {
            let mut desk = keeper.desk();
            desk.waiting.push(Waiting {
                checkpoint,
                urgent,
                fate,
            });
            std::mem::replace(&mut desk.busy, true)
        };
        if !was_busy {
            let app = app.clone();
            let tasks = app.tasks.clone();
            tasks.spawn(async move { app.generations.keeper.commit_all(&app).await });
        } else if urgent {
            keeper.hurry.notify_one();
        }
        answer
    }

    async fn commit_all(&self, app: &App) {
        loop {
            self.wait(app.rules.checkpoint).await;
            let batch = {
                let mut desk = self.desk();
                desk.busy = !desk.waiting.is_empty();
                if !desk.busy {
                    return;
                }
                desk.last = Some(Instant::now());
                std::mem::take(&mut desk.waiting)
            };
            commit(&app.db, batch).await;
        }
    }

    /// Waits for the next transaction's turn; not at all where there is nothing to commit.
    async fn wait(&self, pace: Duration) {
        loop {
            let (last, waiting, urgent) = {
                let desk = self.desk();
                let urgent = desk.waiting.iter().any(|waiting| waiting.urgent);
                (desk.last, !desk.waiting.is_empty(), urgent)
            };
            let Some(last) = last.filter(|_| waiting) else {
                return;
            };
            if urgent {
                return sleep_until(last + GATHER).await;
            }
            tokio::select! {
                () = sleep_until(last + pace) => return,
                () = self.hurry.notified() => {}
            }
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn commit(db: &Db, batch: Vec<Waiting>) {
    let (checkpoints, fates): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| (waiting.checkpoint, waiting.fate))
        .unzip();
    match db.keep(&checkpoints).await {
        Ok(taken) => {
            for (checkpoint, fate) in checkpoints.iter().zip(fates) {
                let taken = taken.contains(&checkpoint.id());
                // Nobody hears it whose answer was stopped meanwhile.
                let _ = fate.send(if taken { Fate::Taken } else { Fate::Refused });
            }
        }
        Err(error) => tracing::warn!(error = sentence(&error), "a checkpoint was not confirmed"),
    }
}
