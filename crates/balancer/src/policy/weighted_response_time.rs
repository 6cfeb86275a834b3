//! The shortest time to first byte.

use super::{Chance, View, cheapest};

/// Differences smaller than this share are noise.
const SLACK: f64 = 0.02;

pub(super) fn choose(views: &[View], chance: &Chance) -> Option<usize> {
    let known = views.iter().filter_map(known_time);
    let unknown = known.min_by(f64::total_cmp).unwrap_or(1.0);
    cheapest(views, chance, SLACK, |view| {
        // A node of which nothing is known counts as quick as the quickest: it is tried soon, and what is under way there
        // keeps it from being flooded until its first answer tells.
        let time = known_time(view).unwrap_or(unknown);
        view.with_failures(time) * (f64::from(view.active) + 1.0) / f64::from(view.weight)
    })
}

fn known_time(view: &View) -> Option<f64> {
    // A floor, so that "at once" still leaves the number under way to decide.
    view.response_time
        .filter(|seconds| seconds.is_finite())
        .map(|seconds| seconds.max(0.0005))
}
