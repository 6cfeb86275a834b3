//! `jarvis model fetch|list|add|remove`.

use crate::{
    cli::{Flags as _, ModelCommand},
    commands::print,
    data_dir,
    doctor::Finding,
    roles::engine::models_dir,
};
use anyhow::{Context as _, Result};
use jarvis_config::Loaded;
use jarvis_domain::Clock;
use jarvis_engine::{
    Catalog, Import, Manifest, Removed, Survey,
    embedded::{self, Progress},
};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::Path,
    process::ExitCode,
};

/// Runs one of them.
pub(crate) fn run(command: &ModelCommand) -> Result<ExitCode> {
    match command {
        ModelCommand::Fetch(args) => fetch(&args.sources().load()?),
        ModelCommand::List(args) => list(&args.sources().load()?),
        ModelCommand::Add { file, name, args } => add(&args.sources().load()?, file, name),
        ModelCommand::Remove { name, args } => remove(&args.sources().load()?, name),
    }
}

fn open(loaded: &Loaded) -> Result<Catalog> {
    data_dir::create(&loaded.data_dir)?;
    Ok(Catalog::open(models_dir(loaded), Clock::System)?)
}

fn fetch(loaded: &Loaded) -> Result<ExitCode> {
    let catalog = open(loaded)?;
    let mut said = Ok(ExitCode::SUCCESS);
    embedded::fetch(&catalog, |progress| {
        let text = match progress {
            Progress::Waiting => "another process is fetching; waiting for it\n".to_owned(),
            Progress::Present(model) => format!("{}: here already\n", model.name),
            Progress::Downloading(model) => {
                format!("{}: fetching {}\n", model.name, megabytes(model.size))
            }
            Progress::Installing(model) => format!("{}: checking\n", model.name),
            Progress::Installed(model) => format!("{}: installed\n", model.name),
        };
        if let Err(error) = print(&text) {
            said = Err(error);
        }
    })
    .with_context(|| space_hint(&loaded.data_dir))?;
    said
}

/// What a failed fetch most often lacks.
fn space_hint(dir: &Path) -> String {
    let free = data_dir::free_bytes(dir).map_or_else(|_| "?".into(), megabytes);
    format!(
        "the models could not be fetched ({free} free in {})",
        dir.display()
    )
}

fn list(loaded: &Loaded) -> Result<ExitCode> {
    let Survey { models, damaged } = open(loaded)?.survey()?;
    if models.is_empty() && damaged.is_empty() {
        return print(&format!(
            "No models in {}. `jarvis model fetch` fetches the embedded ones.\n",
            models_dir(loaded).display()
        ));
    }
    let width = models
        .iter()
        .map(|model| model.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for model in &models {
        let _ = writeln!(
            text,
            "{:width$}  {:>8}  {:12}  {}",
            model.name,
            megabytes(model.size),
            model.digest.get(..12).unwrap_or_default(),
            model.capabilities.join(", "),
        );
    }
    for each in damaged {
        let _ = writeln!(text, "{each}");
    }
    print(&text)
}

fn add(loaded: &Loaded, file: &Path, name: &str) -> Result<ExitCode> {
    let model = open(loaded)?.import_gguf(name, file, Import::default())?;
    print(&format!(
        "Added {} ({}, {}).\n",
        model.name,
        megabytes(model.size),
        model.details.family
    ))
}

fn remove(loaded: &Loaded, name: &str) -> Result<ExitCode> {
    print(&match open(loaded)?.delete(name)? {
        Removed::Model(name) => format!("Removed {name}.\n"),
        Removed::Damaged(damaged) => format!(
            "Removed {}, which was damaged. Which weights were its own cannot be told: they stay, and are found again when the model is added or fetched again.\n",
            damaged.name
        ),
    })
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// What `jarvis doctor` has to say about the models.
pub(crate) fn findings(loaded: &Loaded) -> Vec<(String, Finding)> {
    let dir = models_dir(loaded);
    if !dir.join("manifests").is_dir() {
        return vec![("models".into(), none())];
    }
    let catalog = Catalog::at(&dir, Clock::System);
    let Survey { models, damaged } = match catalog.survey() {
        Ok(survey) => survey,
        Err(error) => return vec![("models".into(), Finding::Wrong(error.to_string()))],
    };
    if models.is_empty() && damaged.is_empty() {
        return vec![("models".into(), none())];
    }
    let whole = models
        .iter()
        .map(|model| (format!("model {}", model.name), examine(&catalog, model)));
    let damaged = damaged.iter().map(|each| {
        let (path, reason, name) = (each.path.display(), &each.reason, &each.name);
        let said = format!("{path}: {reason}; `jarvis model remove {name}` removes it");
        (format!("model {name}"), Finding::Wrong(said))
    });
    whole.chain(damaged).collect()
}

fn none() -> Finding {
    Finding::Note(
        "none on this machine; `jarvis model fetch` fetches the embedded ones, --node URL uses another machine's"
            .into(),
    )
}

fn examine(catalog: &Catalog, model: &Manifest) -> Finding {
    let again = format!(
        "remove it (`jarvis model remove {}`) and fetch or add it again",
        model.name
    );
    let parts = std::iter::once(&model.digest).chain(&model.tokenizer);
    for digest in parts {
        let path = catalog.blob_path(digest);
        match sha256_of(&path) {
            Ok(found) if found == *digest => {}
            Ok(_) => {
                return Finding::Wrong(format!(
                    "{} is not the file it was (its SHA-256 differs); {again}",
                    path.display()
                ));
            }
            Err(error) => {
                return Finding::Wrong(format!(
                    "{} cannot be read ({error}); {again}",
                    path.display()
                ));
            }
        }
    }
    Finding::Fine(format!("{}, its SHA-256 is right", megabytes(model.size)))
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
    Ok(hasher
        .finalize()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
}
