//! One PostgreSQL server.

use super::{Home, Process, free_port, run, wait_until};
use rustix::process::Signal;
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// A PostgreSQL server on the loopback that asks for passwords (SCRAM), with a superuser `postgres` and an ordinary user `jarvis`.
///
/// It does not flush to the disk: what is committed survives the death of the processes, not of the machine.
pub struct Postgres {
    process: Option<Process>,
    port: u16,
    data: PathBuf,
    home: Home,
}

/// The oldest version that Jarvis is tested on.
const OLDEST: u32 = 15;

impl Postgres {
    /// The password of both users.
    pub const PASSWORD: &'static str = "correct horse battery staple";
    /// The ordinary user, who owns what [`create_database`](Self::create_database) makes.
    pub const USER: &'static str = "jarvis";

    /// Starts an empty server.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts an empty server with further settings, as in `postgresql.conf`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let home = Home::new("postgres");
        let data = home.path().join("data");
        let password = home.write("password", Self::PASSWORD);
        run(home
            .command(bin("initdb"))
            .arg("--pgdata")
            .arg(&data)
            .arg("--pwfile")
            .arg(password)
            .args(["--username=postgres", "--auth=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]));
        let mut server = Self {
            process: None,
            port: free_port(),
            data,
            home,
        };
        server.configure(settings);
        server.launch();
        server.psql(
            "postgres",
            &format!(
                "CREATE ROLE {user} LOGIN PASSWORD '{}'; GRANT pg_read_all_stats TO {user}",
                Self::PASSWORD,
                user = Self::USER
            ),
        );
        server
    }

    /// The server that the tests of one binary share, started by the first that asks; it ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A standby that follows this server by streaming replication.
    #[must_use]
    pub fn standby(&self) -> Self {
        let home = Home::new("standby");
        let data = home.path().join("data");
        run(home
            .command(bin("pg_basebackup"))
            .env("PGPASSWORD", Self::PASSWORD)
            .args(["--host=127.0.0.1", "--username=postgres", "--no-sync"])
            .args(["--checkpoint=fast", "--write-recovery-conf"])
            .arg(format!("--port={}", self.port))
            .arg("--pgdata")
            .arg(&data));
        let mut standby = Self {
            process: None,
            port: free_port(),
            data,
            home,
        };
        standby.configure(&[]);
        standby.launch();
        standby
    }

    /// Waits until this standby has all that `primary` has written by now.
    pub fn catch_up(&self, primary: &Self) {
        let written = primary.psql("postgres", "SELECT pg_current_wal_lsn()");
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'");
        wait_until("the standby catches up", || {
            self.psql("postgres", &has) == "t"
        });
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the ordinary user finds a database, without the password.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{}@127.0.0.1:{}/{database}",
            Self::USER,
            self.port
        )
    }

    /// Makes an empty database of the ordinary user's, with a name that was not there.
    pub fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql(
            "postgres",
            &format!("CREATE DATABASE {name} OWNER {}", Self::USER),
        );
        name
    }

    /// Runs statements as the superuser, in one transaction: the values that came back, a line for a row, columns parted by `|`.
    ///
    /// # Panics
    /// With the server's complaint if one fails.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        run(self.client(database).arg("--command").arg(sql))
            .trim_end()
            .to_owned()
    }

    /// Ends it and all its backends at once, as a lost machine does.
    pub fn kill9(&mut self) {
        self.process_mut().kill9();
        self.process = None;
    }

    /// Ends it in order without waiting for its clients (the mode `fast`).
    pub fn stop(&mut self) {
        let process = self.process_mut();
        process.signal(Signal::INT);
        process.wait_end();
        self.process = None;
    }

    /// Starts it again on its old port and data, after [`kill9`](Self::kill9) or [`stop`](Self::stop).
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs");
        self.launch();
    }

    /// The next start is that of a standby that has nobody to follow: it can be read and takes no writes until it is promoted.
    pub fn become_standby(&self) {
        assert!(self.process.is_none(), "it runs");
        fs::write(self.data.join("standby.signal"), "").unwrap();
    }

    /// Stops the clock for all of it; its connections stay open.
    pub fn pause(&mut self) {
        self.process_mut().pause();
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.process_mut().resume();
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    fn configure(&self, settings: &[(&str, &str)]) {
        let own = [
            ("listen_addresses", "127.0.0.1"),
            ("port", &self.port.to_string()),
            ("unix_socket_directories", ""),
            ("fsync", "off"),
            ("max_connections", "300"),
            ("shared_buffers", "64MB"),
            ("log_min_duration_statement", "-1"),
        ];
        let path = self.data.join("postgresql.auto.conf");
        // A standby finds here how to reach its primary.
        let mut lines = fs::read_to_string(&path).unwrap();
        for (name, value) in own.iter().chain(settings) {
            writeln!(lines, "{name} = '{value}'").unwrap();
        }
        fs::write(path, lines).unwrap();
    }

    fn launch(&mut self) {
        let mut command = self.home.command(bin("postgres"));
        command.arg("-D").arg(&self.data);
        let log = self.home.path().join("postgres.log");
        let mut process = Process::start("postgres", command, &log);
        process.wait_ready(|| {
            self.client("postgres")
                .args(["--command", "SELECT 1"])
                .output()
                .is_ok_and(|output| output.status.success())
        });
        self.process = Some(process);
    }

    fn client(&self, database: &str) -> Command {
        let mut client = self.home.command(bin("psql"));
        client
            .env("PGPASSWORD", Self::PASSWORD)
            .env("PGCONNECT_TIMEOUT", "5")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1"])
            .args(["--host", "127.0.0.1", "--username", "postgres"])
            .arg("--port")
            .arg(self.port.to_string())
            .arg("--dbname")
            .arg(database);
        client
    }
}

/// A program of the newest PostgreSQL installed.
///
/// # Panics
/// With the name of the package to install if there is none, or only one that is too old.
pub(super) fn bin(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .filter(|&version| version >= OLDEST)
        .unwrap_or_else(|| {
            panic!("no PostgreSQL {OLDEST} is installed: apt-get install postgresql")
        });
    let path = Path::new("/usr/lib/postgresql")
        .join(newest.to_string())
        .join("bin")
        .join(program);
    assert!(
        path.is_file(),
        "`{}` is not there: apt-get install postgresql",
        path.display()
    );
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_keeps_what_it_acknowledged_through_a_kill_and_leaves_nothing_behind() {
        let mut server = Postgres::start();
        let database = server.create_database();
        server.psql(&database, "CREATE TABLE t (x BIGINT)");
        server.psql(&database, "INSERT INTO t VALUES (1)");
        let standby = server.standby();
        server.kill9();
        server.restart();
        assert_eq!(server.psql(&database, "SELECT x FROM t"), "1");
        server.stop();
        server.restart();
        assert_eq!(server.psql(&database, "SELECT x FROM t"), "1");
        standby.catch_up(&server);
        assert_eq!(standby.psql(&database, "SELECT x FROM t"), "1");
        let homes = [server.home.path(), standby.home.path()].map(Path::to_path_buf);
        drop((server, standby));
        for home in homes {
            assert!(!home.exists(), "{}", home.display());
        }
    }
}
