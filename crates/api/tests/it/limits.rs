//! How often a sign-in may be tried, and how many requests may come.

use crate::{
    cluster::Cluster,
    server::{PASSWORD, World, options},
};
use jarvis_api::RateOptions;
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

fn rate(burst: u32) -> RateOptions {
    RateOptions {
        burst,
        refill: Duration::from_mins(1),
    }
}

#[tokio::test]
async fn one_address_may_try_so_often() {
    let mut options = options();
    options.rate_per_address = rate(4);
    let world = World::start_with(options).await;
    world.user("ana@example.org").await;
    let login = async || {
        let body = json!({"email": "ana@example.org", "password": PASSWORD});
        world.anonymous().post("/api/v1/auth/login", &body).await
    };
    for _ in 0..3 {
        assert_eq!(login().await.status, 200);
    }
    let refused = login().await;
    refused.is_problem(429, "too_many_requests");
    let wait: u64 = refused.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    let body = json!({"email": "b@example.org", "password": PASSWORD});
    let register = world.anonymous().post("/api/v1/auth/register", &body).await;
    register.is_problem(429, "too_many_requests");
    world.clock.advance(Duration::from_secs(wait));
    assert_eq!(login().await.status, 200);
}

#[tokio::test]
async fn one_account_may_be_tried_so_often_from_anywhere() {
    let mut options = options();
    options.rate_per_email = rate(2);
    let world = World::start_with(options).await;
    world.user("ana@example.org").await;
    world.user("ben@example.org").await;
    let login = async |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        world.anonymous().post("/api/v1/auth/login", &body).await
    };
    for _ in 0..2 {
        login("ana@example.org", "guess guess")
            .await
            .is_problem(401, "invalid_credentials");
    }
    login("Ana@example.org", "guess guess")
        .await
        .is_problem(429, "too_many_requests");
    assert_eq!(login("ben@example.org", PASSWORD).await.status, 200);
}

/// Guessing refresh tokens is bounded; those who are signed in renew theirs as often as they like.
#[tokio::test]
async fn renewals_that_fail_and_sign_outs_are_counted() {
    for path in ["/api/v1/auth/refresh", "/api/v1/auth/logout"] {
        let mut options = options();
        options.rate_per_address = rate(4);
        let world = World::start_with(options).await;
        let mut ana = world.user("ana@example.org").await;
        for _ in 0..6 {
            assert_eq!(ana.renew().await.status, 200);
        }
        let guess = async || {
            let cookie = [("cookie", "jarvis_refresh=guess")];
            let anonymous = world.anonymous();
            anonymous
                .request(hyper::Method::POST, path, &cookie, "")
                .await
        };
        for _ in 0..3 {
            assert_ne!(guess().await.status, 429);
        }
        guess().await.is_problem(429, "too_many_requests");
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(ana.renew().await.status, 200);
    }
}

#[tokio::test]
async fn one_user_may_send_so_many_requests_by_whatever_way() {
    let mut options = options();
    options.requests_per_user = Some(rate(3));
    let world = World::start_with(options).await;
    let (ana, ben) = (
        world.user("ana@example.org").await,
        world.user("ben@example.org").await,
    );
    let mut socket = world.socket(&ana).await;
    for _ in 0..3 {
        assert_eq!(ana.get("/api/v1/conversations").await.status, 200);
    }
    let refused = ana.get("/api/v1/conversations").await;
    refused.is_problem(429, "too_many_requests");
    assert_eq!(refused.headers["retry-after"], "61");
    let body = json!({"content": "hello"});
    let conversation = "/api/v1/conversations";
    ana.post(conversation, &json!({}))
        .await
        .is_problem(429, "too_many_requests");
    // A question over the socket is one too.
    let send =
        json!({"type": "send", "id": "one", "conversation_id": null, "content": body["content"]});
    socket.say(&send).await;
    let answer = socket.hear("error").await;
    assert_eq!(
        (&answer["code"], &answer["id"]),
        (&json!("too_many_requests"), &json!("one"))
    );
    // Somebody else at the same address is not concerned, nor is anybody who looks whether the server is there.
    assert_eq!(ben.get("/api/v1/conversations").await.status, 200);
    assert_eq!(world.anonymous().get("/health").await.status, 200);
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(ana.get("/api/v1/conversations").await.status, 200);
}

#[tokio::test]
async fn one_address_may_send_so_many_requests_whoever_sends_them() {
    let mut options = options();
    options.requests_per_address = Some(rate(6));
    options.trusted_proxies = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let world = World::start_with(options).await;
    let from = async |client: &str| {
        let header = [("x-forwarded-for", client)];
        let anonymous = world.anonymous();
        anonymous
            .request(hyper::Method::GET, "/api/v1/instance", &header, "")
            .await
    };
    for last in 1..=6 {
        let client = format!("2001:db8::{last}");
        assert_eq!(from(&client).await.status, 200);
    }
    from("2001:db8::7")
        .await
        .is_problem(429, "too_many_requests");
    assert_eq!(from("2001:db8:0:1::7").await.status, 200);
    for _ in 0..6 {
        assert_eq!(from("192.0.2.1").await.status, 200);
    }
    from("192.0.2.1").await.is_problem(429, "too_many_requests");
    assert_eq!(from("192.0.2.2").await.status, 200);
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(from("192.0.2.1").await.status, 200);
    from("192.0.2.1").await.is_problem(429, "too_many_requests");
}

/// Who is no proxy of ours speaks for nobody: neither for another address, nor for a connection that is encrypted.
#[tokio::test]
async fn nobody_becomes_another_address_by_saying_so() {
    let mut options = options();
    options.requests_per_address = Some(rate(6));
    let world = World::start_with(options).await;
    let path = "/api/v1/instance";
    for n in 1..=7 {
        let forged = format!("192.0.2.{n}");
        let headers = [
            ("x-forwarded-for", forged.as_str()),
            ("forwarded", "for=192.0.2.9;proto=https"),
            ("x-real-ip", forged.as_str()),
            ("x-forwarded-proto", "https"),
        ];
        let anonymous = world.anonymous();
        let asked = anonymous.request(hyper::Method::GET, path, &headers, "");
        match n {
            ..=6 => assert_eq!(asked.await.status, 200),
            _ => drop(asked.await.is_problem(429, "too_many_requests")),
        }
    }
    world.clock.advance(Duration::from_mins(1));
    let body = json!({"email": "ana@example.org", "password": PASSWORD}).to_string();
    let headers = [
        ("content-type", "application/json"),
        ("x-forwarded-proto", "https"),
    ];
    let anonymous = world.anonymous();
    let register = "/api/v1/auth/register";
    let made = anonymous.request(hyper::Method::POST, register, &headers, body);
    let cookie = made.await.cookie().unwrap().1;
    assert!(!cookie.contains("Secure"), "{cookie}");
}

#[tokio::test]
async fn two_instances_count_the_requests_of_a_user_together() {
    let hour = Duration::from_hours(1);
    let cluster = Cluster::start_with(2, |options| {
        options.requests_per_user = Some(RateOptions {
            burst: 24,
            refill: hour,
        });
    })
    .await;
    let ana = cluster.user(0, "ana@example.org").await;
    let elsewhere = cluster.at(&ana, 1);
    let mut answered = 0;
    for _ in 0..24 {
        for client in [&ana, &elsewhere] {
            let answer = client.get("/api/v1/conversations").await;
            match answer.status.as_u16() {
                200 => answered += 1,
                _ => drop(answer.is_problem(429, "too_many_requests")),
            }
        }
    }
    assert_eq!(answered, 24);
}
