//! `jarvis config check|show|schema`.

use crate::{
    cli::{ConfigCommand, Flags as _},
    commands::print,
};
use anyhow::Result;
use jarvis_config::Config;
use std::process::ExitCode;

/// Runs one of them.
pub(crate) fn run(command: &ConfigCommand) -> Result<ExitCode> {
    match command {
        ConfigCommand::Check(args) => {
            let loaded = args.sources().load()?;
            let read = loaded.file.as_ref().map_or_else(
                || "no configuration file; defaults, environment and flags".to_owned(),
                |path| path.display().to_string(),
            );
            let mut said = format!("The configuration is valid ({read}).\n");
            for note in loaded.config.notes() {
                said.extend(["Note: ", &note.to_string(), "\n"]);
            }
            print(&said)
        }
        ConfigCommand::Show(args) => print(&args.sources().load()?.show()),
        ConfigCommand::Schema => print(&Config::json_schema()),
    }
}
