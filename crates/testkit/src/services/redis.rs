//! A Redis Cluster of three masters.

use super::{Home, Process, free_port, program, run, template, wait_until};
use std::{path::PathBuf, process::Command, sync::OnceLock};

/// The configuration that deployment uses as well.
const TEMPLATE: &str = include_str!("../../../../deploy/redis/redis.conf.tmpl");
const PACKAGE: &str = "redis-server";
const SLOTS: usize = 16_384;

/// A Redis Cluster of three masters on the loopback, with a password and without replicas; append-only files and snapshots as
/// deployed. Nodes are counted from 0.
pub struct RedisCluster {
    nodes: Vec<Node>,
    home: Home,
}

struct Node {
    process: Option<Process>,
    port: u16,
    directory: PathBuf,
}

impl RedisCluster {
    /// How many masters there are.
    pub const MASTERS: usize = 3;
    /// The password of the default user.
    pub const PASSWORD: &'static str = "correct horse battery staple";

    /// Starts an empty cluster.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts an empty cluster with further settings for all nodes, as in `redis.conf`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let home = Home::new("redis");
        let secrets = home.write(
            "secrets.conf",
            &format!("requirepass \"{0}\"\nmasterauth \"{0}\"\n", Self::PASSWORD),
        );
        let nodes = (0..Self::MASTERS).map(|index| {
            let name = format!("node-{index}");
            let (directory, port) = (home.directory(&name), free_port());
            let mut text = template::fill(
                TEMPLATE,
                &[
                    ("REDIS_BIND", "127.0.0.1"),
                    ("REDIS_PORT", &port.to_string()),
                    ("REDIS_BUS_PORT", &(port + 10_000).to_string()),
                    ("REDIS_SECRETS", &secrets.display().to_string()),
                    ("REDIS_DIRECTORY", &directory.display().to_string()),
                    ("REDIS_MAXMEMORY", "256mb"),
                ],
            );
            for (name, value) in settings {
                text.extend([name, " ", value, "\n"]);
            }
            home.write(&format!("{name}/redis.conf"), &text);
            Node {
                process: None,
                port,
                directory,
            }
        });
        let nodes = nodes.collect();
        let mut cluster = Self { nodes, home };
        for node in 0..Self::MASTERS {
            cluster.launch(node);
        }
        cluster.join();
        cluster
    }

    /// The cluster that the tests of one binary share, started by the first that asks; it ends with the process. Who does it
    /// harm starts one of its own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RedisCluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Where its nodes are, as `host:port`.
    pub fn nodes(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect()
    }

    /// The port of a node.
    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].port
    }

    /// The node that holds a key.
    pub fn master_of(&self, key: &str) -> usize {
        let alive = self.alive();
        let slot: usize = self
            .command(alive, &["CLUSTER", "KEYSLOT", key])
            .parse()
            .unwrap();
        (0..Self::MASTERS)
            .find(|&node| range(node).contains(&slot))
            .unwrap()
    }

    /// Runs one command on a node, without following a redirection: the answer, a line for each value.
    ///
    /// # Panics
    /// If the node does not answer, or answers with an error.
    pub fn command(&self, node: usize, words: &[&str]) -> String {
        let answer = run(self.client(node).args(words));
        let answer = answer.trim_end();
        assert!(!answer.starts_with("ERR "), "{words:?}: {answer}");
        answer.to_owned()
    }

    /// Ends a node at once, as a lost machine does.
    pub fn kill9(&mut self, node: usize) {
        self.process(node).kill9();
        self.nodes[node].process = None;
    }

    /// Ends a node in order.
    pub fn stop(&mut self, node: usize) {
        self.process(node).stop();
        self.nodes[node].process = None;
    }

    /// Starts a node again on its old ports and data, after [`kill9`](Self::kill9) or [`stop`](Self::stop), and waits until
    /// the cluster is whole.
    pub fn restart(&mut self, node: usize) {
        self.restart_alone(node);
        self.wait_whole();
    }

    /// The same without waiting for the cluster.
    pub fn restart_alone(&mut self, node: usize) {
        assert!(self.nodes[node].process.is_none(), "it runs");
        self.launch(node);
    }

    /// Moves all slots that a node has had from the start to another one, key by key, as an operator does who takes a node out.
    /// From then on [`master_of`](Self::master_of) knows no better.
    pub fn reshard(&self, from: usize, to: usize) {
        let ids = [from, to].map(|node| self.command(node, &["CLUSTER", "MYID"]));
        let entrance = format!("127.0.0.1:{}", self.port(to));
        let mut client = self.home.command(program("redis-cli", "redis-tools"));
        client
            .env("REDISCLI_AUTH", Self::PASSWORD)
            .args(["--cluster", "reshard", &entrance, "--cluster-yes"])
            .args(["--cluster-from", &ids[0], "--cluster-to", &ids[1]])
            .args(["--cluster-slots", &range(from).len().to_string()]);
        run(&mut client);
        self.wait_whole();
    }

    /// Stops the clock for a node; its connections stay open.
    pub fn pause(&mut self, node: usize) {
        self.process(node).pause();
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&mut self, node: usize) {
        self.process(node).resume();
    }

    /// The directory of a node: its append-only files, snapshots and view of the cluster.
    pub fn directory(&self, node: usize) -> PathBuf {
        self.nodes[node].directory.clone()
    }

    /// Waits until every node that runs sees all slots served.
    pub fn wait_whole(&self) {
        wait_until("the Redis Cluster is whole", || {
            (0..Self::MASTERS)
                .filter(|&node| self.nodes[node].process.is_some())
                .all(|node| {
                    let info = self.client(node).args(["CLUSTER", "INFO"]).output();
                    info.is_ok_and(|info| {
                        let info = String::from_utf8_lossy(&info.stdout).into_owned();
                        info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
                    })
                })
        });
    }

    fn process(&mut self, node: usize) -> &mut Process {
        self.nodes[node].process.as_mut().expect("it runs")
    }

    fn alive(&self) -> usize {
        let alive = self.nodes.iter().position(|node| node.process.is_some());
        alive.expect("a node that runs")
    }

    fn launch(&mut self, node: usize) {
        let server = program("redis-server", PACKAGE);
        let mut command = self.home.command(server);
        command.arg(self.nodes[node].directory.join("redis.conf"));
        let log = self.nodes[node].directory.join("redis.log");
        let mut process = Process::start("redis-server", command, &log);
        process.wait_ready(|| {
            let pong = self.client(node).arg("PING").output();
            pong.is_ok_and(|pong| pong.stdout.starts_with(b"PONG"))
        });
        self.nodes[node].process = Some(process);
    }

    /// Makes one cluster of the nodes.
    fn join(&self) {
        for node in 0..Self::MASTERS {
            let slots = range(node);
            let (first, last) = (slots.start.to_string(), (slots.end - 1).to_string());
            self.command(node, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            self.command(
                node,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(node + 1).to_string()],
            );
        }
        for other in 1..Self::MASTERS {
            let (port, bus) = (
                self.port(other).to_string(),
                (self.port(other) + 10_000).to_string(),
            );
            self.command(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        self.wait_whole();
    }

    fn client(&self, node: usize) -> Command {
        let mut client = self.home.command(program("redis-cli", "redis-tools"));
        client.env("REDISCLI_AUTH", Self::PASSWORD).args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port(node).to_string(),
        ]);
        client
    }
}

/// The slots of a node.
fn range(node: usize) -> std::ops::Range<usize> {
    let first = |node| node * SLOTS / RedisCluster::MASTERS;
    first(node)..first(node + 1)
}
