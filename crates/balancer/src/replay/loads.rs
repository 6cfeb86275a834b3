//! The loads on which the strategies are compared, in the tests and in docs/routing.md.

use super::{Interval, NodeShape, Slowdown, Synthetic};

impl Synthetic {
    /// Each load's name and settings. Only the seed is to be changed.
    pub fn loads() -> Vec<(&'static str, Self)> {
        let mixed = Self::default();
        let light = Self {
            rate: 0.08,
            ..mixed.clone()
        };
        let plain = Self {
            models: vec![("small".to_owned(), 1.0, 1.0)],
            nodes: (0..4).map(equal).collect(),
            ..mixed.clone()
        };
        let short = Self {
            turns: 1.0,
            rate: 1.0,
            system: 100.0,
            ..plain.clone()
        };
        let long = Self {
            said: 8000.0,
            rate: 0.1,
            ..plain.clone()
        };
        let bursts = Self {
            burst: 20.0,
            ..plain.clone()
        };
        let unknown = plain.with_nodes(|_, node| node.says_slots = false);
        let reporting = plain.with_nodes(|_, node| node.says_cached = true);
        let turning = plain.with_nodes(|number, node| {
            let slow = Slowdown {
                from: 600.0,
                to: 1500.0,
                factor: 5.0,
            };
            node.slow.extend((number == 0).then_some(slow));
        });
        let failing = plain.with_nodes(|number, node| {
            let down = [(300.0, 400.0), (900.0, 1100.0)];
            let down = down.map(|(from, to)| Interval { from, to });
            node.down.extend(down.into_iter().filter(|_| number == 1));
        });
        vec![
            ("mixed nodes, two models", mixed),
            ("mixed nodes, two models, light", light),
            ("equal nodes, one model", plain),
            ("slots not known", unknown),
            ("nodes say what was cached", reporting),
            ("single short questions", short),
            ("long prompts", long),
            ("bursts", bursts),
            ("a node turns slow", turning),
            ("a node dies twice", failing),
        ]
    }

    fn with_nodes(&self, change: impl Fn(usize, &mut NodeShape)) -> Self {
        let mut load = self.clone();
        for (number, node) in load.nodes.iter_mut().enumerate() {
            change(number, node);
        }
        load
    }
}

/// A node that has the model of all requests in memory.
fn equal(number: u32) -> NodeShape {
    NodeShape {
        loaded: vec!["small".to_owned()],
        ..NodeShape::named(&format!("node-{number}"))
    }
}
