//! The real program, started on free ports and stopped by its own process id.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Long enough for the slowest machine; only ever waited for in full by a test that fails.
const PATIENCE: Duration = Duration::from_mins(2);

/// A command with none of this process's configuration, whose home is `home`.
pub(crate) fn command(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jarvis"));
    command
        .args(args)
        .env_clear()
        .env("HOME", home)
        .current_dir(home)
        .stdin(Stdio::null());
    command
}

/// Runs to its end: exit status, standard output, standard error.
pub(crate) fn run(home: &Path, args: &[&str]) -> (ExitStatus, String, String) {
    let output = command(home, args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status, text(output.stdout), text(output.stderr))
}

/// A role that has said it is ready.
pub(crate) struct Process {
    child: Child,
    stdout: mpsc::Receiver<String>,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// Starts `args` with both listeners on free ports.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        Self::start_on(home, args, "127.0.0.1:0")
    }

    /// Starts `args` with the public listener on `listen`.
    pub(crate) fn start_on(home: &Path, args: &[&str], listen: &str) -> Self {
        let free = ["--listen", listen, "--admin-listen", "127.0.0.1:0"];
        let mut child = command(home, args)
            .args(free)
            .env("JARVIS_LOG_FORMAT", "json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = lines(child.stderr.take().unwrap());
        let stdout = lines(child.stdout.take().unwrap());
        let admin = address_in(&stderr, "admin_address\":\"", "\"");
        let public = address_in(&stdout, "http://", "\n");
        Self {
            child,
            stdout,
            public,
            admin,
        }
    }

    /// The next line of standard output; `None` when it is closed.
    pub(crate) fn line(&self) -> Option<String> {
        self.stdout.recv_timeout(PATIENCE).ok()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone, usually.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Shown by a failing test; read on even when nobody listens, so that the pipe never fills.
            eprintln!("  | {line}");
            let _ = sender.send(line);
        }
    });
    receiver
}

fn address_in(lines: &mpsc::Receiver<String>, before: &str, after: &str) -> SocketAddr {
    loop {
        let line = lines.recv_timeout(PATIENCE).expect("it ended or is silent") + "\n";
        let found = line
            .split_once(before)
            .and_then(|(_, rest)| rest.split_once(after));
        if let Some((address, _)) = found {
            return address.parse().unwrap();
        }
    }
}

/// The status and the whole text (head and body) of an answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    get_with(address, path, &[("Host", &address.to_string())])
}

/// The same with headers of one's own, the `Host` among them.
pub(crate) fn get_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    request(address, "GET", path, headers)
}

/// The same with a method of one's own and no body.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nConnection: close\r\n").unwrap();
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n").unwrap();
    }
    write!(stream, "\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}
