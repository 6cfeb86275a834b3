//! `jarvis restore`.

use super::backup::key;
use crate::{
    cli::{Flags as _, RestoreArgs},
    commands::{
        print,
        progress::{Shown, contents},
        runtime,
    },
    data_dir::DataDir,
    roles::backend,
};
use anyhow::{Context as _, Result};
use jarvis_store::keep::{self, Contents};
use std::{fmt::Display, process::ExitCode};

/// Restores a backup into the configured installation, which must be empty, or only looks at it.
///
/// # Errors
/// One sentence for the user; the installation is then as it was.
pub(super) fn run(args: &RestoreArgs) -> Result<ExitCode> {
    let loaded = args.installation.sources().load()?;
    let key = key(&args.key)?;
    let stores = backend::stores(&loaded);
    let mut shown = Shown::default();
    if args.verify && !args.compare {
        let found = keep::examine(&args.file, &key, |step| shown.step(step));
        shown.end();
        return report(args, &found?, "is whole");
    }
    if args.compare {
        let compared = keep::compare(&args.file, &key, &stores, |step| shown.step(step));
        let compared = runtime(1)?.block_on(compared);
        shown.end();
        let what = format!("is row for row what {} holds", stores.main);
        return report(args, &compared?, what);
    }
    // Before the directory is made: a file that cannot be restored leaves nothing behind.
    keep::examine(&args.file, &key, |_| ()).context("nothing was restored")?;
    let _held = DataDir::open(&loaded.data_dir)?;
    let restored = keep::restore(&args.file, &key, &stores, |step| shown.step(step));
    let restored = runtime(1)?.block_on(restored);
    shown.end();
    let what = format!("was restored into {}", stores.main);
    report(args, &restored.context("nothing was restored")?, what)
}

fn report(args: &RestoreArgs, found: &Contents, what: impl Display) -> Result<ExitCode> {
    let taken = found.taken_at.map_or_else(String::new, |at| at.to_string());
    print(&format!(
        "{}{}, taken {taken} with {} rows, {what}.\n",
        contents(found),
        args.file.display(),
        found.rows()
    ))
}
