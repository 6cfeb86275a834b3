//! PostgreSQL servers that Patroni keeps in line.

use super::{
    Etcd, Home, Process, free_port, http, postgres,
    process::{freeze_tree, kill_tree, thaw_tree},
    program, template, wait_until,
};
use rustix::process::Pid;
use serde_json::Value;
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const CONFIGURATION: &str = include_str!("../../../../deploy/postgres/patroni.yml.tmpl");
const BOOTSTRAP: &str = include_str!("../../../../deploy/postgres/bootstrap");

/// Nodes of PostgreSQL under Patroni, on the loopback, configured as a deployment is: a database and a user `jarvis`, and passwords
/// that are new at each start.
///
/// A node is named by its number, from 0.
pub struct Patroni {
    nodes: Vec<Node>,
    passwords: Passwords,
    strict: bool,
    etcd: Etcd,
    home: Home,
}

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Nodes of PostgreSQL.
    pub nodes: usize,
    /// Members of etcd: one or three.
    pub etcd: usize,
    /// Whether writes are refused rather than kept by the primary alone (`synchronous_mode_strict`).
    pub strict: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 2,
            etcd: 1,
            strict: false,
        }
    }
}

struct Node {
    name: String,
    port: u16,
    rest: u16,
    process: Option<Process>,
    paused: bool,
}

struct Passwords {
    superuser: String,
    replication: String,
    rewind: String,
    rest: String,
    jarvis: String,
}

impl Patroni {
    /// The user that owns the database.
    pub const USER: &'static str = "jarvis";
    /// The database.
    pub const DATABASE: &'static str = "jarvis";

    /// Starts a cluster, and waits until the first node is the primary, the others stream from it and one of them is synchronous.
    pub fn start(shape: Shape) -> Self {
        let nodes = (1..=shape.nodes)
            .map(|n| Node {
                name: format!("node{n}"),
                port: free_port(),
                rest: free_port(),
                process: None,
                paused: false,
            })
            .collect();
        let mut cluster = Self {
            nodes,
            passwords: Passwords::new(),
            strict: shape.strict,
            etcd: Etcd::start(shape.etcd),
            home: Home::new("patroni"),
        };
        cluster.home.write("bootstrap", BOOTSTRAP);
        cluster.home.write("password", &cluster.passwords.jarvis);
        for node in 0..shape.nodes {
            cluster.configure(node);
        }
        for node in 0..shape.nodes {
            cluster.restart(node);
            let role = if node == 0 { "/primary" } else { "/replica" };
            cluster.wait_answer(node, role);
        }
        if shape.nodes > 1 {
            cluster.wait_for_standby();
        }
        cluster
    }

    /// Host and port of each node's PostgreSQL.
    pub fn hosts(&self) -> Vec<(String, u16)> {
        self.nodes
            .iter()
            .map(|node| (Ipv4Addr::LOCALHOST.to_string(), node.port))
            .collect()
    }

    /// Where Jarvis finds its database, without the password.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .hosts()
            .iter()
            .map(|(host, port)| format!("{host}:{port}"))
            .collect();
        format!(
            "postgres://{}@{}/{}",
            Self::USER,
            hosts.join(","),
            Self::DATABASE
        )
    }

    /// The password of [`Self::USER`].
    pub fn password(&self) -> &str {
        &self.passwords.jarvis
    }

    /// The etcd below.
    pub fn etcd(&mut self) -> &mut Etcd {
        &mut self.etcd
    }

    /// The node that holds the leader lock and takes writes. A paused node is not asked.
    pub fn primary(&self) -> Option<usize> {
        // Patroni calls itself the primary from the moment it has the lock, a little before the promotion.
        let writes = |node| self.psql(node, "SELECT NOT pg_is_in_recovery()") == Ok("t".into());
        (0..self.nodes.len()).find(|&node| self.answers(node, "/primary") && writes(node))
    }

    /// Waits until every node that runs has had a word from etcd that it had not had before.
    pub fn wait_for_etcd(&self) {
        let seen = |node: &Node| {
            let (_, body) = http::get(node.rest, "/patroni")?;
            let answer: Value = serde_json::from_str(&body).ok()?;
            answer["dcs_last_seen"].as_u64()
        };
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            let before = seen(node);
            wait_until("Patroni reaches etcd", || seen(node) > before);
        }
    }

    /// The nodes that say they are standbys and run. A paused node is not asked.
    pub fn replicas(&self) -> Vec<usize> {
        (0..self.nodes.len())
            .filter(|&node| self.answers(node, "/replica"))
            .collect()
    }

    /// The standby that every commit waits for, and that may be promoted.
    pub fn standby(&self) -> Option<usize> {
        let waited_for =
            "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'";
        let name = self.psql(self.primary()?, waited_for).ok()?;
        let node = self.nodes.iter().position(|node| node.name == name)?;
        // What etcd says of it decides about a promotion.
        self.answers(node, "/sync").then_some(node)
    }

    /// Waits until there is a primary.
    ///
    /// # Panics
    /// With the logs of all nodes if it takes longer than `within`.
    pub fn wait_for_writer(&self, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        loop {
            if let Some(node) = self.primary() {
                return node;
            }
            assert!(
                Instant::now() < deadline,
                "no primary within {within:?}\n{}",
                self.logs()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until commits wait for a standby again.
    pub fn wait_for_standby(&self) -> usize {
        let mut standby = None;
        wait_until("a standby is synchronous", || {
            standby = self.standby();
            standby.is_some()
        });
        standby.expect("it was waited for")
    }

    /// Ends a node, Patroni and PostgreSQL, at once, as a lost machine does.
    pub fn kill9(&mut self, node: usize) {
        let postmaster = self.postmaster(node);
        let mut process = self.nodes[node].process.take().expect("it runs");
        // Neither sees the other die.
        process.pause();
        if let Some(postmaster) = postmaster {
            kill_tree(postmaster);
        }
        process.kill9();
        self.wait_gone(node);
    }

    /// Ends a node's PostgreSQL at once; its Patroni sees it.
    pub fn kill9_postgres(&mut self, node: usize) {
        kill_tree(self.postmaster(node).expect("it runs"));
    }

    /// Stops the clock for a node, Patroni and PostgreSQL; their connections stay open.
    pub fn pause(&mut self, node: usize) {
        if let Some(postmaster) = self.postmaster(node) {
            freeze_tree(postmaster);
        }
        let node = &mut self.nodes[node];
        node.paused = true;
        node.process.as_mut().expect("it runs").pause();
    }

    /// Lets a node go on after [`pause`](Self::pause).
    pub fn resume(&mut self, node: usize) {
        if let Some(postmaster) = self.postmaster(node) {
            thaw_tree(postmaster);
        }
        let node = &mut self.nodes[node];
        node.paused = false;
        node.process.as_mut().expect("it runs").resume();
    }

    /// Ends a node in order: as the primary it hands over first.
    pub fn stop(&mut self, node: usize) {
        self.nodes[node].process.take().expect("it runs").stop();
        self.wait_gone(node);
    }

    /// Starts a node that does not run, and does not wait for what becomes of it.
    pub fn restart(&mut self, node: usize) {
        assert!(self.nodes[node].process.is_none(), "it runs");
        let name = self.nodes[node].name.clone();
        let mut command = self.home.command(program("patroni", "patroni"));
        command
            // Debian's Patroni belongs to the system's Python and its packages.
            .env_remove("PYTHONHOME")
            .env_remove("PYTHONPATH")
            .arg(self.home.path().join(format!("{name}.yml")));
        let process = Process::start(&name, command, &self.log_file(node));
        self.nodes[node].process = Some(process);
    }

    /// Runs a statement on one node as the superuser: the values that came back, a line for a row, columns parted by `|`; else what
    /// the server complained of. Over a primary that waits for a standby it does not come back.
    pub fn psql(&self, node: usize, sql: &str) -> Result<String, String> {
        let output = self
            .home
            .command(postgres::bin("psql"))
            .env("PGPASSWORD", &self.passwords.superuser)
            .env("PGCONNECT_TIMEOUT", "5")
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1"])
            .args(["--host", "127.0.0.1", "--username", "postgres"])
            .args(["--port", &self.nodes[node].port.to_string()])
            .args(["--dbname", Self::DATABASE, "--command", sql])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// What the nodes have logged, Patroni and PostgreSQL.
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for node in 0..self.nodes.len() {
            let text = fs::read(self.log_file(node)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let name = &self.nodes[node].name;
            logs.extend(["--- log of ", name, " ---\n", &text, "\n"]);
        }
        logs
    }

    fn configure(&self, node: usize) {
        let Node {
            name, port, rest, ..
        } = &self.nodes[node];
        let run = self.home.directory(&format!("{name}.run"));
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let text = template::fill(
            CONFIGURATION,
            &[
                ("NODE", name),
                ("HOST", "127.0.0.1"),
                ("PORT", &port.to_string()),
                ("REST_PORT", &rest.to_string()),
                ("ETCD_HOSTS", &self.etcd.hosts()),
                ("NETWORK", "127.0.0.1/32"),
                ("DATA_DIR", &path(&self.data(node))),
                ("RUN_DIR", &path(&run)),
                (
                    "BIN_DIR",
                    &path(postgres::bin("postgres").parent().expect("a directory")),
                ),
                (
                    "BOOTSTRAP",
                    &format!("/bin/sh {}", path(&self.home.path().join("bootstrap"))),
                ),
                (
                    "JARVIS_PASSWORD_FILE",
                    &path(&self.home.path().join("password")),
                ),
                ("ARCHIVE_COMMAND", "/bin/true"),
                ("SYNCHRONOUS_STRICT", &self.strict.to_string()),
                ("WATCHDOG", "off"),
                ("SUPERUSER_PASSWORD", &self.passwords.superuser),
                ("REPLICATION_PASSWORD", &self.passwords.replication),
                ("REWIND_PASSWORD", &self.passwords.rewind),
                ("REST_PASSWORD", &self.passwords.rest),
            ],
        );
        self.home.write(&format!("{name}.yml"), &text);
    }

    fn data(&self, node: usize) -> PathBuf {
        let name = &self.nodes[node].name;
        self.home.path().join(format!("{name}.data"))
    }

    fn log_file(&self, node: usize) -> PathBuf {
        let name = &self.nodes[node].name;
        self.home.path().join(format!("{name}.log"))
    }

    fn answers(&self, node: usize, path: &str) -> bool {
        let node = &self.nodes[node];
        node.process.is_some()
            && !node.paused
            && http::get(node.rest, path).is_some_and(|(status, _)| status == 200)
    }

    fn wait_answer(&mut self, node: usize, path: &str) {
        let rest = self.nodes[node].rest;
        let process = self.nodes[node].process.as_mut().expect("it was launched");
        process.wait_ready(|| http::get(rest, path).is_some_and(|(status, _)| status == 200));
    }

    /// The node's first PostgreSQL process, which is no child of Patroni's.
    fn postmaster(&self, node: usize) -> Option<Pid> {
        let data = self.data(node);
        let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.parse().ok()?;
        // A file that was left behind may name a process of somebody else's by now.
        let place = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (place == data).then(|| Pid::from_raw(pid))?
    }

    fn wait_gone(&self, node: usize) {
        wait_until("PostgreSQL is gone", || self.postmaster(node).is_none());
    }
}

impl Passwords {
    fn new() -> Self {
        Self {
            superuser: template::password(),
            replication: template::password(),
            rewind: template::password(),
            rest: template::password(),
            jarvis: template::password(),
        }
    }
}
