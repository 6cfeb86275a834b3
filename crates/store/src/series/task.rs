//! Writing points, in batches, beside whatever else goes on.

use super::{AnswerPoint, NodePoint, Point, SeriesOptions, SeriesStore, Shared, timescale};
use crate::{
    Db, StoreError,
    sql::{Tx, args, sql},
};
use jarvis_domain::sentence;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// Points written in one transaction at most.
const BATCH: usize = 256;
/// Between two tries of a store that does not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// Between two looks for points that are too old.
const SWEEP: Duration = Duration::from_hours(1);

/// Writes points until it is told to stop. Dropped with points still waiting, it loses them and nothing else.
#[derive(Debug)]
pub struct SeriesTask {
    options: SeriesOptions,
    arriving: mpsc::Receiver<Point>,
    shared: Arc<Shared>,
}

impl SeriesTask {
    pub(super) fn new(
        options: SeriesOptions,
        arriving: mpsc::Receiver<Point>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            options,
            arriving,
            shared,
        }
    }

    /// Opens the store and writes to it, for as long as it takes, until `stop` is done; then writes what has arrived, once.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let db = tokio::select! {
            biased;
            () = &mut stop => return self.shared.drop_points(self.arriving.len()),
            db = self.open() => db,
        };
        let mut batch = Vec::with_capacity(BATCH);
        let mut sweep_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = tokio::time::sleep_until(sweep_at) => {
                    self.sweep(&db).await;
                    sweep_at = Instant::now() + SWEEP;
                }
                count = self.arriving.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    tokio::select! {
                        biased;
                        () = &mut stop => break,
                        () = self.write_at_last(&db, &batch) => batch.clear(),
                    }
                }
            }
        }
        self.end(&db, batch).await;
    }

    /// The store, as soon as it can be opened.
    async fn open(&self) -> Db {
        loop {
            let opened = match &self.options.store {
                SeriesStore::Main(db) => Ok(db.clone()),
                SeriesStore::Own(options) => Db::open(options).await,
            };
            let ready = match opened {
                Ok(db) => timescale::prepare(&db, &self.options).await.map(|()| db),
                Err(error) => Err(error),
            };
            match ready {
                Ok(db) => {
                    self.shared.works();
                    return self.shared.db.get_or_init(|| db).clone();
                }
                Err(error) => self.shared.fails(error),
            }
            sleep(PAUSE).await;
        }
    }

    /// Writes a batch as soon as the store takes it. What it will never take is dropped.
    async fn write_at_last(&self, db: &Db, batch: &[Point]) {
        loop {
            match write(db, batch).await {
                Ok(()) => return self.shared.works(),
                Err(error) if error.is_outage() || matches!(error, StoreError::Full) => {
                    self.shared.fails(error);
                }
                Err(_) => return self.write_one_by_one(db, batch).await,
            }
            sleep(PAUSE).await;
        }
    }

    /// So that one bad point costs only itself.
    async fn write_one_by_one(&self, db: &Db, batch: &[Point]) {
        for point in batch {
            if let Err(error) = write(db, std::slice::from_ref(point)).await {
                tracing::warn!(
                    error = sentence(&error),
                    "a measured point could not be kept"
                );
                self.shared.drop_points(1);
            }
        }
    }

    /// One last try for what has arrived.
    async fn end(mut self, db: &Db, mut batch: Vec<Point>) {
        self.arriving.close();
        while let Ok(point) = self.arriving.try_recv() {
            batch.push(point);
        }
        for part in batch.chunks(BATCH) {
            if write(db, part).await.is_err() {
                self.shared.drop_points(part.len());
            }
        }
    }

    async fn sweep(&self, db: &Db) {
        if let Err(error) = sweep(db, &self.options).await {
            tracing::warn!(
                error = sentence(&error),
                "old measured points could not be removed"
            );
        }
    }
}

/// All of it or nothing. What is there already stays, so that a batch whose commit was unsure can be written again.
async fn write(db: &Db, batch: &[Point]) -> Result<(), StoreError> {
    let mut tx = db.begin_write().await?;
    for point in batch {
        match point {
            Point::Answer(answer) => insert_answer(&mut tx, answer).await?,
            Point::Node(node) => insert_node(&mut tx, node).await?,
        }
    }
    tx.commit().await
}

async fn insert_answer(tx: &mut Tx, point: &AnswerPoint) -> Result<(), StoreError> {
    let values = args![
        point.at,
        point.generation,
        point.user,
        &point.model,
        point.node.as_deref().unwrap_or_default(),
        point.status.as_str(),
        whole(point.prompt_tokens),
        whole(point.completion_tokens),
        micros(point.total),
        point.first_token.map(micros),
    ];
    let text = "INSERT INTO series_answers (at, generation_id, user_id, model, node, status, prompt_tokens, completion_tokens, total_time, first_token_time)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (at, generation_id) DO NOTHING";
    tx.execute("series", text, values).await.map(drop)
}

async fn insert_node(tx: &mut Tx, point: &NodePoint) -> Result<(), StoreError> {
    let values = args![
        point.at,
        &point.node,
        &point.observer,
        i64::from(point.up),
        point.active,
        rounded(point.waiting),
        micros(point.response),
        millionths(point.error_share),
        millionths(point.health),
    ];
    let text = "INSERT INTO series_nodes (at, node, observer, up, active, waiting, response_time, error_share, health)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (at, node, observer) DO NOTHING";
    tx.execute("series", text, values).await.map(drop)
}

/// Removes what is older than it is to be kept, by the database's clock.
async fn sweep(db: &Db, options: &SeriesOptions) -> Result<(), StoreError> {
    if timescale::rules(db).await? {
        // It drops whole chunks by its own policy.
        return Ok(());
    }
    let answers = sql!["DELETE FROM series_answers WHERE at < ", now, " - $1"];
    let nodes = sql!["DELETE FROM series_nodes WHERE at < ", now, " - $1"];
    let mut conn = db.writer().await?;
    for (text, keep) in [(answers, options.keep_answers), (nodes, options.keep_nodes)] {
        conn.execute("series_sweep", text, args![micros(keep)])
            .await?;
    }
    Ok(())
}

pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn millionths(share: f64) -> i64 {
    rounded(share * 1e6)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "figures for people; what is out of range is cut off by the cast"
)]
fn rounded(figure: f64) -> i64 {
    figure.round() as i64
}
