//! From a request to a slot on a node: which nodes could serve it, which the policy prefers, and waiting until there is
//! one.

use crate::{
    ask::Ask,
    metrics,
    node::{Node, Pass, Verdict},
    policy::{Choice, Guess, Outcome, View},
    queue::{self, Claim, Entry, Estimate, Place, Turn, Waiter},
    shared::Shared,
    transport::{Line, TransportError},
    upstream::{Outgoing, noticed},
};
use http::response::Parts;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// Why a request got no node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoNode {
    /// No node that answers has the model.
    UnknownModel,
    /// Those that have it are down, taken out of service, or were tried.
    Unavailable,
    /// Some have it, none of them may go on with the text there is.
    NotResumable,
    /// No more may wait.
    QueueFull,
    /// It waited as long as it may.
    Late,
}

impl NoNode {
    /// Whether a node more could make a difference.
    fn is_for_want_of_nodes(&self) -> bool {
        match self {
            Self::UnknownModel | Self::Unavailable | Self::NotResumable => true,
            Self::QueueFull | Self::Late => false,
        }
    }
}

/// What a node must be, beside having the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Nodes that were tried.
    pub(crate) tried: Vec<u64>,
    /// The digest that an answer was begun with.
    pub(crate) digest: Option<String>,
    /// It must be able to go on with a text.
    pub(crate) resumes: bool,
}

/// Where waiting stands, for who asked.
pub(crate) type Places = watch::Sender<Option<Place>>;

/// Who serves a request, and how that came about.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) node: Arc<Node>,
    /// Why this node, for `X-Jarvis-Reason`.
    pub(crate) reason: &'static str,
    /// How long it waited for the slot.
    pub(crate) waited: Duration,
}

/// A slot on a node, with what was expected of it and the connection that the answer comes on. A lease ends once: by
/// [`Lease::finish`], [`Lease::fail`], [`Lease::turned_away`], [`Lease::refuse`], or by being dropped, which means that the
/// client has left.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) node: Arc<Node>,
    reason: &'static str,
    waited: Duration,
    pub(crate) began: Instant,
    /// Of the model that it was asked for: a node that is lost offers nothing any more.
    pub(crate) digest: String,
    shared: Arc<Shared>,
    open: Option<(Claim, Guess)>,
    pass: Option<Pass>,
    first_byte: Option<Duration>,
    /// The model was in the node's memory.
    warm: bool,
    pub(crate) line: Line,
}

/// Finds a node for `ask` and takes a slot on it, waiting in the queue if need be. Where no node can serve it and some were
/// never looked at, it waits for the first looks at those, as long as one may take. Cancel safe.
pub(crate) async fn acquire(
    shared: &Arc<Shared>,
    ask: &Ask,
    wanted: &Wanted,
    places: Option<&Places>,
) -> Result<Box<Lease>, NoNode> {
    let asked = Instant::now();
    let (mut now, mut deadline) = (asked, None);
    loop {
        let tried = if shared.queue.is_empty() {
            attempt(shared, ask, wanted, asked, now)
        } else {
            Ok(Tried::Full)
        };
        let none = match tried {
            Ok(Tried::Took(lease)) => return Ok(lease),
            // In a box of its own: most do not wait.
            Ok(Tried::Full | Tried::Patient) => {
                match Box::pin(wait(shared, ask, wanted, places, asked)).await {
                    Ok(lease) => return Ok(lease),
                    Err(none) => none,
                }
            }
            Err(none) => none,
        };
        if !none.is_for_want_of_nodes() || !shared.has_unseen() {
            return Err(none);
        }
        let limit = shared.options.probe_timeout;
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit);
        if !Box::pin(shared.another_seen(deadline)).await {
            return Err(none);
        }
        now = Instant::now();
    }
}

/// Waits for a slot.
async fn wait(
    shared: &Arc<Shared>,
    ask: &Ask,
    wanted: &Wanted,
    places: Option<&Places>,
    asked: Instant,
) -> Result<Box<Lease>, NoNode> {
    let _shown = ShownQueue(shared);
    let Some(mut waiter) = enter(shared, ask, places.is_some()) else {
        // The queue may be full of others, who wait for another model.
        if !shared.queue.by_tag().contains_key(ask.model.as_str())
            && let Tried::Took(lease) = attempt(shared, ask, wanted, asked, asked)?
        {
            return Ok(lease);
        }
        metrics::shed("queue_full");
        return Err(NoNode::QueueFull);
    };
    shared.show_queue();
    loop {
        match waiter.turn().await {
            Turn::Try => match attempt(shared, ask, wanted, asked, Instant::now())? {
                Tried::Took(lease) => {
                    waiter.took();
                    metrics::waited(lease.waited);
                    return Ok(lease);
                }
                Tried::Full => waiter.lost(),
                Tried::Patient => waiter.pass(),
            },
            Turn::Moved(place) => {
                if let Some(places) = places {
                    places.send_replace(Some(place));
                }
            }
            Turn::Late => {
                metrics::shed("deadline");
                return Err(NoNode::Late);
            }
        }
    }
}

/// Shows the queue's length when somebody has gone.
struct ShownQueue<'s>(&'s Shared);

impl Drop for ShownQueue<'_> {
    fn drop(&mut self) {
        self.0.show_queue();
    }
}

/// `None`: no more may wait. `told`: somebody wants to know the place.
fn enter(shared: &Arc<Shared>, ask: &Ask, told: bool) -> Option<Waiter> {
    let estimate = || -> Estimate {
        let (shared, model) = (Arc::clone(shared), ask.model.clone());
        Box::new(move |line| expected_wait(&shared, &model, line))
    };
    let entry = Entry {
        priority: ask.caller.priority,
        user: ask.caller.user,
        tag: ask.model.as_str().into(),
        deadline: Instant::now() + shared.options.queue_timeout,
        estimate: told.then(estimate),
    };
    shared.queue.enter(entry).ok()
}

/// How long who waits for `model` has to, by how fast the nodes that have it let go of their slots. Of those ahead, a share
/// waits for other nodes: as large as of all.
fn expected_wait(shared: &Shared, model: &str, line: &queue::Line<'_>) -> Option<Duration> {
    let nodes = shared.pool.nodes();
    let having = || nodes.iter().filter(|node| node.serves() && node.has(model));
    // Slots let go of in a second. What a node has not shown yet is taken to be as with the others.
    let pace = |node: &Arc<Node>| {
        let hold = node.slots.mean_hold().or(line.mean_hold)?;
        Some(f64::from(node.slots.capacity()) / hold)
    };
    let pace: f64 = having().filter_map(pace).sum();
    let all: usize = line.waiting.values().sum();
    let rivals = line.waiting.iter();
    let rivals = rivals.filter(|(tag, _)| having().any(|node| node.has(tag)));
    let rivals: usize = rivals.map(|(_, count)| count).sum();
    #[expect(clippy::cast_precision_loss, reason = "an estimate over small counts")]
    let ahead = line.ahead as f64 * rivals as f64 / all.max(1) as f64;
    let wait = (pace > 0.0).then(|| (ahead + 1.0) / pace)?;
    Duration::try_from_secs_f64(wait).ok()
}

enum Tried {
    Took(Box<Lease>),
    /// No slot is free.
    Full,
    /// One is free, and another is worth waiting for.
    Patient,
}

fn attempt(
    shared: &Arc<Shared>,
    ask: &Ask,
    wanted: &Wanted,
    asked: Instant,
    now: Instant,
) -> Result<Tried, NoNode> {
    let nodes = shared.pool.nodes();
    let Candidates {
        digest,
        mut fit,
        panicking,
    } = candidates(shared, &nodes, ask, wanted, now)?;
    let queued = shared.shares(&nodes);
    let mut views: Vec<View> = fit
        .iter()
        .map(|node| node.view(&ask.model, queued.of(node), now))
        .collect();
    let job = ask.job();
    let time = shared.at(now);
    loop {
        let at = match shared.policy.choose(&job, &views, time) {
            None => return Ok(Tried::Full),
            Some(Choice::WaitFor(_)) => return Ok(Tried::Patient),
            Some(Choice::Take(at)) => at,
        };
        let claimed = fit[at].slots.try_claim(now);
        let pass = claimed.as_ref().and_then(|_| fit[at].admit(now));
        if let Some(claim) = claimed
            && (pass.is_some() || panicking)
        {
            let guess = shared.policy.started(&job, &views[at], time);
            fit[at].meter.active(fit[at].slots.active());
            return Ok(Tried::Took(Box::new(Lease {
                node: Arc::clone(fit[at]),
                reason: shared.policy.strategy().name(),
                waited: now - asked,
                began: now,
                digest,
                shared: Arc::clone(shared),
                open: Some((claim, guess)),
                pass,
                first_byte: None,
                warm: views[at].loaded,
                line: Line::default(),
            })));
        }
        // Somebody else was quicker.
        fit.swap_remove(at);
        views.swap_remove(at);
    }
}

/// The nodes that may serve a request now.
struct Candidates<'n> {
    digest: String,
    fit: Vec<&'n Arc<Node>>,
    /// They may only because no other is left.
    panicking: bool,
}

fn candidates<'n>(
    shared: &Shared,
    nodes: &'n [Arc<Node>],
    ask: &Ask,
    wanted: &Wanted,
    now: Instant,
) -> Result<Candidates<'n>, NoNode> {
    let digest = wanted.digest.clone();
    let Some(digest) = digest.or_else(|| shared.digests.standing(ask, nodes)) else {
        // A node that is away may have it; one that was only looked for, and never there, is none.
        let mut expected = nodes.iter().filter(|node| !node.is_absent()).peekable();
        let all_up = expected.peek().is_some() && expected.all(|node| node.offer().is_some());
        return Err(if all_up {
            NoNode::UnknownModel
        } else {
            NoNode::Unavailable
        });
    };
    let having = nodes.iter().filter(|node| {
        !wanted.tried.contains(&node.id) && node.has_weights(&ask.model, &digest) == Some(true)
    });
    let mut having = having.peekable();
    let had_any = having.peek().is_some();
    let fit: Vec<_> = having
        .filter(|node| !wanted.resumes || shared.goes_on(node, &ask.model))
        .collect();
    if fit.is_empty() {
        return Err(if had_any {
            NoNode::NotResumable
        } else {
            NoNode::Unavailable
        });
    }
    let open: Vec<_> = fit
        .iter()
        .copied()
        .filter(|node| node.is_open(now))
        .collect();
    if !open.is_empty() {
        return Ok(Candidates {
            digest,
            fit: open,
            panicking: false,
        });
    }
    // Panic rule: when every node is being left alone, leaving them alone helps nobody.
    let serving: Vec<_> = fit.into_iter().filter(|node| node.serves()).collect();
    if serving.is_empty() {
        return Err(NoNode::Unavailable);
    }
    Ok(Candidates {
        digest,
        fit: serving,
        panicking: true,
    })
}

impl Lease {
    /// Gives the node a request, and waits for the head of its answer; the body follows on the line.
    pub(crate) async fn ask(
        &mut self,
        request: Outgoing<'_>,
        limit: Duration,
    ) -> Result<Parts, TransportError> {
        self.node.open(&mut self.line, request, limit).await
    }

    /// The answer has begun.
    pub(crate) fn begun(&mut self) {
        if self.first_byte.is_some() {
            return;
        }
        let now = Instant::now();
        let wait = now - self.began;
        self.first_byte = Some(wait);
        self.judge(Verdict::Answered(wait), now);
        if let Some((claim, guess)) = &self.open {
            self.shared.policy.first_byte(guess, self.shared.at(now));
            if self.warm {
                claim.began(wait);
            }
        }
    }

    /// When the first byte came, after the request was given to the node.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        self.first_byte
    }

    /// The answer is whole.
    pub(crate) fn finish(mut self, ask: &Ask, outcome: Outcome, gap: Option<Duration>) {
        self.begun();
        let Some((claim, guess)) = self.open.take() else {
            return;
        };
        let now = Instant::now();
        let took = now - self.began;
        let streaming = self.first_byte.map(|first| took.saturating_sub(first));
        let decoding = outcome
            .decode_seconds
            .or(streaming.map(|time| time.as_secs_f64()));
        let tokens = outcome.tokens.map(f64::from);
        self.node.meter.answered(metrics::Measured {
            duration: took.as_secs_f64(),
            first_token: self.first_byte.map(|first| first.as_secs_f64()),
            gap: gap.map(|gap| gap.as_secs_f64()),
            tokens_per_second: tokens
                .zip(decoding)
                .filter(|(_, seconds)| *seconds > 0.0)
                .map(|(tokens, seconds)| tokens / seconds),
            error: Some((took.as_secs_f64() - guess.total).abs()),
            cached: (ask.prompt_bytes > 0)
                .then(|| f64::from(guess.cached_bytes) / f64::from(ask.prompt_bytes)),
        });
        self.shared
            .record(ask, self.began, self.waited, self.first_byte, &outcome);
        let now = self.shared.at(now);
        self.shared.policy.finished(guess, outcome, now);
        drop(claim);
    }

    /// The node failed on it. `busy`: it said that it has too much to do.
    pub(crate) fn fail(self, busy: bool) {
        self.missed(Verdict::Failed, busy);
    }

    /// The node has too much to do, and says so with a status that is no failure. It is spared for `rest`.
    pub(crate) fn turned_away(self, rest: Duration) {
        self.missed(Verdict::Busy(rest), true);
    }

    fn missed(mut self, verdict: Verdict, busy: bool) {
        let Some((claim, guess)) = self.open.take() else {
            return;
        };
        if busy {
            claim.busy();
        }
        self.judge(verdict, Instant::now());
        self.node.meter.failed();
        let outcome = Outcome::default();
        self.shared
            .policy
            .finished(guess, outcome, self.shared.now());
        self.let_go(claim);
    }

    /// The node will not answer this request, which says nothing against the node.
    pub(crate) fn refuse(mut self) {
        self.judge(Verdict::Unjudged, Instant::now());
        if let Some(claim) = self.close() {
            self.let_go(claim);
        }
    }

    fn judge(&self, verdict: Verdict, now: Instant) {
        self.node.judge(self.pass.as_ref(), verdict, now);
    }

    /// For the answer that it leads to.
    pub(crate) fn server(&self) -> Server {
        Server {
            node: Arc::clone(&self.node),
            reason: self.reason,
            waited: self.waited,
        }
    }

    /// Whether the node is Jarvis's own engine.
    pub(crate) fn is_engine(&self, model: &str) -> bool {
        self.node
            .offer()
            .is_some_and(|offer| offer.is_engine(model))
    }

    fn close(&mut self) -> Option<Claim> {
        let (claim, guess) = self.open.take()?;
        let outcome = Outcome {
            ok: true,
            ..Outcome::default()
        };
        self.shared
            .policy
            .finished(guess, outcome, self.shared.now());
        Some(claim)
    }

    /// Frees the slot: at once if the answer has come to an end or was never asked for, else when the node is done with it, as
    /// far as its connection tells. One that shows nothing has as long as it would have had for the first token.
    fn let_go(&mut self, claim: Claim) {
        let Some(connection) = self.line.leave() else {
            return;
        };
        let draining = claim.drain();
        let deadline = Instant::now() + self.shared.options.first_token_timeout;
        self.shared
            .spawn(async move { draining.until(noticed(connection), deadline).await });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leave();
        self.node.meter.active(self.node.slots.active());
    }
}

impl Lease {
    /// The client has left, unless the lease has ended otherwise.
    fn leave(&mut self) {
        let Some(claim) = self.close() else {
            return;
        };
        self.node.meter.left();
        if self.first_byte.is_none() {
            self.judge(Verdict::Unjudged, Instant::now());
        }
        self.let_go(claim);
    }
}
