//! Replays the synthetic loads with every strategy, for `bench/routing.py`.
//!
//! `routing SEEDS` prints a JSON object for each load and each seed from 1 to SEEDS: the load's name and the report.
//! `routing LOAD SEED` prints that load's trace, as `jarvis balancer replay` reads it.

use jarvis_balancer::{
    Strategy,
    replay::{Contender, Options, Synthetic, replay},
};
use std::{
    error::Error,
    io::{self, BufWriter, Write},
};

const USAGE: &str = "usage: routing SEEDS | routing LOAD SEED";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let out = BufWriter::new(io::stdout().lock());
    match words.as_slice() {
        [seeds] => compare(seeds.parse().map_err(|_| USAGE)?, out),
        [load, seed] => trace(load, seed.parse().map_err(|_| USAGE)?, out),
        _ => Err(USAGE.into()),
    }
}

fn compare(seeds: u64, mut out: impl Write) -> Result<(), Box<dyn Error>> {
    let mut contenders = Strategy::ALL.map(Contender::Ours).to_vec();
    contenders.extend([Contender::PowerOfTwo, Contender::CacheAware]);
    for (name, load) in Synthetic::loads() {
        for seed in 1..=seeds {
            let load = Synthetic {
                seed,
                ..load.clone()
            };
            let options = Options {
                seed,
                ..Options::default()
            };
            let report = replay(&load.trace(), &[], &contenders, &options)?;
            serde_json::to_writer(
                &mut out,
                &serde_json::json!({"load": name, "report": report}),
            )?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}

fn trace(name: &str, seed: u64, out: impl Write) -> Result<(), Box<dyn Error>> {
    let known = Synthetic::loads();
    let Some((_, load)) = known.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        return Err(format!("no load is called {name:?}; there are {names:?}").into());
    };
    let load = Synthetic {
        seed,
        ..load.clone()
    };
    Ok(load.trace().write(out)?)
}
