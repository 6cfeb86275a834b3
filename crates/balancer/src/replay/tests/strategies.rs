//! How the strategies compare. The figures are of simulated time: they are the same on every machine.

use super::{Interval, NodeShape, Options, Report, Slowdown, Summary, Synthetic, all, replay};

#[test]
fn a_replay_repeats_itself() {
    let trace = Synthetic {
        seconds: 120.0,
        ..Synthetic::default()
    };
    assert_eq!(trace.trace(), trace.trace());
    let run = || replay(&trace.trace(), &[], &all(), &Options::default()).unwrap();
    assert_eq!(run(), run());
    let other = Synthetic { seed: 2, ..trace };
    assert_ne!(
        other.trace(),
        Synthetic {
            seed: 3,
            ..other.clone()
        }
        .trace()
    );
}

/// The bench's loads.
fn loads() -> Vec<(&'static str, Synthetic)> {
    let mixed = Synthetic::default();
    let equal = |count: u32| {
        let name = |number| format!("node-{number}");
        let shape = |number| NodeShape {
            loaded: vec!["small".to_owned()],
            ..NodeShape::named(&name(number))
        };
        (0..count).map(shape).collect::<Vec<_>>()
    };
    let single = vec![("small".to_owned(), 1.0, 1.0)];
    let plain = Synthetic {
        models: single.clone(),
        nodes: equal(4),
        ..mixed.clone()
    };
    let mut turning = plain.clone();
    turning.nodes[0].slow.push(Slowdown {
        from: 600.0,
        to: 1500.0,
        factor: 5.0,
    });
    let mut failing = plain.clone();
    failing.nodes[1].down = vec![
        Interval {
            from: 300.0,
            to: 400.0,
        },
        Interval {
            from: 900.0,
            to: 1100.0,
        },
    ];
    let one_turn = Synthetic {
        turns: 1.0,
        rate: 1.0,
        system: 100.0,
        ..plain.clone()
    };
    let long = Synthetic {
        said: 8000.0,
        rate: 0.1,
        ..plain.clone()
    };
    let mut unknown = plain.clone();
    for node in &mut unknown.nodes {
        node.says_slots = false;
    }
    let mut reporting = plain.clone();
    for node in &mut reporting.nodes {
        node.says_cached = true;
    }
    let bursts = Synthetic {
        burst: 20.0,
        ..plain.clone()
    };
    vec![
        (
            "mixed nodes, two models, light",
            Synthetic {
                rate: 0.08,
                ..mixed.clone()
            },
        ),
        ("mixed nodes, two models", mixed),
        ("equal nodes, one model", plain),
        ("slots not known", unknown),
        ("nodes say what was cached", reporting),
        ("single short questions", one_turn),
        ("long prompts", long),
        ("bursts", bursts),
        ("a node turns slow", turning),
        ("a node dies twice", failing),
    ]
}

fn compared(load: &Synthetic) -> Report {
    replay(&load.trace(), &[], &all(), &Options::default()).unwrap()
}

fn of<'a>(report: &'a Report, name: &str) -> &'a Summary {
    let mut results = report.results.iter();
    results.find(|result| result.strategy == name).unwrap()
}

#[test]
fn adaptive_is_no_worse_than_least_connections_in_conversations() {
    let report = compared(&Synthetic::default());
    let (adaptive, least) = (of(&report, "adaptive"), of(&report, "least_connections"));
    assert_eq!(adaptive.completed, report.requests, "{report}");
    assert!(
        adaptive.completion.mean <= least.completion.mean,
        "{report}"
    );
}

#[test]
fn adaptive_is_never_much_worse_than_the_best() {
    for (name, load) in loads() {
        let report = compared(&load);
        println!("{name}: {report}");
        let adaptive = of(&report, "adaptive");
        for other in &report.results {
            assert!(
                adaptive.completion.mean <= 1.05 * other.completion.mean,
                "{name}: {report}"
            );
            assert!(
                adaptive.ttft.p95 <= 1.05 * other.ttft.p95,
                "{name}: {report}"
            );
        }
    }
}
