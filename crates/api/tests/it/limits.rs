//! How often a sign-in may be tried.

use crate::server::{PASSWORD, World, options};
use jarvis_api::RateOptions;
use serde_json::json;
use std::time::Duration;

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
