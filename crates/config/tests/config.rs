//! Layering, mistakes and secrets, through the public interface.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use jarvis_config::{
    Config, ListenAddress, LogFormat, NodeEntry, Overrides, Registration, RequestRate, Sources,
};
use std::{ffi::OsString, fs, path::PathBuf};
use tempfile::TempDir;

struct Fixture {
    dir: TempDir,
    sources: Sources,
}

impl Fixture {
    fn new(toml: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("jarvis.toml");
        fs::write(&file, toml).unwrap();
        let sources = Sources {
            file: Some(file),
            environment: vec![("HOME".into(), "/home/ada".into())],
            flags: Overrides::default(),
        };
        Self { dir, sources }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        let pair = (OsString::from(name), OsString::from(value));
        self.sources.environment.push(pair);
        self
    }

    fn problems(&self) -> Vec<String> {
        let error = self.sources.load().unwrap_err();
        error.problems.iter().map(ToString::to_string).collect()
    }

    fn config(&self) -> Config {
        self.sources.load().unwrap().config
    }
}

#[test]
fn later_layers_win() {
    let mut fixture = Fixture::new("[engine]\nparallel = 2\nmax_queue = 7\n[log]\nformat='json'")
        .env("JARVIS_ENGINE_PARALLEL", "3")
        .env("JARVIS_ENGINE_MAX_QUEUE", "8");
    fixture
        .sources
        .flags
        .set("--parallel", "engine.parallel", Some(5));
    fixture
        .sources
        .flags
        .set("--threads", "server.threads", None::<usize>);
    let config = fixture.config();
    assert_eq!(config.engine.parallel, 5);
    assert_eq!(config.engine.max_queue, 8);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.server.threads, None);
    assert_eq!(config.limits.message_bytes, 65_536);
}

#[test]
fn variables_hold_every_kind_of_value() {
    let config = Fixture::new("")
        .env("JARVIS_SERVER_LISTEN", "localhost:9")
        .env("JARVIS_ENGINE_PREFIX_REUSE", "false")
        .env("JARVIS_NODES_URLS", "http://a:1, http://b:2")
        .env("JARVIS_AUTH_REGISTRATION", "invite")
        .config();
    assert_eq!(config.server.listen, Some(ListenAddress::loopback(9)));
    assert!(!config.engine.prefix_reuse);
    assert_eq!(
        config.nodes.urls,
        ["http://a:1".into(), "http://b:2".into()]
    );
    assert_eq!(config.auth.registration, Registration::Invite);
}

#[test]
fn a_node_is_an_address_or_a_table_that_says_more() {
    let fixture = Fixture::new(
        "[nodes]
urls = [
    'http://a:1',
    { url = 'http://b', name = 'large', slots = 8, weight = 3 },
    { url = 'dns+http://c', slots = 2, weight = 0 },
    { url = 'http://d/' },
]",
    );
    let expected = [
        NodeEntry::from("http://a:1"),
        NodeEntry {
            name: Some("large".into()),
            slots: Some(8),
            weight: Some(3),
            ..NodeEntry::from("http://b")
        },
        NodeEntry {
            slots: Some(2),
            weight: Some(0),
            ..NodeEntry::from("dns+http://c")
        },
        NodeEntry::from("http://d/"),
    ];
    assert_eq!(fixture.config().nodes.urls, expected);
    let shown = fixture.sources.load().unwrap().show();
    assert!(shown.contains("slots = 8, "), "{shown}");
    assert_eq!(Fixture::new(&shown).config().nodes.urls, expected);

    let tables = Fixture::new("[[nodes.urls]]\nurl = 'http://a:1'\n").config();
    assert_eq!(tables.nodes.urls, ["http://a:1".into()]);
    let named = fixture.env("JARVIS_NODES_URLS", "http://e").config();
    assert_eq!(named.nodes.urls, ["http://e".into()], "later layers win");
}

#[test]
fn mistakes_about_nodes_name_the_node() {
    let long = "n".repeat(256);
    for (urls, expected) in [
        (
            "{ url = 'http://a', weights = 2 }",
            "`nodes.urls`, entry 2, `weights`: unknown key; did you mean `weight`?",
        ),
        (
            "{ url = 'http://a', slots = 'many' }",
            "`nodes.urls`, entry 2, `slots`: invalid type: found string \"many\", expected u32",
        ),
        (
            "{ url = 'http://a', weight = -1 }",
            "`nodes.urls`, entry 2, `weight`: invalid value",
        ),
        (
            "{ slots = 2 }",
            "`nodes.urls`, entry 2: missing field `url`",
        ),
        (
            "5",
            "`nodes.urls`, entry 2: invalid type: found signed int `5`, expected an address, or a table with `url`",
        ),
        (
            "{ url = 'a:1', slots = 0 }",
            "nodes.urls: `a:1` is not a node's address; write it as http://host:11434",
        ),
        (
            "{ url = 'http://ada:hush@a', slots = 0 }",
            "nodes.urls: `a` is not a node's address",
        ),
        (
            "{ url = 'http://a', slots = 0 }",
            "nodes.urls: `slots` of http://a must be from 1 to 1000000",
        ),
        (
            "{ url = 'http://a', name = '' }",
            "nodes.urls: `name` of http://a must have 1 to 255 visible ASCII characters",
        ),
        (
            "{ url = 'http://a', name = 'a b' }",
            "nodes.urls: `name` of http://a must have 1 to 255 visible",
        ),
        (
            &format!("{{ url = 'http://a', name = '{long}' }}"),
            "nodes.urls: `name` of http://a must have 1 to 255 visible",
        ),
        (
            "{ url = 'http://a', name = 'embedded' }",
            "nodes.urls: `embedded` is what `serve` calls a node of its own; give http://a another `name`",
        ),
        (
            "{ url = 'dns+http://a', name = 'a' }",
            "nodes.urls: dns+http://a stands for several nodes, which are called by their addresses",
        ),
        (
            "'http://FIRST:11434/'",
            "nodes.urls: http://FIRST:11434/ stands there twice; keep one of them",
        ),
        (
            "{ url = 'http://a', name = 'first:11434' }",
            "nodes.urls: two nodes are called `first:11434`; give http://a another `name`",
        ),
    ] {
        let toml = format!("[nodes]\nurls = ['http://first', {urls}]\n");
        let fixture = Fixture::new(&toml);
        let problems = fixture.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(expected), "{urls}: {problems:?}");
        assert!(!problems[0].contains("hush"), "{problems:?}");
        if expected.starts_with('`') {
            assert!(problems[0].contains("jarvis.toml: "), "{problems:?}");
        }
    }
    // A name with several addresses may have one that also stands there by itself.
    Fixture::new("[nodes]\nurls = ['http://a', 'dns+http://a']\n").config();
}

#[test]
fn all_mistakes_are_listed_at_once_with_their_place() {
    let fixture = Fixture::new(
        "[engine]\nparalel = 2\nmax_queue = 'many'\nparallel = 0\n[serve]\n[log]\nformat = 'xml'\n",
    )
    .env("JARVIS_ENGINE_THREDS", "2")
    .env("JARVIS_ENGINE_CONTEXT", "big");
    let file = fixture.dir.path().join("jarvis.toml").display().to_string();
    let problems = fixture.problems();
    let text = problems.join("\n");
    assert_eq!(problems.len(), 7, "{text}");
    for expected in [
        format!("{file}: unknown key `engine.paralel`; did you mean `engine.parallel`?"),
        format!("{file}: unknown section `[serve]`; did you mean `[server]`?"),
        format!("{file}: `engine.max_queue`: invalid type"),
        format!("{file}: `log.format`: unknown variant"),
        "environment variable JARVIS_ENGINE_THREDS: sets nothing; did you mean JARVIS_ENGINE_THREADS?".into(),
        "environment variable JARVIS_ENGINE_CONTEXT: `big` is not a whole number".into(),
        "engine.parallel: must be from 1 to 64".into(),
    ] {
        assert!(text.contains(&expected), "missing {expected:?} in:\n{text}");
    }
}

#[test]
fn rates_of_requests_are_written_as_the_guide_writes_them() {
    let config = Fixture::new("[limits]\naddress_rate = '90r/m'\n")
        .env("API_RATE_LIMIT", "20r/s")
        .config();
    assert_eq!(config.limits.user_rate, Some(RequestRate::PerSecond(20)));
    assert_eq!(config.limits.address_rate, Some(RequestRate::PerMinute(90)));
    let problems =
        Fixture::new("[limits]\nuser_rate = '20 a second'\nrequest_burst = 0\n").problems();
    let text = problems.join("\n");
    assert!(
        text.contains("`20 a second` is no rate of requests"),
        "{text}"
    );
    assert!(
        text.contains("limits.request_burst: must be from 1"),
        "{text}"
    );
}

#[test]
fn what_kubernetes_injects_is_passed_over() {
    Fixture::new("")
        .env("JARVIS_PORT", "tcp://10.0.0.1:8080")
        .env("JARVIS_PORT_8080_TCP_ADDR", "10.0.0.1")
        .env("JARVIS_SERVICE_HOST", "10.0.0.1")
        .env("JARVIS_SERVICE_PORT", "8080")
        .config();
}

#[test]
fn a_secret_never_shows() {
    let secret = "0123456789abcdef0123456789abcdef-hush";
    let fixture = Fixture::new("").env("JARVIS_SECRET_KEY", secret);
    let loaded = fixture.sources.load().unwrap();
    let held = loaded.config.auth.secret.as_ref().unwrap();
    assert_eq!(held.expose(), secret);
    for text in [
        loaded.show(),
        format!("{loaded:?}"),
        format!("{:?}", loaded.config),
    ] {
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("<redacted>"), "{text}");
    }
}

#[test]
fn a_secret_may_come_from_a_file() {
    let fixture = Fixture::new("");
    let path = fixture.dir.path().join("secret");
    fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
    let fixture = fixture.env("JARVIS_AUTH_SECRET_FILE", path.to_str().unwrap());
    let secret = fixture.config().auth.secret.unwrap();
    assert_eq!(secret.expose(), "0123456789abcdef0123456789abcdef");

    let both = fixture.env("JARVIS_AUTH_SECRET", "0123456789abcdef0123456789abcdef");
    assert_eq!(
        both.problems(),
        ["auth.secret_file: is set beside `auth.secret`; keep one of the two"]
    );
}

#[test]
fn a_database_url_is_shown_and_never_holds_the_password() {
    let url = "postgres://jarvis@db1:5432,db2:5433/jarvis";
    let fixture = Fixture::new("")
        .env("JARVIS_STORE_URL", url)
        .env("POSTGRES_PASSWORD", "hush-hush");
    let loaded = fixture.sources.load().unwrap();
    assert!(loaded.show().contains(url), "{}", loaded.show());
    for text in [loaded.show(), format!("{loaded:?}")] {
        assert!(!text.contains("hush"), "{text}");
    }
    let fixture = Fixture::new("[store]\nurl = 'postgres://jarvis:hush@db1/jarvis'\n");
    let text = fixture.problems().join("\n");
    assert!(text.contains("store.password_file"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn a_missing_file_is_an_error_only_if_it_was_asked_for() {
    let mut fixture = Fixture::new("");
    fixture.sources.file = Some(PathBuf::from("/nowhere/jarvis.toml"));
    let problems = fixture.problems();
    assert!(problems[0].contains("/nowhere/jarvis.toml: cannot be read"));
    fixture.sources.file = None;
    fixture.config();
}

#[test]
fn broken_toml_names_file_and_line() {
    let problems = Fixture::new("[engine\nparallel = 1").problems();
    assert!(problems[0].contains("jarvis.toml: is not valid TOML"));
    assert!(problems[0].contains("line 1"), "{}", problems[0]);
}

#[test]
fn the_data_directory_follows_the_base_directory_specification() {
    let fixture = Fixture::new("");
    let dir = |fixture: &Fixture| fixture.sources.load().unwrap().data_dir;
    assert_eq!(
        dir(&fixture),
        PathBuf::from("/home/ada/.local/share/jarvis")
    );
    let fixture = fixture.env("XDG_DATA_HOME", "/data");
    assert_eq!(dir(&fixture), PathBuf::from("/data/jarvis"));
    let fixture = fixture.env("JARVIS_DATA_DIR", "/elsewhere");
    assert_eq!(dir(&fixture), PathBuf::from("/elsewhere"));
}

#[test]
fn show_is_valid_configuration_and_names_sources() {
    let mut fixture = Fixture::new("[engine]\nparallel = 2\n").env("JARVIS_LOG_FILTER", "debug");
    let shown = fixture.sources.load().unwrap().show();
    assert!(shown.contains("filter = \"debug\"  # environment variable JARVIS_LOG_FILTER"));
    assert!(shown.contains("jarvis.toml\n"), "{shown}");
    let path = fixture.dir.path().join("again.toml");
    fs::write(&path, shown).unwrap();
    fixture.sources.file = Some(path);
    assert_eq!(fixture.config().engine.parallel, 2);
}

#[test]
fn the_committed_schema_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.schema.json");
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == Config::json_schema(),
        "docs/config.schema.json is out of date; run `make generate`"
    );
}

#[test]
fn a_database_for_several_without_redis_is_noted() {
    let notes = |toml: &str| Fixture::new(toml).config().notes().len();
    let store = "[store]\nurl = 'postgres://jarvis@db/jarvis'\n";
    let redis =
        "[redis]\nnodes = ['redis-1:6379']\n[auth]\nsecret = 'a secret of thirty-two characters'\n";
    assert_eq!(notes(""), 0);
    assert_eq!(notes(store), 1);
    assert_eq!(notes(&format!("{store}{redis}")), 0);
}
