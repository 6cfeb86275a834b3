//! `jarvis migrate schema|data`.

use crate::{
    cli::{DataArgs, Flags as _, MigrateCommand, MovedPart, SchemaArgs},
    commands::{
        print,
        progress::{Shown, contents},
        runtime, secret,
    },
    data_dir::{self, DataDir},
    roles::backend,
};
use anyhow::{Context as _, Result, bail};
use jarvis_config::{PostgresUrl, Secret, StoreSection};
use jarvis_domain::Clock;
use jarvis_store::{
    Db, DbOptions, PlannedMigration,
    keep::{self, Part, Place},
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Runs one of them.
pub(crate) fn run(command: &MigrateCommand) -> Result<ExitCode> {
    match command {
        MigrateCommand::Schema(args) => schema(args),
        MigrateCommand::Data(args) => data(args),
    }
}

fn data(args: &DataArgs) -> Result<ExitCode> {
    let from = side(&FROM, &args.from, args.from_password_file.as_deref())?;
    let to = side(&TO, &args.to, args.to_password_file.as_deref())?;
    require_name(&to)?;
    let part = args.only.map(|part| match part {
        MovedPart::Main => Part::Main,
        MovedPart::Series => Part::Series,
    });
    let _held = held(&from, &to)?;
    let now = Clock::System.now();
    let mut shown = Shown::default();
    let moved = keep::migrate(&from.place, &to.place, part, now, |step| shown.step(step));
    let moved = runtime(1)?.block_on(moved);
    shown.end();
    let moved = moved.context("not everything was moved")?;
    print(&format!(
        "{}{} rows are in {} as they are in {}.\n",
        contents(&moved),
        moved.rows(),
        to.place,
        from.place
    ))
}

/// How one side of a move is told.
struct Told {
    flag: &'static str,
    /// Both flags, for messages.
    settings: &'static str,
    /// The variable of its password.
    variable: &'static str,
}

const FROM: Told = Told {
    flag: "--from",
    settings: "--from and --from-password-file (or JARVIS_FROM_PASSWORD)",
    variable: "JARVIS_FROM_PASSWORD",
};

const TO: Told = Told {
    flag: "--to",
    settings: "--to and --to-password-file (or JARVIS_TO_PASSWORD)",
    variable: "JARVIS_TO_PASSWORD",
};

fn side(told: &Told, url: &str, password_file: Option<&Path>) -> Result<Side> {
    let password = secret::password(password_file, told.variable)?;
    place(url, password, told.settings).with_context(|| format!("{} is not understood", told.flag))
}

/// One side of a move.
struct Side {
    place: Place,
    /// Of a SQLite database.
    file: Option<PathBuf>,
}

/// The database that a URL names. `settings` is where an operator says so.
fn place(url: &str, password: Option<Secret>, settings: &'static str) -> Result<Side> {
    if let Some(path) = url.strip_prefix("sqlite://") {
        if path.is_empty() {
            bail!("it needs the file's path, as sqlite:///path/jarvis.db");
        }
        return Ok(Side {
            place: Place::new(url.to_owned(), DbOptions::file(path)),
            file: Some(path.into()),
        });
    }
    if !url.starts_with("postgres") {
        bail!("it looks like sqlite:///path/jarvis.db or postgres://user@host:5432/database");
    }
    let url: PostgresUrl = url.parse().map_err(|error| match error {
        // The configuration's keys are no help here.
        jarvis_config::UrlError::Password => anyhow::anyhow!(
            "it holds a password, which others on this machine could see; give it by --from-password-file or --to-password-file"
        ),
        error => error.into(),
    })?;
    let options = DbOptions {
        settings,
        ..backend::postgres(&url, password, &StoreSection::default())
    };
    Ok(Side {
        place: Place::new(url.to_string(), options),
        file: None,
    })
}

/// Fails for a file that no Jarvis would open: in its data directory the database has one name.
fn require_name(to: &Side) -> Result<()> {
    let Some(file) = &to.file else {
        return Ok(());
    };
    let name = backend::database(Path::new(""));
    if file.file_name() != Some(name.as_os_str()) {
        bail!(
            "Jarvis would not open {}; in a data directory the database is called {}",
            file.display(),
            name.display()
        );
    }
    Ok(())
}

/// Keeps every Jarvis away from the SQLite files of a move.
fn held(from: &Side, to: &Side) -> Result<Vec<DataDir>> {
    let mut held = Vec::new();
    if let Some(file) = from.file.as_deref().filter(|file| file.exists()) {
        held.push(DataDir::open(folder(file))?);
    }
    if let Some(file) = &to.file {
        let folder = folder(file);
        let same = |other: &Path| folder.exists() && same_folder(folder, other);
        if !held.iter().any(|other| same(other.path())) {
            data_dir::create(folder)?;
            held.push(DataDir::open(folder)?);
        }
    }
    Ok(held)
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn same_folder(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn schema(args: &SchemaArgs) -> Result<ExitCode> {
    let loaded = args.installation.sources().load()?;
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

    fn refused(url: &str) -> String {
        let error = place(url, None, TO.settings).err().unwrap();
        format!("{error:#}")
    }

    #[test]
    fn a_url_names_a_file_or_a_server() {
        let file = place("sqlite:///var/lib/jarvis/jarvis.db", None, "").unwrap();
        assert_eq!(file.file, Some("/var/lib/jarvis/jarvis.db".into()));
        let server = place("postgres://jarvis@db/jarvis", None, "").unwrap();
        assert_eq!(server.place.to_string(), "postgres://jarvis@db:5432/jarvis");
    }

    #[test]
    fn a_target_has_the_name_that_jarvis_opens() {
        let named = |url| require_name(&place(url, None, "").unwrap());
        named("sqlite:///srv/jarvis/jarvis.db").unwrap();
        named("sqlite://jarvis.db").unwrap();
        named("postgres://jarvis@db/anything").unwrap();
        for url in ["sqlite:///srv/jarvis/foo.db", "sqlite:///srv/jarvis/"] {
            let error = named(url).unwrap_err().to_string();
            assert!(error.ends_with("is called jarvis.db"), "{error}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_what_may_be_secret() {
        assert!(refused("sqlite://").contains("path"));
        assert!(refused("postgres://me:hunter2@db/jarvis").contains("--to-password-file"));
        for url in [
            "mysql://me:hunter2@db/jarvis",
            "postgres://me:hunter2@db/jarvis",
            "postgres://db",
            "jarvis.db",
            "",
        ] {
            assert!(!refused(url).contains("hunter2"), "{url}");
        }
    }
}
