//! What holds for all strategies, and the simple ones.

use super::{at, job, taken, view};
use crate::policy::{Choice, Outcome, Policy, Strategy, View};
use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;
use std::time::Duration;

const NOW: Duration = Duration::ZERO;

/// How often each node is taken in `rounds` single requests.
fn shares(policy: &Policy, views: &[View], rounds: usize) -> Vec<usize> {
    let mut shares = vec![0; views.len()];
    for _ in 0..rounds {
        shares[taken(policy, &job(&[]), views, NOW)] += 1;
    }
    shares
}

/// Gives out `count` requests at once, each counted as active before the next.
fn burst(policy: &Policy, views: &mut [View], count: usize) -> Vec<u32> {
    for _ in 0..count {
        let index = taken(policy, &job(&[]), views, NOW);
        policy.started(&job(&[]), &views[index], NOW);
        views[index].active += 1;
    }
    views.iter().map(|view| view.active).collect()
}

#[test]
fn names_are_the_guides() {
    let names = Strategy::ALL.map(|strategy| strategy.to_string());
    assert_eq!(
        names,
        [
            "round_robin",
            "least_connections",
            "weighted_response_time",
            "queue_length",
            "adaptive"
        ]
    );
    for strategy in Strategy::ALL {
        assert_eq!(strategy.name().parse(), Ok(strategy));
        let json = serde_json::to_string(&strategy).unwrap();
        assert_eq!(json, format!("\"{strategy}\""));
        assert_eq!(serde_json::from_str::<Strategy>(&json).unwrap(), strategy);
        assert_eq!(Strategy::numbered(strategy.number()), strategy);
    }
    let refused = "fastest".parse::<Strategy>().unwrap_err();
    assert!(refused.to_string().contains("\"fastest\""));
    assert!(serde_json::from_str::<Strategy>("\"fastest\"").is_err());
}

#[test]
fn round_robin_goes_in_turn_by_weight() {
    let policy = Policy::new(Strategy::RoundRobin, 1);
    let mut views = [view(1), view(2), view(3)];
    views[0].weight = 5;
    let turns: Vec<_> = (0..7)
        .map(|_| taken(&policy, &job(&[]), &views, NOW))
        .collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0], "smooth, as nginx does it");
    assert_eq!(shares(&policy, &views, 700), [500, 100, 100]);
}

#[test]
fn least_connections_goes_by_active_and_weight() {
    let policy = Policy::new(Strategy::LeastConnections, 1);
    let mut views = [view(1), view(2)];
    for view in &mut views {
        view.slots = None;
    }
    views[1].weight = 3;
    assert_eq!(burst(&policy, &mut views, 80), [20, 60]);
}

#[test]
fn weighted_response_time_tries_the_unknown_without_flooding_it() {
    let policy = Policy::new(Strategy::WeightedResponseTime, 1);
    let mut views = [view(1), view(2), view(3)];
    for view in &mut views {
        view.slots = None;
    }
    views[1].response_time = Some(0.8);
    views[2].response_time = None;
    let given = burst(&policy, &mut views, 90);
    assert_eq!(given[0] + given[1] + given[2], 90);
    assert!((9..=11).contains(&given[1]), "four times slower: {given:?}");
    assert!(given[2].abs_diff(given[0]) <= 1, "unknown: {given:?}");
    views[2].active = 0;
    views[2].error_rate = 1.0;
    assert_ne!(
        taken(&policy, &job(&[]), &views[1..], NOW),
        1,
        "never an answer, only failures"
    );
}

#[test]
fn queue_length_counts_who_waits_relative_to_slots() {
    let policy = Policy::new(Strategy::QueueLength, 1);
    let mut views = [view(1), view(2)];
    views[0].slots = Some(8);
    views[0].active = 4;
    views[1].slots = Some(2);
    views[1].active = 1;
    views[0].queued = 1.0;
    assert_eq!(taken(&policy, &job(&[]), &views, NOW), 0, "6/8 against 2/2");
    views[0].queued = 5.0;
    assert_eq!(
        taken(&policy, &job(&[]), &views, NOW),
        1,
        "10/8 against 2/2"
    );
}

#[test]
fn a_node_that_fails_at_once_starves() {
    for strategy in Strategy::ALL {
        if strategy == Strategy::RoundRobin {
            continue; // in turn, whatever happens: taking a bad node out is the breaker's part
        }
        let policy = Policy::new(strategy, 7);
        let mut views = [view(1), view(2)];
        for view in &mut views {
            view.slots = None;
        }
        views[1].response_time = Some(0.001);
        views[1].error_rate = 0.9;
        let (mut bad, mut now) = (0, 0.0);
        for _ in 0..200 {
            let index = taken(&policy, &job(&[]), &views, at(now));
            let guess = policy.started(&job(&[]), &views[index], at(now));
            // The bad one is always idle again at once; the good one has three others.
            now += if index == 1 { 0.001 } else { 1.0 };
            bad += index;
            let outcome = Outcome {
                ok: index == 0,
                ..Outcome::default()
            };
            policy.finished(guess, outcome, at(now));
            views[0].active = 3;
        }
        assert!(bad <= 20, "{strategy}: {bad} of 200 went to it");
    }
}

#[test]
fn a_burst_over_equal_nodes_is_spread_evenly() {
    for strategy in Strategy::ALL {
        let policy = Policy::new(strategy, 3);
        let mut views: Vec<_> = (0..4).map(view).collect();
        for view in &mut views {
            view.slots = None;
        }
        for active in burst(&policy, &mut views, 100) {
            assert!((22..=28).contains(&active), "{strategy}: {active} of 100");
        }
    }
}

#[test]
fn equals_are_not_always_the_same() {
    for strategy in Strategy::ALL {
        let views = [view(1), view(2), view(3)];
        for share in shares(&Policy::new(strategy, 5), &views, 600) {
            assert!((140..=260).contains(&share), "{strategy}: {share} of 600");
        }
    }
}

#[test]
fn the_same_seed_chooses_the_same() {
    for strategy in Strategy::ALL {
        let views = [view(1), view(2), view(3)];
        let run = || {
            let policy = Policy::new(strategy, 11);
            (0..50)
                .map(|_| taken(&policy, &job(&[]), &views, NOW))
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}

#[test]
fn the_strategy_is_switched_while_running() {
    let policy = Policy::new(Strategy::RoundRobin, 1);
    let views = [view(1), view(2)];
    for strategy in Strategy::ALL {
        policy.switch(strategy);
        assert_eq!(policy.strategy(), strategy);
        taken(&policy, &job(&[]), &views, NOW);
    }
}

/// Said again here, so that the rule is not tested by itself.
fn has_slot(view: &View) -> bool {
    view.weight != 0 && (view.slots.is_none() || view.slots > Some(view.active))
}

fn any_view() -> impl Generator<Value = View> {
    (
        0..3_u32,
        prop::option::of(0..4_u32),
        0..5_u32,
        prop_oneof![Just(0.0), Just(f64::NAN), 0.0..50.0_f64],
        prop::option::of(prop_oneof![Just(f64::NAN), Just(0.0), 0.0..9.0_f64]),
        prop_oneof![Just(f64::NAN), -1.0..2.0_f64],
        any::<bool>(),
    )
        .prop_map(
            |(weight, slots, active, queued, response_time, error_rate, loaded)| View {
                node: 0,
                weight,
                slots,
                active,
                queued,
                response_time,
                error_rate,
                loaded,
            },
        )
}

proptest! {
    #[test]
    fn only_a_node_with_a_free_slot_is_taken(
        mut views in prop::collection::vec(any_view(), 0..6),
        rounds in 1..12_u64,
        seed: u64,
    ) {
        for (node, view) in (0..).zip(&mut views) {
            view.node = node;
        }
        for strategy in Strategy::ALL {
            let policy = Policy::new(strategy, seed);
            let mut views = views.clone();
            for second in 0..rounds {
                let now = Duration::from_secs(second);
                let any_free = views.iter().any(has_slot);
                match policy.choose(&job(&[]), &views, now) {
                    None => prop_assert!(!any_free, "{strategy} takes none of {views:?}"),
                    Some(Choice::Take(index)) => {
                        prop_assert!(has_slot(&views[index]), "{strategy} takes {index} of {views:?}");
                        let guess = policy.started(&job(&[]), &views[index], now);
                        prop_assert!(guess.ttft.is_finite() && guess.total >= guess.ttft);
                        if second % 2 == 0 {
                            policy.first_byte(&guess, now);
                            policy.finished(guess, Outcome { ok: true, tokens: Some(3), ..Outcome::default() }, now);
                        } else {
                            views[index].active += 1;
                        }
                    }
                    Some(Choice::WaitFor(index)) => {
                        prop_assert_eq!(strategy, Strategy::Adaptive);
                        prop_assert!(any_free && !has_slot(&views[index]) && views[index].weight > 0);
                    }
                }
            }
        }
    }
}
