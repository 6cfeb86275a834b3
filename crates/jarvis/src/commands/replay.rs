//! `jarvis balancer replay`: what a strategy would have done.

use super::print;
use crate::cli::ReplayArgs;
use anyhow::{Context as _, Result};
use jarvis_balancer::replay::{Contender, NodeShape, Options, Synthetic, Trace, replay};
use std::{fs::File, io::BufReader, process::ExitCode};

/// Prints how each strategy did.
///
/// # Errors
/// One sentence for the user.
pub(super) fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let trace = if args.trace == "synthetic" {
        Synthetic {
            seed: args.seed,
            ..Synthetic::default()
        }
        .trace()
    } else {
        let file = File::open(&args.trace)
            .with_context(|| format!("the trace {} cannot be read", args.trace))?;
        Trace::read(BufReader::new(file))
            .with_context(|| format!("{} is not a trace", args.trace))?
    };
    let nodes = parsed::<NodeShape>(&args.nodes, "--node")?;
    let contenders = parsed::<Contender>(&args.strategy, "--strategy")?;
    let options = Options {
        seed: args.seed,
        ..Options::default()
    };
    let report = replay(&trace, &nodes, &contenders, &options)?;
    if args.json {
        return print(&format!("{}\n", report.to_json()?));
    }
    print(&format!("{report}\n"))
}

fn parsed<T>(given: &[String], flag: &str) -> Result<Vec<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let one = |text: &String| {
        text.parse()
            .with_context(|| format!("{flag} `{text}` is not understood"))
    };
    given.iter().map(one).collect()
}
