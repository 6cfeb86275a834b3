//! `jarvis doctor`: looks at everything an installation stands on and says what to do.

use crate::{
    cli::{Flags as _, ServeArgs},
    commands, data_dir,
    roles::{self, Role, backend, engine},
};
use anyhow::Result;
use futures_util::future::join_all;
use jarvis_balancer::Catalog;
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
    findings.extend(nodes(loaded));
    findings
}

/// Asks every model server that is named.
fn nodes(loaded: &Loaded) -> Vec<(String, Finding)> {
    let named = &loaded.config.nodes.urls;
    let asked = commands::runtime(1).map(|runtime| {
        let looks = named.iter().map(|node| roles::nodes::look(loaded, node));
        runtime.block_on(join_all(looks))
    });
    match asked {
        Ok(seen) => named
            .iter()
            .zip(seen)
            .map(|(entry, seen)| (format!("node {}", entry.url), node(seen)))
            .collect(),
        Err(error) => vec![("nodes".into(), Finding::Wrong(format!("{error:#}")))],
    }
}

fn node(seen: Result<Catalog>) -> Finding {
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return Finding::Wrong(format!("{error:#}")),
    };
    if seen.nodes.is_empty() {
        return Finding::Wrong("the name has no addresses; correct it, or the name server".into());
    }
    let silent: Vec<_> = seen
        .nodes
        .iter()
        .filter_map(|node| Some(format!("{} ({})", node.name, node.error.as_ref()?)))
        .collect();
    match seen.models.len() {
        _ if !silent.is_empty() => Finding::Wrong(format!(
            "no answer from {}; start it, or correct its address",
            silent.join(", ")
        )),
        0 => {
            Finding::Note("answers, but has no models; `ollama pull NAME` there brings one".into())
        }
        models => Finding::Fine(format!("answers, models: {models}")),
    }
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
    let options = backend::store(&loaded.config, &loaded.data_dir);
    if let Some(url) = &loaded.config.store.url {
        return look(&url.to_string(), "answers", &options);
    }
    let path = backend::database(&loaded.data_dir);
    if !path.exists() {
        return Finding::Note("none yet; the first start makes it".into());
    }
    // Held, so that nobody begins to write meanwhile.
    match data_dir::DataDir::open(&loaded.data_dir) {
        Ok(_held) => look(&path.display().to_string(), "is consistent", &options),
        Err(error) => Finding::Note(format!("not looked at: {error:#}")),
    }
}

/// Says how a database is and what a start would change in it, and changes nothing.
fn look(name: &str, well: &str, options: &DbOptions) -> Finding {
    let examined =
        commands::runtime(1).and_then(|runtime| Ok(runtime.block_on(Db::examine(options))?));
    let examined = match examined {
        Ok(examined) => examined,
        Err(error) => return Finding::Wrong(format!("{name}: {error:#}")),
    };
    if !examined.complaints.is_empty() {
        return Finding::Wrong(format!(
            "{name} is damaged ({}); restore a backup, or move it away to begin anew",
            examined.complaints.join("; ")
        ));
    }
    let (applied, pending): (Vec<_>, Vec<_>) = examined.plan.iter().partition(|step| step.applied);
    let version = applied.last().map_or(0, |step| step.version);
    if pending.is_empty() {
        return Finding::Fine(format!("{name} {well}, schema version {version}"));
    }
    Finding::Note(format!(
        "{name} {well}, schema version {version}; the next start brings it to {SCHEMA_VERSION} (`jarvis migrate schema --plan` shows how)"
    ))
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
