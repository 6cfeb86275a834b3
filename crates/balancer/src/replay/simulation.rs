//! The replay itself: arrivals, the common queue and the nodes, in virtual time.

use super::{
    Contender, NodeShape, Options, Percentiles, Request, Summary, Trace,
    contender::Chooser,
    machine::{Happened, Machine, TOKEN_BYTES, Times, Work, count},
    seat::Seat,
};
use crate::policy::{Choice, Guess, Job, Link, Outcome, View};
use std::{collections::HashMap, time::Duration};

/// How often a request is tried.
const ATTEMPTS: usize = 4;

/// How a request stands.
#[derive(Debug, Default)]
struct Track {
    /// When its first byte came, on whichever node.
    first: Option<f64>,
    ended: Option<f64>,
    /// Tokens made by nodes that were lost.
    made: u32,
    /// Where it failed.
    avoided: Vec<usize>,
    /// Of the attempt under way.
    node: usize,
    began: f64,
    guess: Option<Guess>,
}

pub(super) struct Simulation<'a> {
    trace: &'a Trace,
    options: &'a Options,
    chooser: Chooser,
    seats: Vec<Seat>,
    /// Each model's number and how heavy it is.
    models: HashMap<&'a str, (usize, f64)>,
    links: Vec<Vec<Link>>,
    tracks: Vec<Track>,
    /// Who waits in the common queue, in order.
    waiting: Vec<usize>,
    now: f64,
    summary: Summary,
    cached: u64,
    prompts: u64,
    /// Sums of the predictions' errors and of what was to be predicted, in seconds.
    missed: f64,
    took: f64,
}

/// What came of trying to place a request.
enum Placed {
    There,
    NoneFree,
    Waits,
}

impl<'a> Simulation<'a> {
    /// Every model that `trace` asks for is offered by one of `nodes`.
    pub(super) fn new(
        trace: &'a Trace,
        nodes: &[NodeShape],
        contender: Contender,
        options: &'a Options,
    ) -> Self {
        let mut models = HashMap::new();
        for request in &trace.requests {
            let shape = trace.header.models.iter();
            let factor = shape
                .filter(|model| model.name == request.model)
                .map(|model| model.factor)
                .next()
                .unwrap_or(1.0);
            let number = models.len();
            models
                .entry(request.model.as_str())
                .or_insert((number, factor));
        }
        let number = |name: &String| models.get(name.as_str()).map(|(number, _)| *number);
        let seats = nodes.iter().map(|shape| {
            let loaded = shape.loaded.iter().filter_map(number).collect();
            Seat::new(Machine::new(shape.clone(), loaded), options.probe)
        });
        Self {
            chooser: Chooser::new(contender, options),
            seats: seats.collect(),
            links: trace.requests.iter().map(Request::links).collect(),
            tracks: trace.requests.iter().map(|_| Track::default()).collect(),
            waiting: Vec::new(),
            now: 0.0,
            summary: Summary {
                strategy: contender.to_string(),
                completed: 0,
                shed: 0,
                failed: 0,
                retried: 0,
                max_queue: 0,
                loads: 0,
                cached: 0.0,
                prediction_error: None,
                ttft: Percentiles::default(),
                completion: Percentiles::default(),
            },
            cached: 0,
            prompts: 0,
            missed: 0.0,
            took: 0.0,
            models,
            trace,
            options,
        }
    }

    pub(super) fn run(mut self) -> Summary {
        let trace = self.trace;
        let mut arrivals = trace.requests.iter().enumerate().peekable();
        while let Some(now) = self.next(arrivals.peek().map(|(_, request)| request.at)) {
            self.now = now.max(self.now);
            for node in 0..self.seats.len() {
                self.advance(node);
            }
            while let Some((id, _)) = arrivals.next_if(|(_, request)| request.at <= self.now) {
                self.arrive(id);
            }
            self.expire();
            self.dispatch();
            self.shed_overflow();
        }
        self.summed_up()
    }

    /// When something will happen next, if anything will.
    fn next(&self, arrival: Option<f64>) -> Option<f64> {
        let deadlines = self.waiting.iter().filter_map(|id| self.deadline(*id));
        // A node that comes or goes matters only to those who wait.
        let watching = self.seats.iter().filter(|_| !self.waiting.is_empty());
        let seen = watching
            .flat_map(Seat::sightings)
            .filter(|at| *at > self.now);
        let busy = self.seats.iter().filter(|seat| seat.machine.active() > 0);
        let nodes = busy.filter_map(|seat| seat.machine.next());
        let all = arrival
            .into_iter()
            .chain(deadlines)
            .chain(seen)
            .chain(nodes);
        all.min_by(f64::total_cmp)
    }

    fn deadline(&self, id: usize) -> Option<f64> {
        Some(self.trace.requests.get(id)?.at + self.options.deadline)
    }

    /// Lets a node come up to now, and takes in what happened there.
    fn advance(&mut self, node: usize) {
        let Some(seat) = self.seats.get_mut(node) else {
            return;
        };
        // A node without work may have passed several of its turns.
        let mut happened = Vec::new();
        while let Some(at) = seat.machine.next().filter(|at| *at <= self.now) {
            let before = seat.machine.active();
            happened.extend(seat.machine.advance(at));
            if at >= self.now && seat.machine.active() == before && happened.is_empty() {
                break;
            }
        }
        happened.extend(seat.machine.advance(self.now));
        for what in happened {
            match what {
                Happened::FirstByte { id, cached, loaded } => {
                    self.first_byte(node, id, cached, loaded);
                }
                Happened::Done { id, times } => self.done(id, times),
                Happened::Failed { id, tokens } => self.failed(node, id, tokens),
            }
        }
    }

    fn arrive(&mut self, id: usize) {
        let key = |id: usize| {
            let priority = self.trace.requests.get(id).map(|request| request.priority);
            (priority, id)
        };
        let place = self.waiting.partition_point(|other| key(*other) < key(id));
        self.waiting.insert(place, id);
    }

    fn expire(&mut self) {
        let before = self.waiting.len();
        let (requests, now, longest) = (&self.trace.requests, self.now, self.options.deadline);
        let in_time = |request: &Request| request.at + longest > now;
        self.waiting
            .retain(|id| requests.get(*id).is_some_and(in_time));
        self.summary.shed += before - self.waiting.len();
    }

    /// Gives out what can be given, in the queue's order.
    fn dispatch(&mut self) {
        let mut hopeless: Vec<&str> = Vec::new();
        let mut place = 0;
        while let Some(id) = self.waiting.get(place).copied() {
            if self.chooser.queues() && !self.seats.iter().any(Seat::free) {
                return;
            }
            let trace = self.trace;
            let Some(request) = trace.requests.get(id) else {
                return;
            };
            // A request that was tried before may avoid other nodes than the rest.
            let fresh = self
                .tracks
                .get(id)
                .is_none_or(|track| track.avoided.is_empty());
            if fresh && hopeless.contains(&request.model.as_str()) {
                place += 1;
                continue;
            }
            match self.place(id, request, place) {
                Placed::There => {
                    self.waiting.remove(place);
                }
                Placed::NoneFree => {
                    if fresh {
                        hopeless.push(&request.model);
                    }
                    place += 1;
                }
                Placed::Waits => place += 1,
            }
        }
    }

    fn place(&mut self, id: usize, request: &Request, ahead: usize) -> Placed {
        let (Some(track), Some(links)) = (self.tracks.get(id), self.links.get(id)) else {
            return Placed::NoneFree;
        };
        let (model, factor) = self.model(request);
        let job = Job {
            model: &request.model,
            prompt_bytes: request
                .prompt_bytes
                .saturating_add(track.made.saturating_mul(TOKEN_BYTES)),
            prefix: links,
            max_tokens: request
                .max_tokens
                .map(|most| most.saturating_sub(track.made)),
        };
        let now = self.now;
        let (nodes, views) = views(&mut self.seats, request, model, &track.avoided, ahead, now);
        let at = time(now);
        let index = match self.chooser.choose(&job, &views, at) {
            Some(Choice::Take(index)) => index,
            Some(Choice::WaitFor(_)) => return Placed::Waits,
            None => return Placed::NoneFree,
        };
        let (Some(node), Some(view)) = (nodes.get(index).copied(), views.get(index)) else {
            return Placed::NoneFree;
        };
        let guess = self.chooser.started(&job, view, at);
        let work = Work {
            id,
            model,
            factor,
            prompt_bytes: job.prompt_bytes,
            prefix: request.prefix.clone(),
            tokens: request.tokens.saturating_sub(track.made),
        };
        self.prompts += u64::from(job.prompt_bytes);
        if let Some(track) = self.tracks.get_mut(id) {
            (track.node, track.began, track.guess) = (node, now, guess);
        }
        if let Some(seat) = self.seats.get_mut(node) {
            seat.machine.take(work, now);
        }
        Placed::There
    }

    fn model(&self, request: &Request) -> (usize, f64) {
        let known = self.models.get(request.model.as_str());
        known.copied().unwrap_or((0, 1.0))
    }

    fn first_byte(&mut self, node: usize, id: usize, cached: u32, loaded: bool) {
        self.cached += u64::from(cached);
        self.summary.loads += usize::from(loaded);
        if let Some(track) = self.tracks.get_mut(id) {
            track.first.get_or_insert(self.now);
            self.chooser
                .first_byte(track.guess.as_ref(), time(self.now));
            if let Some(seat) = self.seats.get_mut(node) {
                seat.answered(self.now, self.now - track.began);
            }
        }
    }

    fn done(&mut self, id: usize, times: Times) {
        let (Some(track), Some(request)) = (self.tracks.get_mut(id), self.trace.requests.get(id))
        else {
            return;
        };
        track.ended = Some(self.now);
        let guess = track.guess.take();
        if let Some(guess) = &guess {
            let took = self.now - track.began;
            self.missed += (guess.total - took).abs();
            self.took += took;
        }
        let says = self
            .seats
            .get(track.node)
            .is_some_and(|seat| seat.machine.shape.says_cached);
        let outcome = Outcome {
            ok: true,
            tokens: Some(request.tokens.saturating_sub(track.made)),
            prompt_tokens: Some(request.prompt_bytes / TOKEN_BYTES),
            prompt_cached: says.then_some(times.cached / TOKEN_BYTES),
            load_seconds: Some(times.load),
            prompt_seconds: Some(times.prefill),
            decode_seconds: Some(times.decode),
        };
        self.chooser.finished(guess, outcome, time(self.now));
        self.summary.completed += 1;
    }

    fn failed(&mut self, node: usize, id: usize, tokens: u32) {
        let Some(track) = self.tracks.get_mut(id) else {
            return;
        };
        track.made += tokens;
        track.avoided.push(node);
        let (guess, tried) = (track.guess.take(), track.avoided.len());
        self.chooser
            .finished(guess, Outcome::default(), time(self.now));
        if let Some(seat) = self.seats.get_mut(node) {
            seat.refused(self.now);
        }
        if tried < ATTEMPTS {
            self.summary.retried += 1;
            self.arrive(id);
        } else {
            self.summary.failed += 1;
        }
    }

    /// Refuses what does not fit into the queue, the last first.
    fn shed_overflow(&mut self) {
        let inside = self.seats.iter().map(|seat| seat.machine.waiting());
        let inside: usize = inside.sum();
        while self.waiting.len() > self.options.max_queue {
            self.waiting.pop();
            self.summary.shed += 1;
        }
        let waiting = self.waiting.len() + inside;
        self.summary.max_queue = self.summary.max_queue.max(waiting);
    }

    fn summed_up(self) -> Summary {
        let answered = || {
            let all = self.trace.requests.iter().zip(&self.tracks);
            all.filter_map(|(request, track)| Some((request.at, track.first?, track.ended?)))
        };
        Summary {
            cached: share(self.cached, self.prompts),
            prediction_error: (self.took > 0.0).then_some(self.missed / self.took),
            ttft: Percentiles::of(answered().map(|(at, first, _)| first - at).collect()),
            completion: Percentiles::of(answered().map(|(at, _, ended)| ended - at).collect()),
            ..self.summary
        }
    }
}

/// The nodes that may be asked and how they stand, for one who has `ahead` others before it in the common queue. Nodes
/// where it failed are asked again only if there are no others.
fn views(
    seats: &mut [Seat],
    request: &Request,
    model: usize,
    avoided: &[usize],
    ahead: usize,
    now: f64,
) -> (Vec<usize>, Vec<View>) {
    let share = count(ahead) / count(seats.len());
    let offers = |seat: &Seat| seat.visible(now) && seat.offers(&request.model);
    let mut fresh = seats.iter().enumerate();
    let any_fresh = fresh.any(|(node, seat)| offers(seat) && !avoided.contains(&node));
    let some = seats.iter_mut().enumerate();
    some.filter(|(node, seat)| offers(seat) && !(any_fresh && avoided.contains(node)))
        .map(|(node, seat)| (node, seat.view(node, model, share, now)))
        .unzip()
}

fn time(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "a share of sums of bytes")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
