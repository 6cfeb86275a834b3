//! What all requests of one balancer share.

use crate::{
    Options,
    ask::Ask,
    digests::Digests,
    node::{Budget, BudgetSettings, Node},
    policy::{Outcome, Policy, Starting},
    pool::Pool,
    queue::{Queue, Tag},
    replay::{
        self,
        recorder::{Arrival, Recorder},
    },
    resume::{Discovery, Next, Way, Ways},
    seldom::Seldom,
    transport::read,
    upstream::Outgoing,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) pool: Pool,
    pub(crate) queue: Queue,
    pub(crate) policy: Policy,
    pub(crate) digests: Digests,
    budget: Mutex<Budget>,
    /// By digest and the node's version.
    ways: Mutex<HashMap<(String, String), Ways>>,
    /// When somebody last had all nodes looked at because a model was not known.
    looked: Seldom,
    tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    trace: Option<Recorder<BufWriter<File>>>,
    began: Instant,
}

/// How many wait for each model, divided by how many nodes have it.
#[derive(Debug, Default)]
pub(crate) struct Shares(Vec<(Tag, f64)>);

impl Shares {
    /// How many wait for this node: of each model it has, its share.
    pub(crate) fn of(&self, node: &Node) -> f64 {
        let shares = self.0.iter().filter(|(model, _)| node.has(model));
        // The sum of none is -0.
        shares.map(|(_, share)| share).sum::<f64>() + 0.0
    }
}

impl Shared {
    /// # Errors
    /// The trace cannot be written.
    pub(crate) fn new(
        options: Options,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let starting = options
            .trace
            .as_deref()
            .map_or_else(|| Ok(Starting::default()), replay::starting_of_file)?;
        let trace = options.trace.as_deref().map(recorder).transpose()?;
        Ok(Self {
            trace,
            pool: Pool::default(),
            queue: Queue::new(options.max_queue),
            policy: Policy::new(options.strategy, options.seed).believing(starting),
            digests: Digests::default(),
            budget: Mutex::new(Budget::new(BudgetSettings::default(), Duration::ZERO)),
            ways: Mutex::default(),
            looked: Seldom::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            began: Instant::now(),
            options,
        })
    }

    /// Writes a request that has ended to the trace, if there is one. It `waited`, was given to a node at `began`, and had
    /// its first byte so long after that.
    pub(crate) fn record(
        &self,
        ask: &Ask,
        began: Instant,
        waited: Duration,
        first_byte: Option<Duration>,
        outcome: &Outcome,
    ) {
        let Some(trace) = &self.trace else { return };
        let arrival = Arrival {
            at: self.at(began).saturating_sub(waited),
            user: &ask.caller.user.to_string(),
            priority: ask.caller.priority,
            waited,
            ttft: first_byte.map(|first| waited + first),
            total: waited + began.elapsed(),
        };
        if let Err(error) = trace.record(&arrival, &ask.job(), outcome) {
            tracing::warn!("the trace cannot be written: {error}");
        }
    }

    /// Hands on what the trace has gathered.
    pub(crate) fn flush_trace(&self) {
        if let Some(trace) = &self.trace
            && let Err(error) = trace.flush()
        {
            tracing::warn!("the trace cannot be written: {error}");
        }
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.at(Instant::now())
    }

    /// The same, for who has looked at the clock already.
    pub(crate) fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an unknown model is reason enough to look at all nodes again: once a second.
    pub(crate) fn may_look(&self) -> bool {
        self.looked.is_due()
    }

    /// Whether there is a node that nobody has looked at yet.
    pub(crate) fn has_unseen(&self) -> bool {
        self.pool.nodes().iter().any(|node| node.is_unseen())
    }

    /// Waits until somebody has looked at one more of them. `false`: nobody had at `deadline`.
    pub(crate) async fn another_seen(&self, deadline: Instant) -> bool {
        let nodes = self.pool.nodes();
        let unseen = nodes.iter().filter(|node| node.is_unseen());
        let mut looks: FuturesUnordered<_> = unseen.map(|node| node.first_look()).collect();
        timeout_at(deadline, looks.next()).await.is_ok()
    }

    /// Runs a task until it ends or the balancer stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// How what waits is divided among `nodes`, as of now.
    pub(crate) fn shares(&self, nodes: &[Arc<Node>]) -> Shares {
        if self.queue.is_empty() {
            return Shares::default();
        }
        let share = |(model, count): (Tag, usize)| {
            let having = nodes.iter().filter(|node| node.has(&model)).count();
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let share = count as f64 / having.max(1) as f64;
            (model, share)
        };
        Shares(self.queue.by_tag().into_iter().map(share).collect())
    }

    /// Shows how many wait for each node.
    pub(crate) fn show_queue(&self) {
        let nodes = self.pool.nodes();
        let shares = self.shares(&nodes);
        for node in nodes.iter() {
            node.meter.queue(shares.of(node));
        }
    }

    /// `ask` was answered with these weights.
    pub(crate) fn served(&self, ask: &Ask, digest: &str) {
        self.digests.served(ask, digest, &self.pool.nodes());
    }

    /// The ways in which an answer of this model can go on at this node; `None`: nobody has found out yet.
    pub(crate) fn ways(&self, node: &Node, model: &str) -> Option<Ways> {
        let offer = node.offer()?;
        let listed = &offer.models.get(model)?.info;
        if let (_, Next::Known(ways)) = Discovery::start(listed) {
            return Some(ways);
        }
        let key = (listed.digest.clone(), offer.version.clone());
        self.known_ways().get(&key).copied()
    }

    /// Whether an answer of this model may go on at this node in some way, as far as is known.
    pub(crate) fn goes_on(&self, node: &Node, model: &str) -> bool {
        self.ways(node, model)
            .is_none_or(|ways| ways.best() != Way::None)
    }

    /// Finds out the ways of the models that the node has in memory, once for each digest and version.
    pub(crate) async fn discover(&self, node: &Node) {
        let Some(offer) = node.offer() else { return };
        for model in offer.loaded.keys() {
            self.find_out(node, model).await;
        }
    }

    /// The ways of a model, found out if nobody has: that brings it into the node's memory. `None`: the node did not say.
    pub(crate) async fn find_out(&self, node: &Node, model: &str) -> Option<Ways> {
        if let Some(known) = self.ways(node, model) {
            return Some(known);
        }
        let offer = node.offer()?;
        let listed = &offer.models.get(model)?.info;
        let (mut discovery, mut next) = Discovery::start(listed);
        let ways = loop {
            match next {
                Next::Known(ways) => break ways,
                Next::Probe { path, body } => {
                    let (status, answer) = probe(node, path, body).await?;
                    next = discovery.answer(status, &answer);
                }
            }
        };
        tracing::info!(node = node.name, model, way = %ways.best(), "how this model's answers can go on");
        let key = (listed.digest.clone(), offer.version.clone());
        self.known_ways().insert(key, ways);
        Some(ways)
    }

    fn known_ways(&self) -> MutexGuard<'_, HashMap<(String, String), Ways>> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Status and body of an answer that says something about the model. `None`: the node cannot say at the moment.
async fn probe(node: &Node, path: &str, body: Bytes) -> Option<(u16, Bytes)> {
    let response = node.send(Outgoing::json(path, body)).await.ok()?;
    let status = response.status();
    let answer = read(response.into_body(), 1 << 20).await.ok()?;
    (!status.is_server_error()).then(|| (status.as_u16(), answer))
}

/// Adds to the file what is recorded from now on.
fn recorder(path: &Path) -> io::Result<Recorder<BufWriter<File>>> {
    let mut file = File::options().create(true).append(true).open(path)?;
    if file.metadata()?.len() > 0 {
        // The last record may have been cut off. Blank lines are skipped.
        file.write_all(b"\n")?;
    }
    Recorder::new(BufWriter::new(file))
}
