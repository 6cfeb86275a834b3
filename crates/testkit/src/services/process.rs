//! One server process and what it starts itself.

use super::wait_until;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
};

/// A running server. A signal reaches the processes that it started too, as a machine's end or sleep would: PostgreSQL puts each of
/// its backends into a session of its own, where the signals of a group do not go.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it writes is added to the file `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            child,
            name: name.into(),
            log: log.into(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Asks until `ready` says yes.
    ///
    /// # Panics
    /// With the server's log if it ends meanwhile or takes longer than [`PATIENCE`](super::PATIENCE).
    pub fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) {
        let what = format!("{} comes up", self.name);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(&what, || {
                assert!(self.is_running(), "{} has ended", self.name);
                ready()
            });
        }));
        if let Err(panic) = outcome {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
            std::panic::resume_unwind(panic);
        }
    }

    /// Ends it and all it started at once (SIGKILL), as a lost machine does.
    pub fn kill9(&mut self) {
        if self.is_running() {
            kill_tree(self.root());
        }
        self.child.wait().unwrap();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.wait_end();
    }

    /// Sends it alone one signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            kill_process(self.root(), signal).unwrap();
        }
    }

    /// Waits until it has ended.
    pub fn wait_end(&mut self) {
        let what = format!("{} ends", self.name);
        wait_until(&what, || !self.is_running());
    }

    /// Stops the clock for it and all it started (SIGSTOP); its connections stay open.
    pub fn pause(&mut self) {
        if self.is_running() {
            freeze_tree(self.root());
        }
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        thaw_tree(self.root());
    }

    fn root(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

/// Ends `root` and all it started at once (SIGKILL).
pub(super) fn kill_tree(root: Pid) {
    for pid in freeze_tree(root) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Stops the tree from the root down (SIGSTOP), so that nobody in it starts another one meanwhile, and names all of it.
pub(super) fn freeze_tree(root: Pid) -> Vec<Pid> {
    let mut stopped = vec![root];
    let _ = kill_process(root, Signal::STOP);
    loop {
        let new: Vec<Pid> = descendants(root)
            .into_iter()
            .filter(|pid| !stopped.contains(pid))
            .collect();
        if new.is_empty() {
            return stopped;
        }
        for &pid in &new {
            let _ = kill_process(pid, Signal::STOP);
        }
        stopped.extend(new);
    }
}

/// Lets it go on after [`freeze_tree`].
pub(super) fn thaw_tree(root: Pid) {
    for pid in descendants(root) {
        let _ = kill_process(pid, Signal::CONT);
    }
    let _ = kill_process(root, Signal::CONT);
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// All that `root` has started, and what they have started.
fn descendants(root: Pid) -> Vec<Pid> {
    let parents: Vec<(Pid, Pid)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            // `pid (name) state parent …`; the name may hold anything.
            let (pid, rest) = stat.split_once(' ')?;
            let parent = rest.rsplit_once(") ")?.1.split(' ').nth(1)?;
            Some((
                Pid::from_raw(pid.parse().ok()?)?,
                Pid::from_raw(parent.parse().ok()?)?,
            ))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(pid, of)| *of == parent && !found.contains(pid))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        next += 1;
    }
    found.remove(0);
    found
}
