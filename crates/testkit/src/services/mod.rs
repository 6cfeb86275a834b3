//! Real servers for tests, from Debian's packages: each on free ports of this machine, in a directory of its own under the
//! temporary one, as an ordinary user, gone with the value that started it.
//!
//! A launcher owns a [`Home`] and one [`Process`] per server, and waits by asking ([`wait_until`]), never by sleeping a guess. All
//! of it is blocking, so that it serves plain threads and tests on a runtime alike.

mod etcd;
mod home;
mod http;
mod patroni;
mod postgres;
mod process;
mod redis;
mod template;

pub use etcd::Etcd;
pub use home::Home;
pub use patroni::{Patroni, Shape};
pub use postgres::Postgres;
pub use process::Process;
pub use redis::RedisCluster;

use std::{
    collections::HashSet,
    env,
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a server may take to come up, or to go, on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A TCP port of the loopback that nobody listens on, given once in this process. It lies from 10000 to 19999: below the ports that
/// outgoing connections take by themselves, and with room for a second one ten thousand above (Redis Cluster's bus).
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 10_000;
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let start = u16::try_from(RandomState::new().hash_one(0) % u64::from(COUNT)).unwrap();
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let port = (0..COUNT)
        .map(|n| FIRST + (start + n) % COUNT)
        .find(|&port| !given.contains(&port) && free(port) && free(port + COUNT))
        .expect("a free port");
    given.insert(port);
    port
}

/// Asks until the answer is yes.
///
/// # Panics
/// With `what` after [`PATIENCE`].
pub fn wait_until(what: &str, mut yes: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !yes() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where a program lies: on the search path or in one of the directories that Debian keeps off it.
///
/// # Panics
/// With the name of the package to install if it is nowhere.
pub fn program(name: &str, package: &str) -> PathBuf {
    let search = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&search)
        .chain(["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("`{name}` is not installed: apt-get install {package}"))
}

/// Runs a command to its end: what it wrote to its standard output.
///
/// # Panics
/// With what it wrote to its standard error if it fails.
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{} ended with {}: {}",
        command.get_program().display(),
        output.status,
        text(&output.stderr)
    );
    text(&output.stdout)
}
