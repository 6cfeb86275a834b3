//! In turn.

use super::View;
use std::collections::HashMap;

/// Smooth weighted round robin, as nginx does it: each turn every node gains its weight, the one that has most is taken
/// and pays what all of them gained. Weights 5, 1, 1 give a a b a c a a rather than five in a row.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// What each node has, by its number.
    credit: HashMap<u64, i64>,
}

impl RoundRobin {
    pub(super) fn choose(&mut self, views: &[View]) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        let mut gained = 0;
        for (index, view) in views.iter().enumerate().filter(|(_, view)| view.free()) {
            let weight = i64::from(view.weight);
            gained += weight;
            let credit = self.credit.entry(view.node).or_default();
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (index, _) = best?;
        if let Some(credit) = self.credit.get_mut(&views.get(index)?.node) {
            *credit -= gained;
        }
        Some(index)
    }

    pub(super) fn forget(&mut self, node: u64) {
        self.credit.remove(&node);
    }
}
