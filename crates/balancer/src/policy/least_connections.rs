//! The fewest requests under way.

use super::{Chance, View, cheapest};

pub(super) fn choose(views: &[View], chance: &Chance) -> Option<usize> {
    cheapest(views, chance, 0.0, cost)
}

/// With the new request counted in, so that weight and errors tell idle nodes apart too: one that fails at once is
/// always idle.
fn cost(view: &View) -> f64 {
    (f64::from(view.active) + 1.0) / f64::from(view.weight) / view.reliability()
}
