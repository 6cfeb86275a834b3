//! The balancer as a process: what it says of its nodes, to whom, and what its replay prints.

use crate::process::{Process, get, get_with, request, run};
use serde_json::{Value, json};
use std::fs;

/// A balancer in front of a node that answers and one that does not.
fn balancer(home: &std::path::Path) -> (Process, Process) {
    let data = home.join("data").display().to_string();
    let engine = Process::start(home, &["engine", "--data-dir", &data]);
    let alive = format!("http://{}", engine.public);
    let nodes = ["--node", &alive, "--node", "http://127.0.0.1:9"];
    let balancer = Process::start(home, &[&["balancer"], &nodes[..]].concat());
    // Answered when each node has been looked at once.
    assert_eq!(get(balancer.public, "/api/tags").0, 200);
    (engine, balancer)
}

fn body(text: &str) -> Value {
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[test]
fn health_tells_the_nodes_and_their_scores() {
    let home = tempfile::tempdir().unwrap();
    let (engine, balancer) = balancer(home.path());
    let (status, text) = get(balancer.public, "/health");
    assert_eq!(status, 200, "{text}");
    let health = body(&text);
    assert_eq!(health["status"], "ok");
    assert_eq!(health["strategy"], "adaptive");
    let nodes = health["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 2, "{text}");
    assert_eq!(nodes[0]["name"], engine.public.to_string());
    assert_eq!(nodes[0]["up"], true, "{text}");
    assert_eq!(nodes[0]["health_score"], 1.0, "nothing happened yet");
    assert_eq!(nodes[1]["up"], false, "{text}");
    for node in nodes {
        for figure in ["active_connections", "error_rate", "queue_size"] {
            assert_eq!(node[figure].as_f64(), Some(0.0), "{figure}: {text}");
        }
    }
    assert!(balancer.stop().success());
}

#[test]
fn the_state_is_for_operators_only() {
    let home = tempfile::tempdir().unwrap();
    let (_engine, balancer) = balancer(home.path());
    let (status, text) = get(balancer.admin, "/admin/state");
    assert_eq!(status, 200, "{text}");
    let state = body(&text);
    assert_eq!(state["nodes"][1]["address"], "127.0.0.1:9");
    assert!(state["nodes"][1]["error"].is_string(), "{text}");
    for path in ["/admin/state", "/metrics"] {
        let (status, text) = get(balancer.public, path);
        assert_eq!(status, 404, "{path}: {text}");
    }
    assert!(balancer.stop().success());
}

#[test]
fn what_the_configuration_says_of_a_node_holds_for_it() {
    let home = tempfile::tempdir().unwrap();
    let toml = "[nodes]
urls = ['http://127.0.0.1:9', { url = 'http://127.0.0.1:8', name = 'large', slots = 8, weight = 3 },
    { url = 'dns+http://localhost:7', slots = 5, weight = 0 }]
[balancer]
slots = 2
";
    fs::write(home.path().join("jarvis.toml"), toml).unwrap();
    let balancer = Process::start(home.path(), &["balancer"]);
    let (status, text) = get(balancer.admin, "/admin/state");
    assert_eq!(status, 200, "{text}");
    let state = body(&text);
    let of = |name: &str| {
        let mut nodes = state["nodes"].as_array().unwrap().iter();
        let node = nodes.find(|node| node["name"] == name);
        let node = node.unwrap_or_else(|| panic!("no {name} in {text}"));
        (&node["address"], &node["slots"], &node["weight"])
    };
    let expected = |address, slots, weight| (json!(address), json!(slots), json!(weight));
    for (name, (address, slots, weight)) in [
        ("127.0.0.1:9", expected("127.0.0.1:9", 2, 1)),
        ("large", expected("127.0.0.1:8", 8, 3)),
        ("127.0.0.1:7", expected("127.0.0.1:7", 5, 0)),
    ] {
        assert_eq!(of(name), (&address, &slots, &weight));
    }
    assert!(balancer.stop().success());
    let (status, text, _) = run(home.path(), &["doctor"]);
    assert_eq!(status.code(), Some(1), "{text}");
    let said = "WRONG  node http://127.0.0.1:8: no answer from large (";
    assert!(text.contains(said), "{text}");
}

#[test]
fn a_node_that_is_taken_out_is_not_down_for_ever() {
    let home = tempfile::tempdir().unwrap();
    let (engine, balancer) = balancer(home.path());
    let line = |text: &str, node: &str| text.contains(&format!("upstream=\"{node}\""));
    let metrics = || get(balancer.admin, "/metrics").1;
    let alive = engine.public.to_string();
    assert!(line(&metrics(), &alive) && line(&metrics(), "127.0.0.1:9"));
    let host = balancer.admin.to_string();
    let path = "/admin/nodes/127.0.0.1:9";
    let removed = request(balancer.admin, "DELETE", path, &[("Host", &host)]);
    assert_eq!(removed.0, 204, "{}", removed.1);
    assert!(line(&metrics(), &alive) && !line(&metrics(), "127.0.0.1:9"));
    assert!(balancer.stop().success());
}

#[test]
fn pages_of_other_sites_do_not_reach_the_admin_listener() {
    let home = tempfile::tempdir().unwrap();
    let balancer = Process::start(home.path(), &["balancer"]);
    let ours = balancer.admin.to_string();
    let note = balancer.line().unwrap();
    assert!(
        note.contains("no nodes yet") && note.contains("--node"),
        "{note}"
    );
    assert!(
        note.contains(&format!("http://{ours}/admin/nodes")),
        "{note}"
    );
    let state = |headers: &[(&str, &str)]| get_with(balancer.admin, "/admin/state", headers).0;
    assert_eq!(state(&[("Host", &ours)]), 200);
    assert_eq!(state(&[("Host", "evil.example")]), 421);
    let foreign = [("Host", ours.as_str()), ("Origin", "https://evil.example")];
    assert_eq!(state(&foreign), 403);
    assert!(balancer.stop().success());
}

#[test]
fn a_replay_is_a_table_or_json() {
    let home = tempfile::tempdir().unwrap();
    let replay = "balancer replay synthetic --strategy adaptive,least_connections";
    let args: Vec<_> = replay.split(' ').collect();
    let (status, table, stderr) = run(home.path(), &args);
    assert!(status.success(), "{stderr}");
    let lines: Vec<_> = table.lines().filter(|line| !line.is_empty()).collect();
    let names: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(
        names.ends_with(&["strategy", "adaptive", "least_connections"]),
        "{table}"
    );
    let (status, json, stderr) = run(home.path(), &[&args[..], &["--json"]].concat());
    assert!(status.success(), "{stderr}");
    let report: Value = serde_json::from_str(&json).unwrap();
    let results = report["results"].as_array().unwrap();
    let names: Vec<_> = results.iter().map(|result| &result["strategy"]).collect();
    assert_eq!(names, ["adaptive", "least_connections"]);
    for result in results {
        let outcomes = ["completed", "shed", "failed"].map(|outcome| result[outcome].as_u64());
        let outcomes: Option<Vec<_>> = outcomes.into_iter().collect();
        let sum: u64 = outcomes.unwrap().iter().sum();
        assert_eq!(Some(sum), report["requests"].as_u64(), "{result}");
    }
}

#[test]
fn a_replay_that_cannot_be_says_why() {
    let home = tempfile::tempdir().unwrap();
    let trace = home.path().join("trace");
    let request = r#"{"at":0,"model":"m","prompt_bytes":5,"tokens":3}"#;
    fs::write(
        &trace,
        format!("{{\"jarvis_trace\":1}}\n{request}\n\nnot a record\n"),
    )
    .unwrap();
    let trace = trace.display().to_string();
    let said = |args: &[&str]| {
        let (status, stdout, stderr) = run(home.path(), &[&["balancer", "replay"], args].concat());
        assert_eq!(status.code(), Some(1), "{stdout}{stderr}");
        assert!(stderr.starts_with("jarvis: "), "{stderr}");
        stderr
    };
    let broken = said(&[&trace]);
    assert!(
        broken.contains(&trace) && broken.contains("line 4"),
        "{broken}"
    );
    let missing = said(&["no-such-file"]);
    assert!(
        missing.contains("the trace no-such-file cannot be read"),
        "{missing}"
    );
    let unknown = said(&["synthetic", "--strategy", "fastest"]);
    assert!(
        unknown.contains("--strategy") && unknown.contains("fastest"),
        "{unknown}"
    );
}
