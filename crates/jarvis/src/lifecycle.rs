//! The one owner of start and stop.
//!
//! A stop has two steps. *Soft*: readiness fails, new work is refused, running work ends or is
//! handed over. *Hard*: whatever still runs is dropped. A second signal, or the end of the time
//! allowed, turns soft into hard.

use anyhow::{Context as _, Result, anyhow};
use futures_util::FutureExt as _;
use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// Tokens and tasks shared by everything that runs. Clones are handles of the same lifecycle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifecycle {
    soft: CancellationToken,
    drained: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Lifecycle {
    /// Cancelled when the process should stop taking new work.
    pub(crate) fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when running work has ended or been handed over, before the last tasks end.
    pub(crate) fn drained(&self) -> &CancellationToken {
        &self.drained
    }

    /// Cancelled when the process should drop what still runs.
    pub(crate) fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// For parts that spawn tasks of their own.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs a task that the process cannot do without: if it fails or panics, the process stops
    /// and reports it.
    pub(crate) fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let this = self.clone();
        let guarded = async move {
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            let error = match outcome {
                Ok(Ok(())) => return tracing::debug!("ended"),
                Ok(Err(error)) => error.context(format!("task {name} failed")),
                Err(_) => anyhow!("task {name} panicked; this is a defect of Jarvis"),
            };
            tracing::error!("{error:#}");
            let mut failure = this.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(error);
            this.soft.cancel();
        };
        self.tasks
            .spawn(guarded.instrument(tracing::info_span!("task", name)));
    }

    /// Returns when a stop begins: by signal, or because a task failed.
    pub(crate) async fn until_stop(&self, signals: &mut Signals) {
        tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "stopping; a second signal stops at once");
                self.soft.cancel();
            }
            () = self.soft.cancelled() => {}
        }
    }

    /// Runs `drain`, then waits for all tasks; cut short by a second signal or after `limit`.
    ///
    /// # Errors
    /// The failure that began the stop, if one did, or that it was cut short.
    pub(crate) async fn finish<F>(
        self,
        signals: &mut Signals,
        limit: Duration,
        drain: F,
    ) -> Result<()>
    where
        F: Future<Output = ()>,
    {
        self.tasks.close();
        let orderly = async {
            drain.await;
            self.drained.cancel();
            self.tasks.wait().await;
        };
        let cut = tokio::select! {
            () = orderly => Ok(()),
            name = signals.next() => Err(anyhow!("stopped at once by a second signal ({name}); what still ran was dropped")),
            () = tokio::time::sleep(limit) => Err(anyhow!("not everything ended within {} s (server.shutdown_seconds); what still ran was dropped", limit.as_secs())),
        };
        if let Err(reason) = &cut {
            tracing::warn!("{reason}");
            self.drained.cancel();
            self.hard.cancel();
            // What obeys the hard token ends here; the runtime drops the rest.
            let _ = tokio::time::timeout(Duration::from_millis(500), self.tasks.wait()).await;
        }
        let failure = self
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        failure.map_or(cut, Err)
    }
}

/// SIGTERM and SIGINT, caught from the moment this is made.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to catch them.
    pub(crate) fn catch() -> Result<Self> {
        let of = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self {
            terminate: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_task_begins_the_stop_and_is_reported() {
        let lifecycle = Lifecycle::default();
        let mut signals = Signals::catch().unwrap();
        lifecycle.spawn("doomed", async { Err(anyhow!("out of luck")) });
        lifecycle.until_stop(&mut signals).await;
        let outcome = lifecycle
            .finish(&mut signals, Duration::from_mins(1), async {})
            .await;
        let text = format!("{:#}", outcome.unwrap_err());
        assert_eq!(text, "task doomed failed: out of luck");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_too() {
        let lifecycle = Lifecycle::default();
        let mut signals = Signals::catch().unwrap();
        lifecycle.spawn("clumsy", async { panic!("on purpose, by a test") });
        lifecycle.until_stop(&mut signals).await;
        let outcome = lifecycle
            .finish(&mut signals, Duration::from_mins(1), async {})
            .await;
        assert!(outcome.unwrap_err().to_string().contains("clumsy panicked"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_drain_in_time_is_told_to_drop() {
        let lifecycle = Lifecycle::default();
        let mut signals = Signals::catch().unwrap();
        let hard = lifecycle.hard().clone();
        lifecycle.spawn("stubborn", async move {
            hard.cancelled().await;
            Ok(())
        });
        lifecycle.soft().cancel();
        let waiting = lifecycle.clone();
        let outcome = waiting
            .finish(&mut signals, Duration::from_secs(10), async {})
            .await;
        let said = outcome.unwrap_err().to_string();
        assert!(said.contains("within 10 s"), "{said}");
        assert!(lifecycle.hard().is_cancelled());
        assert!(lifecycle.tasks.is_empty());
    }
}
