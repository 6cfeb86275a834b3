//! `jarvis balancer replay`: what a strategy would have done.

use super::print;
use crate::cli::ReplayArgs;
use anyhow::{Context as _, Result};
use jarvis_balancer::replay::{Contender, NodeShape, Options, Starting, Synthetic, Trace, replay};
use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    process::ExitCode,
};

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
        read(&args.trace)?
    };
    let trained = args.train.as_deref().map(read).transpose()?;
    let nodes = parsed::<NodeShape>(&args.nodes, "--node")?;
    let contenders = parsed::<Contender>(&args.strategy, "--strategy")?;
    let options = Options {
        seed: args.seed,
        starting: trained.map_or_else(Starting::default, |trace| trace.starting()),
        ..Options::default()
    };
    let report = replay(&trace, &nodes, &contenders, &options)?;
    if args.json {
        return print(&format!("{}\n", report.to_json()?));
    }
    print(&format!("{report}\n"))
}

fn read(name: &str) -> Result<Trace> {
    let file = File::open(name).with_context(|| format!("the trace {name} cannot be read"))?;
    let trace =
        Trace::read(BufReader::new(file)).with_context(|| format!("{name} is not a trace"))?;
    if trace.cut > 0 {
        let cut = trace.cut;
        // Who cannot be told is given the table all the same.
        let _ = writeln!(
            io::stderr(),
            "{name}: records that are cut off are left out: {cut}"
        );
    }
    Ok(trace)
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
