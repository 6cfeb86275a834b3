//! The earliest expected end.
//!
//! For each node: how long until this request would be done there, from what was learnt (see `mind`), plus what the
//! requests already there would lose by it. That a model is loaded is worth what a load costs, no more: a busy warm node
//! may lose to an idle cold one.

use super::{
    Chance, Choice, Job, View,
    mind::{Estimate, Mind},
};
use std::time::Duration;

/// Estimates this much apart (a share) are equal: then the node with the least to do is taken.
const EQUAL: f64 = 0.02;
/// A full node has to be this much better than a free one to be waited for.
const WORTH_WAITING: f64 = 0.9;
/// The share of requests that try another node than the best, and how much worse that may be expected to be.
const EXPLORED: f64 = 0.02;
const EXPLORED_WITHIN: f64 = 1.5;
/// A node of which nothing was heard for this long, in seconds, is worth a try even if it is expected to be this much worse.
const LONG_UNTRIED: f64 = 240.0;
const UNTRIED_WITHIN: f64 = 4.0;

pub(super) fn choose(
    mind: &Mind,
    job: &Job<'_>,
    views: &[View],
    now: Duration,
    chance: &Chance,
) -> Option<Choice> {
    let heaviest = views.iter().map(|view| view.weight).max()?;
    let usual = mind.usual(job, now);
    let cost = |view: &View| cost(&mind.estimate(job, &usual, view, now), view, heaviest);
    let costs: Vec<f64> = views.iter().map(cost).collect();
    let of = |free: bool| {
        let some = views.iter().zip(&costs).enumerate();
        some.filter(move |(_, (view, _))| view.weight > 0 && view.free() == free)
            .map(|(index, (_, cost))| (index, *cost))
    };
    let (_, least) = of(true).min_by(|a, b| a.1.total_cmp(&b.1))?;
    if let Some((full, cost)) = of(false).min_by(|a, b| a.1.total_cmp(&b.1))
        && cost < WORTH_WAITING * least
    {
        return Some(Choice::WaitFor(full));
    }
    let index = explored(mind, job, views, of(true), least, now, chance)
        .or_else(|| idlest(views, of(true), least, chance))?;
    Some(Choice::Take(index))
}

/// Seconds, made worse by errors and by less weight than the heaviest has.
fn cost(estimate: &Estimate, view: &View, heaviest: u32) -> f64 {
    let weight = f64::from(view.weight) / f64::from(heaviest.max(1));
    view.with_failures(estimate.total() + estimate.burden) / weight
}

/// Among those about as good as the best, the one with the least to do for its weight; among those, any.
fn idlest(
    views: &[View],
    costs: impl Iterator<Item = (usize, f64)> + Clone,
    least: f64,
    chance: &Chance,
) -> Option<usize> {
    let load = |index: usize| {
        views.get(index).map_or(f64::INFINITY, |view| {
            f64::from(view.active) / f64::from(view.weight)
        })
    };
    let equal = costs.filter(|(_, cost)| *cost <= least * (1.0 + EQUAL));
    let lightest = equal
        .clone()
        .map(|(index, _)| load(index))
        .min_by(f64::total_cmp)?;
    let light = equal.filter(|(index, _)| load(*index) <= lightest);
    let count = light.clone().count();
    light.map(|(index, _)| index).nth(chance.below(count))
}

/// Now and then another than the best, so that a node that has become better is found out.
fn explored(
    mind: &Mind,
    job: &Job<'_>,
    views: &[View],
    costs: impl Iterator<Item = (usize, f64)> + Clone,
    least: f64,
    now: Duration,
    chance: &Chance,
) -> Option<usize> {
    if chance.unit() >= EXPLORED {
        return None;
    }
    let worth = |(index, cost): (usize, f64)| {
        let view = views.get(index)?;
        let stale = view.loaded
            && mind
                .untried(view.node, job.model, now)
                .is_none_or(|seconds| seconds > LONG_UNTRIED);
        let within = if stale {
            UNTRIED_WITHIN
        } else {
            EXPLORED_WITHIN
        };
        (cost <= least * within).then_some(index)
    };
    let worthy = costs.filter_map(worth);
    let count = worthy.clone().count();
    worthy.clone().nth(chance.below(count))
}
