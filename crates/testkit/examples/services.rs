//! The real services of the tests, for tests and measurements in other languages: `services patroni:2 redis` starts what is named,
//! prints one line of JSON that says where it is, then obeys lines such as `redis kill9 1`, each answered by `ok …` or `no …`.
//! Everything ends with the standard input. `postgres:durable` is a server that flushes to the disk before it acknowledges;
//! `patroni:2,etcd3,strict` has three members of etcd (`etcd leader`, `etcd kill9 0`) and refuses writes while its standby is away.
#![allow(clippy::unwrap_used, reason = "a tool of the tests fails by panicking")]

use jarvis_testkit::services::{Patroni, Postgres, RedisCluster, Shape};
use serde_json::{Map, json};
use std::{
    env,
    io::{self, BufRead as _, Write as _},
    time::Duration,
};

/// How long a cluster may take to agree on a primary.
const FAILOVER: Duration = Duration::from_mins(1);

/// What was asked for; each service at most once.
#[derive(Default)]
struct Services {
    postgres: Option<Postgres>,
    patroni: Option<Patroni>,
    redis: Option<RedisCluster>,
}

/// Does to a service, or to one of its nodes, what is named. All of them have these four.
macro_rules! act {
    ($named:expr, $service:expr $(, $node:expr)?) => {{
        match $named {
            "kill9" => $service.kill9($($node)?),
            "restart" => $service.restart($($node)?),
            "pause" => $service.pause($($node)?),
            "resume" => $service.resume($($node)?),
            _ => return None,
        }
        String::new()
    }};
}

fn main() {
    let mut services = Services::default();
    let mut places = Map::new();
    for named in env::args().skip(1) {
        let (name, place) = services.start(&named);
        places.insert(name, place);
    }
    say(&serde_json::Value::from(places).to_string());
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        match services.obey(&line) {
            Some(told) => say(format!("ok {told}").trim_end()),
            None => say(&format!("no: `{line}` is not understood")),
        }
    }
}

/// `2`, `2,etcd3`, `2,etcd3,strict`: what is not named is as by default.
fn shape(how: &str) -> Shape {
    let mut shape = Shape::default();
    for word in how.split(',').filter(|word| !word.is_empty()) {
        match word.strip_prefix("etcd") {
            _ if word == "strict" => shape.strict = true,
            Some(members) => shape.etcd = members.parse().unwrap(),
            None => shape.nodes = word.parse().unwrap(),
        }
    }
    shape
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

impl Services {
    fn start(&mut self, named: &str) -> (String, serde_json::Value) {
        let (name, how) = named.split_once(':').unwrap_or((named, ""));
        let place = match (name, how) {
            ("postgres", "" | "durable") => {
                let flush = if how.is_empty() { "off" } else { "on" };
                let server = Postgres::with(&[("fsync", flush)]);
                let server = self.postgres.insert(server);
                json!({"url": server.url(&server.create_database()), "password": Postgres::PASSWORD})
            }
            ("patroni", how) => {
                let cluster = self.patroni.insert(Patroni::start(shape(how)));
                json!({"url": cluster.url(), "password": cluster.password()})
            }
            ("redis", "") => {
                let cluster = self.redis.insert(RedisCluster::start());
                json!({"nodes": cluster.nodes(), "password": RedisCluster::PASSWORD})
            }
            _ => panic!("there is no service `{named}`"),
        };
        (name.to_owned(), place)
    }

    /// What there is to say of a command that was carried out; `None` for one that is none.
    fn obey(&mut self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(match words[..] {
            ["patroni", "primary"] => self.patroni.as_ref()?.wait_for_writer(FAILOVER).to_string(),
            ["patroni", "standby"] => self.patroni.as_ref()?.wait_for_standby().to_string(),
            ["etcd", "leader"] => {
                let cluster = self.patroni.as_mut()?;
                cluster.etcd().wait_for_leader().to_string()
            }
            ["etcd", act, member] => {
                let etcd = self.patroni.as_mut()?.etcd();
                match act {
                    "kill9" => etcd.kill9(member.parse().ok()?),
                    "restart" => etcd.restart(member.parse().ok()?),
                    _ => return None,
                }
                String::new()
            }
            ["redis", "whole"] => {
                self.redis.as_ref()?.wait_whole();
                String::new()
            }
            ["postgres", "database"] => {
                let server = self.postgres.as_ref()?;
                server.url(&server.create_database())
            }
            ["postgres", act] => act!(act, self.postgres.as_mut()?),
            ["patroni", act, node] => act!(act, self.patroni.as_mut()?, node.parse().ok()?),
            ["redis", act, node] => act!(act, self.redis.as_mut()?, node.parse().ok()?),
            _ => return None,
        })
    }
}
