//! The protocol of durable answers under thousands of schedules of crashes, pauses, losses and fail-overs, each drawn from
//! a seed, all on a virtual clock.
//!
//! `JARVIS_SCHEDULES` says how many (a few seconds' worth by default), `JARVIS_SEED` with which seed to begin: a failure
//! names its own, and `JARVIS_TRACE` shows what happened in it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod browser;
mod check;
mod faults;
mod instance;
mod redis;
mod rng;
mod sql;
mod world;

use world::{Plant, World};

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().expect(variable))
}

#[test]
fn what_was_shown_is_a_beginning_of_every_later_view() {
    let (first, many) = (number("JARVIS_SEED", 1), number("JARVIS_SCHEDULES", 400));
    let (mut claims, mut resyncs) = (0, 0);
    for seed in first..first + many {
        match World::run(seed, Plant::None) {
            Ok(check) => {
                claims += check.claims;
                resyncs += check.resyncs;
            }
            Err(wrong) => panic!("JARVIS_SEED={seed} JARVIS_SCHEDULES=1: {wrong}"),
        }
    }
    println!("{many} schedules from seed {first} on: {claims} take-overs, {resyncs} resyncs");
    assert!(claims > many / 4, "hardly anything was taken over");
}

/// How many schedules it takes to find a mistake that was built in.
fn found(plant: Plant, expected: &str) {
    const ENOUGH: u64 = 20_000;
    for seed in 1..ENOUGH {
        if let Err(wrong) = World::run(seed, plant) {
            assert!(
                wrong.contains(expected),
                "{plant:?} at seed {seed}: {wrong}"
            );
            println!("{plant:?} was found by schedule {seed}: {wrong:.120}");
            return;
        }
    }
    panic!("{plant:?} was not found in {ENOUGH} schedules");
}

macro_rules! plants {
    ($($name:ident: $plant:ident, $expected:literal;)+) => {$(
        #[test]
        fn $name() {
            found(Plant::$plant, $expected);
        }
    )+};
}

plants! {
    showing_before_logging_is_found: ShowFirst, "than was shown";
    stores_without_fencing_are_found: NoFencing, "two owners";
    judging_at_once_is_found: JudgeAtOnce, "healthy";
    beginning_with_sql_alone_is_found: SqlAlone, "than was shown";
    an_impatient_owner_is_found: Impatient, "than was shown";
    an_owner_that_is_blind_for_ever_is_found: BlindForEver, "two owners";
    an_append_that_asks_nothing_is_found: PlainAppend, "";
    no_fall_back_is_found: NoFallBack, "stuck";
    a_late_checkpoint_is_found: LateCheckpoint, "";
    a_forgotten_claim_is_found: ForgetClaims, "stuck";
    serving_by_offset_alone_is_found: OffsetAlone, "";
    proving_before_taking_up_is_found: ProofFirst, "";
}
