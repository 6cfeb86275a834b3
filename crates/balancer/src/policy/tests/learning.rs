//! What `adaptive` learns, and what it makes of it.

use super::{Answer, QUICK, at, job, served, taken, view};
use crate::policy::{
    Choice, Job, Link, Outcome, Policy, Strategy, View,
    mind::{MOST_MODELS, Mind},
};
use std::time::Duration;

const SLOW: Answer = Answer {
    load: 0.0,
    byte: 0.0004,
    token: 0.04,
    tokens: 100,
};

fn adaptive() -> Policy {
    Policy::new(Strategy::Adaptive, 1)
}

/// Serves `rounds` requests on each node in turn, one after the other.
fn taught(policy: &Policy, nodes: &[(View, Answer)], rounds: u32) -> Duration {
    let mut now = Duration::ZERO;
    for _ in 0..rounds {
        for (view, answer) in nodes {
            now = served(policy, &job(&[]), view, *answer, 0, now);
        }
    }
    now
}

#[test]
fn the_faster_node_gets_more_in_proportion() {
    let policy = adaptive();
    let mut views = [view(1), view(2)];
    for view in &mut views {
        view.slots = None;
    }
    let now = taught(&policy, &[(view(1), SLOW), (view(2), QUICK)], 20);
    for _ in 0..60 {
        let index = taken(&policy, &job(&[]), &views, now);
        policy.started(&job(&[]), &views[index], now);
        views[index].active += 1;
    }
    let (slow, quick) = (views[0].active, views[1].active);
    assert!(
        quick >= 2 * slow && slow > 0,
        "four times as fast: {quick} against {slow}"
    );
}

#[test]
fn a_node_that_turns_slow_is_left() {
    let policy = adaptive();
    let views = [view(1), view(2)];
    let mut now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 20);
    for _ in 0..40 {
        now = served(&policy, &job(&[]), &views[0], SLOW, 0, now);
    }
    let first = (0..100)
        .filter(|_| taken(&policy, &job(&[]), &views, now) == 0)
        .count();
    assert!(first <= 8, "{first} of 100 still go to it");
}

#[test]
fn another_strategys_experience_is_used_after_a_switch() {
    let policy = Policy::new(Strategy::RoundRobin, 1);
    let now = taught(&policy, &[(view(1), SLOW), (view(2), QUICK)], 20);
    policy.switch(Strategy::Adaptive);
    let views = [view(1), view(2)];
    let quick = (0..100)
        .filter(|_| taken(&policy, &job(&[]), &views, now) == 1)
        .count();
    assert!(quick >= 92, "{quick} of 100");
}

fn conversation() -> Vec<Link> {
    (1..=8)
        .map(|step| Link {
            hash: 77 + u64::from(step),
            bytes: step * 5000,
        })
        .collect()
}

fn long_job(prefix: &[Link]) -> Job<'_> {
    Job {
        model: "m",
        prompt_bytes: 40_100,
        prefix,
        max_tokens: None,
    }
}

#[test]
fn the_holder_of_the_prefix_is_taken_while_it_is_not_overloaded() {
    let policy = adaptive();
    let now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    let prefix = conversation();
    let job = long_job(&prefix);
    let mut now = served(&policy, &job, &view(2), QUICK, 0, now);
    for _ in 0..3 {
        now = served(&policy, &job, &view(2), QUICK, 40_000, now);
    }
    let mut views = [view(1), view(2)];
    let holder = |views: &[View]| {
        (0..100)
            .filter(|_| taken(&policy, &job, views, now) == 1)
            .count()
    };
    assert!(holder(&views) >= 92, "idle: the prefix decides");
    let guess = policy.started(&job, &views[1], now);
    assert!(guess.cached_bytes > 30_000, "{guess:?}");
    policy.finished(guess, Outcome::default(), now);

    for view in &mut views {
        view.slots = None;
    }
    views[1].active = 120;
    assert!(holder(&views) <= 8, "overloaded: the other is earlier done");
}

#[test]
fn the_memory_of_a_node_that_keeps_no_prefix_is_not_relied_on() {
    let policy = adaptive();
    let mut now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    let prefix = conversation();
    let job = long_job(&prefix);
    for _ in 0..12 {
        now = served(&policy, &job, &view(2), QUICK, 0, now);
    }
    let guess = policy.started(&job, &view(2), now);
    assert!(guess.cached_bytes < 5000, "{guess:?}");
}

#[test]
fn a_cold_node_loses_to_a_warm_one_until_that_is_busy_enough() {
    let policy = adaptive();
    let (mut warm, mut cold) = (view(1), view(2));
    for view in [&mut warm, &mut cold] {
        view.slots = None;
    }
    let mut now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    cold.loaded = false;
    let loading = Answer {
        load: 12.0,
        ..QUICK
    };
    for _ in 0..3 {
        now = served(&policy, &job(&[]), &cold, loading, 0, now);
    }
    let to_cold = |warm: &View| {
        let views = [warm.clone(), cold.clone()];
        (0..100)
            .filter(|_| taken(&policy, &job(&[]), &views, now) == 1)
            .count()
    };
    warm.active = 2;
    assert_eq!(to_cold(&warm), 0, "a little busy, but warm");
    warm.active = 400;
    assert_eq!(to_cold(&warm), 100, "warm, but very busy");
}

#[test]
fn a_full_warm_node_is_waited_for_only_if_that_is_sooner() {
    let policy = adaptive();
    let now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    let (mut warm, mut cold) = (view(1), view(2));
    warm.slots = Some(1);
    cold.loaded = false;
    // The one that runs there has about a second to go; a load is expected to take eight.
    policy.started(&job(&[]), &warm, now);
    warm.active = 1;
    let views = [warm.clone(), cold.clone()];
    assert_eq!(
        policy.choose(&job(&[]), &views, now),
        Some(Choice::WaitFor(0))
    );
    warm.queued = 40.0;
    let views = [warm.clone(), cold];
    assert_eq!(
        taken(&policy, &job(&[]), &views, now),
        1,
        "forty wait there"
    );
    assert_eq!(policy.choose(&job(&[]), &[warm], now), None, "none is free");
}

#[test]
fn an_overdue_request_is_not_waited_for_for_ever() {
    let policy = adaptive();
    let now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    let (mut warm, mut cold) = (view(1), view(2));
    warm.slots = Some(1);
    cold.loaded = false;
    policy.started(&job(&[]), &warm, now);
    warm.active = 1;
    let views = [warm, cold];
    assert_eq!(
        taken(&policy, &job(&[]), &views, now + at(60.0)),
        1,
        "it should have ended a minute ago"
    );
}

#[test]
fn work_counts_from_the_moment_it_is_given() {
    let policy = adaptive();
    let now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    // The views are not updated between the requests: what was started must tell.
    let mut views = [view(1), view(2)];
    for view in &mut views {
        view.slots = None;
    }
    let mut given = [0_i32; 2];
    for _ in 0..100 {
        let index = taken(&policy, &job(&[]), &views, now);
        policy.started(&job(&[]), &views[index], now);
        given[index] += 1;
    }
    assert!((given[0] - given[1]).abs() <= 10, "{given:?}");

    // Nor when every prompt there has been computed and only tokens are made.
    let policy = adaptive();
    let now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    for _ in 0..10 {
        let guess = policy.started(&job(&[]), &views[0], now);
        policy.first_byte(&guess, now);
    }
    let busy = (0..100).filter(|_| taken(&policy, &job(&[]), &views, now) == 0);
    assert!(busy.count() <= 8);
}

#[test]
fn weight_is_respected() {
    let policy = adaptive();
    let mut views = [view(1), view(2)];
    for view in &mut views {
        view.slots = None;
    }
    views[1].weight = 4;
    let now = taught(&policy, &[(view(1), QUICK), (view(2), QUICK)], 10);
    for _ in 0..60 {
        let index = taken(&policy, &job(&[]), &views, now);
        policy.started(&job(&[]), &views[index], now);
        views[index].active += 1;
    }
    assert!(views[1].active > 2 * views[0].active, "{views:?}");
}

#[test]
fn forgetting_a_node_leaves_nothing_of_it() {
    let policy = Policy::new(Strategy::RoundRobin, 1);
    let views = [view(1), view(2)];
    let prefix = conversation();
    let job = long_job(&prefix);
    taken(&policy, &job, &views, Duration::ZERO);
    let late = policy.started(&job, &views[0], Duration::ZERO);
    served(&policy, &job, &views[0], SLOW, 0, Duration::ZERO);
    let known = || policy.mind.lock().unwrap().knows(1);
    assert!(known());
    policy.forget(1);
    assert!(!known());
    policy.finished(
        late,
        Outcome {
            ok: true,
            tokens: Some(5),
            ..Outcome::default()
        },
        at(1.0),
    );
    assert!(!known(), "a late end brings nothing back");
    let guess = policy.started(&job, &views[0], at(2.0));
    assert_eq!(guess.cached_bytes, 0);
    let turns = format!("{:?}", policy.turns.lock().unwrap());
    policy.forget(1);
    policy.forget(2);
    assert_ne!(turns, format!("{:?}", policy.turns.lock().unwrap()));
    assert_eq!(
        format!("{:?}", policy.turns.lock().unwrap()),
        "RoundRobin { credit: {} }"
    );
}

#[test]
fn memory_is_bounded_however_many_models_are_asked_for() {
    let mut mind = Mind::default();
    for number in 0..1000_u32 {
        let model = format!("model-{number}");
        let job = Job {
            model: &model,
            prompt_bytes: 10,
            prefix: &[],
            max_tokens: None,
        };
        let now = at(f64::from(number));
        let guess = mind.started(&job, &view(1), now);
        mind.finished(&guess, &Outcome::default(), now);
    }
    assert_eq!(mind.sizes(), (MOST_MODELS, MOST_MODELS));
}

#[test]
fn failures_and_nonsense_teach_nothing() {
    let policy = adaptive();
    let now = taught(&policy, &[(view(1), QUICK)], 10);
    let before = policy.started(&job(&[]), &view(1), now);
    policy.finished(before.clone(), Outcome::default(), now);
    let nonsense = Outcome {
        ok: true,
        tokens: Some(0),
        prompt_tokens: Some(0),
        prompt_cached: Some(9),
        load_seconds: Some(f64::INFINITY),
        prompt_seconds: Some(f64::NAN),
        decode_seconds: Some(-3.0),
    };
    let guess = policy.started(&job(&[]), &view(1), now);
    policy.finished(guess, nonsense, now);
    for _ in 0..50 {
        let guess = policy.started(&job(&[]), &view(1), now);
        policy.first_byte(&guess, now);
        policy.finished(guess, Outcome::default(), now);
    }
    let after = policy.started(&job(&[]), &view(1), now);
    assert!(
        (after.ttft - before.ttft).abs() < 1e-6,
        "{after:?} was {before:?}"
    );
}

/// A node that was not the best is tried now and then, if it is not much worse: so one that has become better is found out.
#[test]
fn the_second_best_is_tried_now_and_then_and_the_hopeless_not() {
    let slower = |times: f64| Answer {
        byte: times * QUICK.byte,
        token: times * QUICK.token,
        ..QUICK
    };
    for (times, most) in [(1.25, 120), (3.0, 0)] {
        let policy = adaptive();
        let views = [view(1), view(2)];
        let now = taught(&policy, &[(view(1), slower(times)), (view(2), QUICK)], 20);
        let tried = |now| {
            let choices = (0..5000).map(|_| taken(&policy, &job(&[]), &views, now));
            choices.filter(|index| *index == 0).count()
        };
        let count = tried(now);
        assert!(count <= most, "{count} of 5000 at {times} times");
        assert_eq!(count > 20, most > 0, "{count} of 5000 at {times} times");
        // Of one that nothing was heard of for long, more is forgiven.
        let count = tried(now + at(300.0));
        assert!(
            (20..=120).contains(&count),
            "{count} of 5000 at {times} times"
        );
    }
}
