//! The Jarvis program: one binary, one file per role under `roles`.

mod admin;
mod cli;
mod commands;
mod connection;
mod data_dir;
mod doctor;
mod framing;
mod guard;
mod lifecycle;
mod listen;
mod long;
mod refusal;
mod roles;
mod secret;
mod site;
mod telemetry;

use clap::Parser as _;
use std::{io::Write as _, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "jarvis: {error:#}");
            ExitCode::FAILURE
        }
    }
}
