//! The hand that writes an answer: its text on the way into the log, into SQL and before eyes, in the order that
//! [`Owner`] says.

use super::{
    Seen,
    keeper::{Fate, Keeper},
};
use crate::app::App;
use jarvis_domain::{
    Epoch, Generation, GenerationId, Outcome,
    durable::{Bases, Keep, Kept, Owner, Path, Taken},
};
use jarvis_store::{AnswerWriter, Checkpoint, Hold, LogError, QueuePlace};
use std::{future::pending, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

/// After SQL did not say what became of a checkpoint.
const KEEP_AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at whether the lease has been renewed, while nothing may be shown for want of it.
const BLIND_AGAIN: Duration = Duration::from_millis(100);

/// Why an answer cannot be written on.
#[derive(Debug)]
pub(super) enum Halt {
    /// A later owner has it, or it is gone.
    Lost,
    /// The log took no text.
    Broken(LogError),
}

impl From<LogError> for Halt {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Fenced => Self::Lost,
            other => Self::Broken(other),
        }
    }
}

/// The one writer of an answer, and what it knows of the stores.
pub(super) struct Hand {
    app: App,
    id: GenerationId,
    epoch: Epoch,
    bases: Bases,
    writer: AnswerWriter,
    /// None where the log is a file: it is never away, and whoever holds its directory is alone.
    owner: Option<Owner>,
    keeping: Option<(Keep, oneshot::Receiver<Fate>)>,
    /// When the database was asked to make it this instance's.
    born: Instant,
    seen: Seen,
}

impl Hand {
    /// Takes an answer up: with its log, or without it for now.
    pub(super) fn new(
        app: &App,
        generation: &Generation,
        hold: Option<Hold>,
        taken: Taken,
        path: Path,
        seen: &Seen,
    ) -> Result<Self, LogError> {
        let (id, epoch) = (generation.id, generation.epoch);
        let owner = app
            .is_shared()
            .then(|| Owner::new(taken.text.len(), taken.logged, path, Duration::ZERO));
        let bases = taken.bases.clone();
        let writer = match hold {
            Some(hold) => hold.writer(taken)?,
            None => app.answers.writer_away(id, epoch, taken)?,
        };
        Ok(Self {
            app: app.clone(),
            id,
            epoch,
            bases,
            writer,
            owner,
            keeping: None,
            born: seen.at(),
            seen: seen.clone(),
        })
    }

    /// Bytes there are, shown or not.
    pub(super) fn offset(&self) -> usize {
        self.writer.offset() + self.writer.unshown().len()
    }

    /// The text there is, shown or not.
    pub(super) fn text(&self) -> String {
        self.writer.text() + self.writer.unshown()
    }

    pub(super) fn tokens(&self) -> u64 {
        self.writer.tokens()
    }

    pub(super) async fn queued(&self, place: QueuePlace) {
        self.writer.queued(place).await;
    }

    /// What SQL is to hold of it at its end.
    pub(super) fn kept(&self) -> Kept {
        Kept {
            bases: self.bases.clone(),
            text: self.text(),
            tokens: self.writer.tokens(),
            path: Path::Sql,
        }
    }

    /// Shows text, as soon as that is safe.
    pub(super) async fn say(&mut self, text: &str, tokens: u64) -> Result<(), Halt> {
        if self.owner.is_none() {
            return Ok(self.writer.append(text, tokens).await?);
        }
        self.settle().await?;
        self.wait_for_sight().await;
        self.log(text, tokens).await?;
        self.settle().await
    }

    /// Gives text to the log, with what it has missed. Where it does not take it, it stays unshown.
    async fn log(&mut self, text: &str, tokens: u64) -> Result<(), Halt> {
        let done = self.writer.append(text, tokens).await;
        let (made, now) = (self.offset(), self.born.elapsed());
        let again = now + self.app.rules.log_again;
        let Some(owner) = &mut self.owner else {
            return Ok(done?);
        };
        owner.made(made);
        match done {
            Ok(()) => owner.logged(made),
            Err(LogError::Away(cause)) => {
                if owner.has_log() {
                    tracing::warn!(id = %self.id, "an answer goes on by the database: {cause}");
                }
                owner.log_failed(again);
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    /// Waits while SQL has been silent for so long that another owner may have begun without the log.
    async fn wait_for_sight(&mut self) {
        while let Some(owner) = &mut self.owner {
            owner.seen(self.seen.at().saturating_duration_since(self.born));
            if !owner.is_blind(self.born.elapsed(), &self.app.rules) {
                return;
            }
            sleep(BLIND_AGAIN).await;
        }
    }

    /// Waits until all there is may be shown, and this owner has proved that it is the owner.
    pub(super) async fn settle(&mut self) -> Result<(), Halt> {
        loop {
            match &self.owner {
                None => return Ok(()),
                Some(owner) if owner.is_safe() && owner.is_settled() => return Ok(()),
                Some(_) => self.step().await?,
            }
        }
    }

    /// Does what is due, now and when it falls due, for ever. Cancel safe.
    pub(super) async fn tend(&mut self) -> Halt {
        loop {
            if let Err(halt) = self.step().await {
                return halt;
            }
        }
    }

    /// Does the next thing that is due; waits for it if need be. Cancel safe.
    async fn step(&mut self) -> Result<(), Halt> {
        let Some(owner) = &mut self.owner else {
            self.writer.tend().await;
            return pending().await;
        };
        let now = self.born.elapsed();
        if owner.to_take_up(now) && self.keeping.is_none() && owner.is_settled() {
            return self.take_up().await;
        }
        if self.keeping.is_none() {
            let Some(keep) = owner.to_keep(now, &self.app.rules) else {
                match owner.next_at(&self.app.rules) {
                    Some(at) => sleep_until(self.born + at).await,
                    None => pending().await,
                }
                return Ok(());
            };
            self.keeping = Some((keep, self.begin_keep(keep)));
        }
        let Some((keep, keeping)) = &mut self.keeping else {
            return Ok(());
        };
        let (keep, fate) = (*keep, keeping.await);
        self.keeping = None;
        match fate {
            Ok(Fate::Taken) => self.was_kept(keep).await,
            Ok(Fate::Refused) => Err(Halt::Lost),
            Err(_) => {
                sleep(KEEP_AGAIN).await;
                Ok(())
            }
        }
    }

    fn begin_keep(&self, keep: Keep) -> oneshot::Receiver<Fate> {
        let kept = Kept {
            path: keep.path,
            ..self.kept()
        };
        let checkpoint = Checkpoint::new(self.id, self.epoch, keep, kept);
        let urgent = self
            .owner
            .as_ref()
            .is_some_and(|owner| !owner.is_safe() || !owner.is_settled());
        Keeper::keep(&self.app, checkpoint, urgent)
    }

    async fn was_kept(&mut self, keep: Keep) -> Result<(), Halt> {
        let now = self.born.elapsed();
        let Some(owner) = &mut self.owner else {
            return Ok(());
        };
        let logged_before = owner.has_log();
        owner.kept(keep, now);
        let logs_now = owner.has_log();
        self.writer.show_committed(keep.to);
        if !logged_before && logs_now {
            self.writer.proven();
            let tokens = self.writer.tokens();
            // What the log has missed.
            return self.log("", tokens).await;
        }
        Ok(())
    }

    async fn take_up(&mut self) -> Result<(), Halt> {
        let taken = self.writer.take_up().await;
        let again = self.born.elapsed() + self.app.rules.log_again;
        let Some(owner) = &mut self.owner else {
            return Ok(());
        };
        match taken {
            Ok(reaches) => owner.taken_up(reaches),
            Err(LogError::Away(_)) => owner.log_failed(again),
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    /// Writes down how it ended, where the log can; SQL is about to know.
    pub(super) async fn decide(&mut self, outcome: &Outcome) -> Result<(), LogError> {
        match self.writer.decide(outcome).await {
            // All text is in SQL.
            Err(LogError::Away(_)) => Ok(()),
            done => done,
        }
    }

    /// Leaves everything to the next owner, who then needs no log to begin.
    pub(super) async fn leave(&mut self) {
        if let Some(owner) = &mut self.owner {
            let keep = owner.last_keep();
            self.keeping = None;
            if self.begin_keep(keep).await != Ok(Fate::Taken) {
                tracing::warn!(id = %self.id, "an answer was left without a last checkpoint");
            }
        }
    }

    /// Tells readers that it has ended; the text stays here for those who come later, until this hand goes.
    pub(super) async fn show_end(&mut self, outcome: Outcome) {
        self.writer.show_end(outcome).await;
    }

    /// Tells readers that it has ended, and lets the log go: SQL has it all.
    pub(super) async fn finish(self, outcome: Outcome) -> Result<(), LogError> {
        self.writer.finish(outcome).await
    }

    /// Tells readers here that it goes on elsewhere, and keeps the log.
    pub(super) fn hand_over(self, outcome: Outcome) {
        self.writer.hand_over(outcome);
    }

    /// Keeps the log, of what has ended.
    pub(super) fn go(self) {
        drop(self.writer);
    }
}
