//! What each command does. Roles run on a runtime of the configured size.

mod backup;
mod config;
mod migrate;
pub(crate) mod model;
mod progress;
mod replay;
mod restore;
mod secret;

use crate::{
    cli::{BalancerCommand, Cli, Command, Flags},
    doctor,
    roles::{self, Role},
};
use anyhow::{Context as _, Result};
use jarvis_config::Loaded;
use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
    thread,
};

/// Runs the command that was typed.
///
/// # Errors
/// One sentence for the user.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => role(Role::Serve, &args),
        Command::Api(args) => role(Role::Api, &args),
        Command::Balancer(args) => match &args.command {
            Some(BalancerCommand::Replay(replaying)) => replay::run(replaying),
            None => role(Role::Balancer, &args),
        },
        Command::Engine(args) => role(Role::Engine, &args),
        Command::Web(args) => role(Role::Web, &args),
        Command::Model(command) => model::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Migrate(command) => migrate::run(&command),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
}

fn role(role: Role, flags: &impl Flags) -> Result<ExitCode> {
    let loaded = flags.sources().load()?;
    let runtime = runtime(threads(&loaded))?;
    let outcome = runtime.block_on(roles::run(role, loaded));
    // A stop has waited for what it wanted to wait for.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// A runtime of `threads` threads.
pub(crate) fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    let mut builder = match threads {
        // This one, without what hands work from thread to thread.
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder
        .worker_threads(threads)
        .thread_name("jarvis")
        .enable_all()
        .build()
        .context("the threads of the server cannot be started")
}

/// Threads to use where nothing more specific is configured.
pub(crate) fn threads(loaded: &Loaded) -> usize {
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    loaded.config.server.threads.unwrap_or_else(processors)
}

/// Prints to standard output; a reader that has left (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
