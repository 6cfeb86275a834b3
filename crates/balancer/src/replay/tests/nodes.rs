//! What simulated nodes and their queue do.

use super::{ADAPTIVE, Interval, LEAST, Options, Slowdown, all, node, one, replay, request, trace};
use crate::Priority;
use proptest::prelude::{
    ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest,
};

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() < 0.02
}

#[test]
fn one_request_takes_what_the_node_is_said_to_take() {
    let warm = one(&trace(vec![node("a")], vec![request(5.0, 10)]), ADAPTIVE);
    assert!(
        near(warm.ttft.mean, 1.0) && near(warm.completion.mean, 2.0),
        "{warm:?}"
    );
    assert_eq!((warm.completed, warm.loads), (1, 0));
    let mut cold = node("a");
    cold.loaded.clear();
    let cold = one(&trace(vec![cold], vec![request(5.0, 10)]), ADAPTIVE);
    assert!(near(cold.ttft.mean, 3.0), "{cold:?}");
    assert_eq!(cold.loads, 1);
    let mut slow = node("a");
    slow.slow.push(Slowdown {
        from: 0.0,
        to: 100.0,
        factor: 3.0,
    });
    let slow = one(&trace(vec![slow], vec![request(5.0, 10)]), ADAPTIVE);
    assert!(near(slow.completion.mean, 6.0), "{slow:?}");
}

#[test]
fn requests_slow_each_other_and_wait_for_slots() {
    let mut single = node("a");
    single.prefill = 0.0;
    let two = || vec![request(0.0, 10), request(0.0, 10)];
    let shared = one(&trace(vec![single.clone()], two()), ADAPTIVE);
    assert!(near(shared.completion.mean, 1.5), "{shared:?}");
    single.slots = 1;
    let queued = one(&trace(vec![single], two()), ADAPTIVE);
    assert!(
        near(queued.completion.mean, 1.5) && near(queued.completion.p99, 2.0),
        "{queued:?}"
    );
    assert_eq!(queued.max_queue, 1);
}

#[test]
fn a_kept_prefix_is_not_computed_again() {
    let mut requests = vec![request(0.0, 1), request(10.0, 1)];
    requests[0].prefix = vec![(7, 1000)];
    requests[1].prefix = vec![(7, 1000), (8, 1400)];
    requests[1].prompt_bytes = 1500;
    let again = one(&trace(vec![node("a")], requests), ADAPTIVE);
    assert!(
        near(again.ttft.p99, 1.0) && near(again.ttft.p50, 0.5),
        "{again:?}"
    );
    assert!(near(again.cached, 1000.0 / 2500.0), "{again:?}");
}

#[test]
fn what_a_dying_node_had_is_finished_elsewhere() {
    let mut dying = node("a");
    dying.down.push(Interval {
        from: 3.0,
        to: 50.0,
    });
    let requests: Vec<_> = (0..40_u32)
        .map(|number| request(f64::from(number), 30))
        .collect();
    for contender in all() {
        let trace = trace(vec![dying.clone(), node("b"), node("c")], requests.clone());
        let result = one(&trace, contender);
        assert!(result.retried > 0, "{contender}: {result:?}");
        assert_eq!(result.completed + result.failed + result.shed, 40);
        assert_eq!(result.completed, 40, "{contender}: {result:?}");
    }
}

#[test]
fn what_cannot_be_served_in_time_is_shed() {
    let mut single = node("a");
    single.slots = 1;
    let requests: Vec<_> = (0..50).map(|_| request(0.0, 1000)).collect();
    let options = Options {
        max_queue: 10,
        deadline: 30.0,
        ..Options::default()
    };
    let report = replay(&trace(vec![single], requests), &[], &[LEAST], &options).unwrap();
    let result = &report.results[0];
    assert_eq!(
        (result.completed, result.shed, result.max_queue),
        (1, 49, 10),
        "{report}"
    );
}

#[test]
fn the_urgent_are_served_first() {
    let mut single = node("a");
    (single.slots, single.prefill) = (1, 0.0);
    let mut requests = vec![request(0.0, 10), request(0.1, 50), request(0.2, 10)];
    requests[1].priority = Priority::Low;
    requests[2].priority = Priority::High;
    let result = one(&trace(vec![single], requests), LEAST);
    assert!(near(result.completion.p50, 1.8), "{result:?}");
}

/// A begin and an end, in tenths of a second.
fn interval() -> impl Strategy<Value = Interval> {
    (0..600_u32, 1..600_u32).prop_map(|(from, length)| Interval {
        from: f64::from(from) / 10.0,
        to: f64::from(from + length) / 10.0,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_request_comes_to_one_end(
        asked in prop::collection::vec((0..900_u32, 0..400_u32, 0..3_u64, any::<bool>()), 0..60),
        machines in prop::collection::vec(
            (1..4_u32, prop::collection::vec(interval(), 0..3), any::<bool>()), 1..4),
        max_queue in 0..8_usize,
        deadline in 1..400_u32,
    ) {
        let requests = asked.iter().map(|&(tenth, tokens, prefix, other)| {
            let mut request = request(f64::from(tenth) / 10.0, tokens);
            request.prefix = vec![(prefix, 500), (prefix + 10, 900)];
            request.model = if other { "other" } else { "m" }.to_owned();
            request
        });
        let mut requests: Vec<_> = requests.collect();
        requests.sort_by(|a, b| a.at.total_cmp(&b.at));
        let nodes = machines.iter().enumerate().map(|(number, (slots, down, says))| {
            let mut node = node(&format!("node-{number}"));
            (node.slots, node.says_slots, node.down) = (*slots, *says, down.clone());
            node.slow = down.iter().map(|span| Slowdown { from: span.from / 2.0, to: span.to, factor: 2.5 }).collect();
            node
        });
        let options = Options { max_queue, deadline: f64::from(deadline) / 10.0, ..Options::default() };
        let count = requests.len();
        let report = replay(&trace(nodes.collect(), requests), &[], &all(), &options).unwrap();
        for result in &report.results {
            prop_assert_eq!(result.completed + result.shed + result.failed, count, "{}", report);
            prop_assert!(result.ttft.mean <= result.completion.mean && result.ttft.p99 <= result.completion.p99);
            prop_assert!((0.0..=1.0).contains(&result.cached));
        }
    }
}
