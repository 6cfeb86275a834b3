//! Starting, answering, stopping.

use crate::process::{Process, get, run};
use rustix::process::Signal;
use std::net::TcpStream;

#[test]
fn the_public_port_says_ok_and_no_more() {
    let home = tempfile::tempdir().unwrap();
    let web = Process::start(home.path(), &["web"]);
    let (status, text) = get(web.public, "/health");
    assert_eq!(status, 200);
    assert!(text.ends_with(r#"{"status":"ok"}"#), "{text}");
    for hidden in ["/metrics", "/health/live", "/health/ready"] {
        let (_, public) = get(web.public, hidden);
        assert!(!public.contains("application/json"), "{hidden}: {public}");
        assert!(
            !public.contains("text/plain; version"),
            "{hidden}: {public}"
        );
        assert_eq!(get(web.admin, hidden).0, 200, "{hidden}");
    }
    assert!(web.stop().success());
}

#[test]
fn the_page_is_served_with_its_security_headers() {
    let home = tempfile::tempdir().unwrap();
    let web = Process::start(home.path(), &["web"]);
    let (_, text) = get(web.public, "/c/some-conversation");
    let head = text.split("\r\n\r\n").next().unwrap();
    assert!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    assert!(head.contains("text/html"), "{head}");
    assert!(web.stop().success());
}

#[test]
fn a_role_stops_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = tempfile::tempdir().unwrap();
        let mut web = Process::start(home.path(), &["web"]);
        web.signal(signal);
        assert!(web.wait().success());
        assert!(TcpStream::connect(web.public).is_err());
    }
}

#[test]
fn help_and_version_need_no_configuration() {
    let home = tempfile::tempdir().unwrap();
    let (status, text, _) = run(home.path(), &["--version"]);
    assert!(status.success());
    assert!(text.starts_with("jarvis "), "{text}");
    let (status, text, _) = run(home.path(), &["--help"]);
    assert!(status.success());
    assert!(text.contains("doctor"), "{text}");
}
