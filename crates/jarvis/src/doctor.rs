//! `jarvis doctor`: looks at everything an installation stands on and says what to do.

use crate::{
    cli::{Flags as _, ServeArgs},
    commands, data_dir,
    roles::{Role, backend, engine},
};
use anyhow::Result;
use jarvis_config::{ListenAddress, Loaded};
use jarvis_store::{Db, DbOptions, SCHEMA_VERSION};
use std::{fmt::Write as _, net::TcpListener, path::Path, process::ExitCode};

/// Below this, answers and models soon find no room.
const LITTLE_SPACE: u64 = 1 << 30;

/// What one look found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// As it should be.
    Fine(String),
    /// Works, but somebody should know.
    Note(String),
    /// Will not work; says what to do.
    Wrong(String),
}

/// Looks, prints, and fails if anything is wrong.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode> {
    let findings = match args.sources().load() {
        Ok(loaded) => examine(&loaded),
        Err(error) => error
            .problems
            .iter()
            .map(|problem| {
                (
                    "configuration".to_owned(),
                    Finding::Wrong(problem.to_string()),
                )
            })
            .collect(),
    };
    commands::print(&report(&findings))?;
    let wrong = findings
        .iter()
        .any(|(_, finding)| matches!(finding, Finding::Wrong(_)));
    Ok(if wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn examine(loaded: &Loaded) -> Vec<(String, Finding)> {
    let (public, admin) = Role::Serve.addresses(loaded);
    let mut findings: Vec<_> = [
        ("configuration", configuration(loaded)),
        ("processor", processor()),
        ("public port", port(public, "--listen")),
        ("admin port", port(admin, "--admin-listen")),
        ("data directory", directory(&loaded.data_dir)),
        ("disk space", space(&loaded.data_dir)),
        ("database", database(loaded)),
    ]
    .into_iter()
    .map(|(name, finding)| (name.to_owned(), finding))
    .collect();
    findings.extend(commands::model::findings(loaded));
    findings
}

fn report(findings: &[(String, Finding)]) -> String {
    let mut text = String::new();
    for (name, finding) in findings {
        let (mark, said) = match finding {
            Finding::Fine(said) => ("ok   ", said),
            Finding::Note(said) => ("note ", said),
            Finding::Wrong(said) => ("WRONG", said),
        };
        let _ = writeln!(text, "{mark}  {name}: {said}");
    }
    text
}

fn configuration(loaded: &Loaded) -> Finding {
    let read = loaded.file.as_ref().map_or_else(
        || "valid; no file, so defaults, environment and flags".to_owned(),
        |path| format!("valid; {}", path.display()),
    );
    Finding::Fine(read)
}

fn processor() -> Finding {
    match jarvis_engine::missing_features() {
        missing if missing.is_empty() => Finding::Fine("has what the model server needs".into()),
        missing => Finding::Wrong(engine::explain_missing(&missing)),
    }
}

fn port(address: ListenAddress, flag: &str) -> Finding {
    match TcpListener::bind(address.0) {
        Ok(_) => Finding::Fine(format!("{address} is free")),
        Err(error) => Finding::Wrong(format!(
            "{address} cannot be listened on ({error}); if Jarvis is running already, all is well, else stop what uses it or choose another with {flag}"
        )),
    }
}

fn directory(path: &Path) -> Finding {
    if !path.exists() {
        return Finding::Note(format!(
            "{} does not exist yet; the first start makes it",
            path.display()
        ));
    }
    match data_dir::probe(path) {
        Ok(()) => Finding::Fine(format!("{} can be written", path.display())),
        Err(error) => Finding::Wrong(format!("{error:#}")),
    }
}

fn space(path: &Path) -> Finding {
    let existing = path.ancestors().find(|part| part.exists());
    match existing.map(data_dir::free_bytes) {
        Some(Ok(bytes)) if bytes < LITTLE_SPACE => Finding::Wrong(format!(
            "{} MiB free; conversations and models need room, free at least {} MiB",
            bytes >> 20,
            LITTLE_SPACE >> 20
        )),
        Some(Ok(bytes)) => Finding::Fine(format!("{} MiB free", bytes >> 20)),
        Some(Err(error)) => Finding::Note(format!("cannot be told ({error})")),
        None => Finding::Note("cannot be told".into()),
    }
}

fn database(loaded: &Loaded) -> Finding {
    match &loaded.config.store.url {
        Some(url) => server(
            &url.to_string(),
            &backend::store(&loaded.config, &loaded.data_dir),
        ),
        None => file(&loaded.data_dir),
    }
}

/// Asks a PostgreSQL what a start would change, and changes nothing.
fn server(url: &str, options: &DbOptions) -> Finding {
    let plan = commands::runtime(1).map(|runtime| runtime.block_on(Db::migration_plan(options)));
    match plan {
        Ok(Ok(plan)) => match plan.iter().filter(|step| !step.applied).count() {
            0 => Finding::Fine(format!("{url} answers, schema version {SCHEMA_VERSION}")),
            pending => Finding::Note(format!(
                "{url} answers; the next start applies {pending} migrations (`jarvis migrate schema --plan` shows them)"
            )),
        },
        Ok(Err(error)) => Finding::Wrong(format!("{url}: {:#}", anyhow::Error::new(error))),
        Err(error) => Finding::Wrong(format!("{error:#}")),
    }
}

/// Opens the database as a start would, and has it check itself.
fn file(dir: &Path) -> Finding {
    let path = backend::database(dir);
    if !path.exists() {
        return Finding::Note("none yet; the first start makes it".into());
    }
    let lock = match data_dir::DataDir::open(dir) {
        Ok(lock) => lock,
        Err(error) => return Finding::Note(format!("not looked at: {error:#}")),
    };
    let examination = async {
        let db = Db::open(&DbOptions::file(&path)).await?;
        let complaints = db.integrity().await;
        db.close().await;
        complaints
    };
    let outcome = commands::runtime(1).map(|runtime| runtime.block_on(examination));
    drop(lock);
    match outcome {
        Ok(Ok(complaints)) if complaints.is_empty() => Finding::Fine(format!(
            "{} is consistent, schema version {SCHEMA_VERSION}",
            path.display()
        )),
        Ok(Ok(complaints)) => Finding::Wrong(format!(
            "{} is damaged ({}); restore a backup, or move it away to begin anew",
            path.display(),
            complaints.join("; ")
        )),
        Ok(Err(error)) => Finding::Wrong(format!(
            "{}: {:#}",
            path.display(),
            anyhow::Error::new(error)
        )),
        Err(error) => Finding::Wrong(format!("{error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_wrong() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress(listener.local_addr().unwrap());
        assert!(
            matches!(port(address, "--listen"), Finding::Wrong(text) if text.contains("--listen"))
        );
        drop(listener);
        assert!(matches!(port(address, "--listen"), Finding::Fine(_)));
    }

    #[test]
    fn a_directory_that_is_a_file_is_wrong() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(directory(file.path()), Finding::Wrong(_)));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(directory(dir.path()), Finding::Fine(_)));
        assert!(matches!(
            directory(&dir.path().join("new")),
            Finding::Note(_)
        ));
    }
}
