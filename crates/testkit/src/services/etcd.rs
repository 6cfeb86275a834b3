//! etcd, where Patroni keeps its leader lock.

use super::{Home, Process, free_port, http, program, template, wait_until};

const CONFIGURATION: &str = include_str!("../../../../deploy/postgres/etcd.yml.tmpl");

/// An etcd of one member or of three, on the loopback.
pub struct Etcd {
    members: Vec<Member>,
    home: Home,
}

struct Member {
    name: String,
    client: u16,
    peer: u16,
    process: Option<Process>,
}

impl Etcd {
    /// Starts `count` members and waits until they have agreed on a leader.
    pub fn start(count: usize) -> Self {
        let members = (1..=count)
            .map(|n| Member {
                name: format!("etcd{n}"),
                client: free_port(),
                peer: free_port(),
                process: None,
            })
            .collect();
        let mut cluster = Self {
            members,
            home: Home::new("etcd"),
        };
        cluster.configure();
        // A member is ready when most of them are: start all before waiting for one.
        for member in 0..count {
            cluster.launch(member);
        }
        for member in 0..count {
            cluster.wait_ready(member);
        }
        cluster
    }

    /// `host:port` of each member, parted by commas.
    pub fn hosts(&self) -> String {
        let hosts: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("127.0.0.1:{}", member.client))
            .collect();
        hosts.join(",")
    }

    /// Ends one member at once.
    pub fn kill9(&mut self, member: usize) {
        self.members[member].process = None;
    }

    /// Starts a member again that was killed.
    pub fn restart(&mut self, member: usize) {
        assert!(self.members[member].process.is_none(), "it runs");
        self.launch(member);
        self.wait_ready(member);
    }

    fn configure(&self) {
        let peers: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer))
            .collect();
        for member in &self.members {
            // It insists on a directory of its own that nobody else reads.
            let data = self.home.directory(&member.name);
            let text = template::fill(
                CONFIGURATION,
                &[
                    ("MEMBER", &member.name),
                    ("DATA_DIR", &data.to_string_lossy()),
                    ("HOST", "127.0.0.1"),
                    ("CLIENT_PORT", &member.client.to_string()),
                    ("PEER_PORT", &member.peer.to_string()),
                    ("MEMBERS", &peers.join(",")),
                ],
            );
            self.home.write(&format!("{}.yml", member.name), &text);
        }
    }

    fn launch(&mut self, member: usize) {
        let member = &mut self.members[member];
        let mut command = self.home.command(program("etcd", "etcd-server"));
        command
            .arg("--config-file")
            .arg(self.home.path().join(format!("{}.yml", member.name)));
        let log = self.home.path().join(format!("{}.log", member.name));
        member.process = Some(Process::start(&member.name, command, &log));
    }

    fn wait_ready(&mut self, member: usize) {
        let member = &mut self.members[member];
        let client = member.client;
        let process = member.process.as_mut().expect("it was launched");
        process.wait_ready(|| {
            http::get(client, "/health")
                .is_some_and(|(status, body)| status == 200 && body.contains(r#""health":"true""#))
        });
    }

    /// The member that leads, waited for.
    pub fn wait_for_leader(&self) -> usize {
        let leads = |member: &Member| {
            member.process.is_some()
                && http::get(member.client, "/metrics").is_some_and(|(_, metrics)| {
                    metrics
                        .lines()
                        .any(|line| line == "etcd_server_is_leader 1")
                })
        };
        let mut leader = None;
        wait_until("etcd has a leader", || {
            leader = self.members.iter().position(leads);
            leader.is_some()
        });
        leader.expect("it was waited for")
    }
}
