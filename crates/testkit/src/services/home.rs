//! Where a server lives.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A temporary directory that belongs to the user the servers in it run as. Whatever runs in it (has its working directory there)
/// is killed and the directory removed when this value goes, and also when the whole test process does, however it ends: a
/// shell waits for the end of a pipe that only this process holds.
pub struct Home {
    path: PathBuf,
    guard: Child,
    owner: Option<Owner>,
}

/// The ordinary user that servers run as when the test itself runs as root, whom most of them refuse.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Kills by working directory until nothing is left there, then removes it: `$1` is the directory.
const GUARD: &str = r#"
read -r _
found=yes
while [ "$found" ]; do
    found=
    for process in /proc/[0-9]*; do
        case "$(readlink "$process/cwd")" in
            "$1" | "$1"/*) kill -9 "${process#/proc/}" 2>/dev/null && found=yes ;;
        esac
    done
done
rm -rf "$1"
"#;

impl Home {
    /// Makes the directory; `name` becomes part of its name.
    pub fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("jarvis-{name}-"))
            .tempdir()
            .unwrap();
        let path = directory.path().canonicalize().unwrap();
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(&path)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = directory.keep();
        let home = Self {
            path,
            guard,
            owner: Owner::needed(),
        };
        home.give(&home.path);
        home
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs here, as the user whom the directory belongs to, in a process group of its own.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .current_dir(&self.path)
            .process_group(0)
            .stdin(Stdio::null())
            .env("HOME", &self.path)
            .env("LC_ALL", "C.UTF-8");
        if let Some(owner) = self.owner {
            // Becoming another user clears the supplementary groups as well.
            command.uid(owner.uid).gid(owner.gid);
        }
        command
    }

    /// Makes a directory here that nobody else may read.
    pub fn directory(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::DirBuilderExt;
        let path = self.path.join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&path)
            .unwrap();
        self.give(&path);
        path
    }

    /// Writes a file here that nobody else may read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::{io::Write, os::unix::fs::OpenOptionsExt};
        let path = self.path.join(name);
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
        self.give(&path);
        path
    }

    fn give(&self, path: &Path) {
        if let Some(owner) = self.owner {
            chown(path, Some(owner.uid), Some(owner.gid)).unwrap();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

impl Owner {
    /// The user `nobody`, if this process is root's.
    fn needed() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let fields: Vec<&str> = users
            .lines()
            .find(|line| line.starts_with("nobody:"))
            .expect("a user named nobody")
            .split(':')
            .collect();
        Some(Self {
            uid: fields[2].parse().unwrap(),
            gid: fields[3].parse().unwrap(),
        })
    }
}
