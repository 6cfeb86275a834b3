//! The fewest waiting and under way.

use super::{Chance, View, cheapest};

pub(super) fn choose(views: &[View], chance: &Chance) -> Option<usize> {
    // A node whose slots are not known counts as having as few as the smallest that is known.
    let unknown = views.iter().filter_map(|view| view.slots).min();
    let unknown = unknown.unwrap_or(1).max(1);
    cheapest(views, chance, 0.0, |view| {
        let slots = f64::from(view.slots.unwrap_or(unknown).max(1));
        let there = view.queued.max(0.0) + f64::from(view.active) + 1.0;
        there / slots / f64::from(view.weight) / view.reliability()
    })
}
