//! What is measured over time, on its way into its store.

use super::Context;
use jarvis_balancer::{Balancer, NodeLook};
use jarvis_domain::{Clock, Timestamp};
use jarvis_store::series::{NodePoint, Series, SeriesOptions, SeriesStore};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Between two looks at the nodes.
const LOOK: Duration = Duration::from_secs(15);

/// How long a stop waits for the last points.
const PATIENCE: Duration = Duration::from_secs(2);

/// A series that is being written until this goes.
pub(super) struct Measuring {
    pub(super) points: Series,
    running: DropGuard,
    ended: CancellationToken,
}

impl Measuring {
    /// Begins to write, and to look at the nodes. A store that is away stops nothing.
    pub(super) fn start(context: &Context, store: SeriesStore, balancer: &Balancer) -> Self {
        let section = &context.loaded.config.series;
        let days = |days| Duration::from_hours(24 * days);
        let (points, task) = Series::new(SeriesOptions {
            keep_answers: days(section.keep_answers_days),
            keep_nodes: days(section.keep_nodes_days),
            ..SeriesOptions::new(store)
        });
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (stopped, end) = (stop.clone(), ended.clone().drop_guard());
        context.lifecycle.spawn("series", async move {
            let _end = end;
            task.run(stopped.cancelled()).await;
            Ok(())
        });
        let observer = observer(context.public.port());
        let looking = look(points.clone(), balancer.clone(), observer);
        let stopped = stop.clone();
        context.lifecycle.tasks().spawn(async move {
            stopped.run_until_cancelled(looking).await;
        });
        Self {
            points,
            running: stop.drop_guard(),
            ended,
        }
    }

    /// Writes what has arrived, while its store is open still.
    pub(super) async fn stop(self) {
        drop(self.running);
        if timeout(PATIENCE, self.ended.cancelled()).await.is_err() {
            tracing::warn!("the last figures could not be kept in time");
        }
    }
}

/// This process among those that look at the same nodes.
fn observer(port: u16) -> String {
    let host = rustix::system::uname();
    format!("{}:{port}", host.nodename().to_string_lossy())
}

async fn look(series: Series, balancer: Balancer, observer: String) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let now = Clock::System.now();
        for node in balancer.looks() {
            series.record(point(node, &observer, now));
        }
    }
}

fn point(node: NodeLook, observer: &str, at: Timestamp) -> NodePoint {
    NodePoint {
        at,
        node: node.name,
        observer: observer.to_owned(),
        up: node.up,
        active: node.active,
        waiting: node.queued,
        response: node.response_time.unwrap_or_default(),
        error_share: node.error_rate,
        health: node.health_score,
    }
}
