//! `jarvis migrate schema`.

use crate::{
    cli::{Flags as _, MigrateCommand, SchemaArgs},
    commands::{print, runtime},
    data_dir::DataDir,
    roles::backend,
};
use anyhow::{Context as _, Result};
use jarvis_store::{Db, PlannedMigration};
use std::{fmt::Write as _, process::ExitCode};

/// Runs one of them.
pub(crate) fn run(command: &MigrateCommand) -> Result<ExitCode> {
    match command {
        MigrateCommand::Schema(args) => schema(args),
    }
}

fn schema(args: &SchemaArgs) -> Result<ExitCode> {
    let loaded = args.sources().load()?;
    let options = backend::store(&loaded.config, &loaded.data_dir);
    let failed = "the database cannot be used";
    if !args.plan {
        // Nobody else writes to a SQLite file meanwhile; PostgreSQL's own locks order its writers.
        let _held = match loaded.config.store.url {
            Some(_) => None,
            None => Some(DataDir::open(&loaded.data_dir)?),
        };
        runtime(1)?.block_on(async {
            Db::open(&options).await.context(failed)?.close().await;
            anyhow::Ok(())
        })?;
    }
    let plan = runtime(1)?.block_on(Db::migration_plan(&options));
    print(&shown(&plan.context(failed)?, args.sql))
}

/// A line for each migration; with `sql`, what is yet to be run below it.
fn shown(plan: &[PlannedMigration], sql: bool) -> String {
    let mut out = String::new();
    for step in plan {
        let state = if step.applied { "applied" } else { "pending" };
        let _ = writeln!(out, "{:04}  {state}  {}", step.version, step.description);
        if sql && !step.applied {
            let _ = writeln!(out, "\n{}", step.sql.trim_end());
        }
    }
    let pending = plan.iter().filter(|step| !step.applied).count();
    let _ = match pending {
        0 => writeln!(out, "The schema is up to date."),
        _ => writeln!(
            out,
            "{pending} to be applied, all or none, by the next start or `jarvis migrate schema`; what runs now may go on meanwhile."
        ),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_told_with_its_statements() {
        let step = |version, applied| PlannedMigration {
            version,
            description: "first".into(),
            applied,
            sql: "CREATE TABLE t (x BIGINT);\n".into(),
        };
        let text = shown(&[step(1, true), step(2, false)], true);
        assert!(text.starts_with("0001  applied  first\n0002  pending  first\n"));
        assert_eq!(text.matches("CREATE TABLE").count(), 1, "{text}");
        assert!(text.contains("1 to be applied"));
        assert!(shown(&[step(1, true)], true).ends_with("up to date.\n"));
        assert!(!shown(&[step(2, false)], false).contains("CREATE"));
    }
}
