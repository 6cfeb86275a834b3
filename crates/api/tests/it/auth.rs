//! Accounts, sign-ins and tokens.

use crate::server::{PASSWORD, World, options};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::Method;
use jarvis_api::{Registration, SetUp};
use jarvis_domain::{Timestamp, UserId};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::Duration;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn the_first_account_is_the_administrators_and_later_ones_are_not() {
    let world = World::start().await;
    let instance = world.anonymous().get("/api/v1/instance").await.ok();
    assert_eq!(instance["needs_setup"], true);
    assert_eq!(instance["setup_token_required"], false);
    assert_eq!(instance["registration"], "open");
    let ana = world.user(" Ana@Example.org ").await;
    let me = ana.get("/api/v1/me").await.ok();
    assert_eq!(
        (&me["role"], &me["email"]),
        (&json!("admin"), &json!("ana@example.org"))
    );
    assert_eq!(me["created_at"], "2026-11-22T10:27:45.123456Z");
    let ben = world.user("ben@example.org").await;
    assert_eq!(ben.get("/api/v1/me").await.ok()["role"], "user");
    let instance = world.anonymous().get("/api/v1/instance").await.ok();
    assert_eq!(instance["needs_setup"], false);
    let again = json!({"email": "ANA@example.org", "password": PASSWORD});
    let answer = world
        .anonymous()
        .post("/api/v1/auth/register", &again)
        .await;
    answer.is_problem(409, "email_taken");
}

#[tokio::test]
async fn two_at_once_cannot_both_be_first() {
    let world = World::start().await;
    let register = async |email: &str| {
        let body = json!({"email": email, "password": PASSWORD});
        world.anonymous().post("/api/v1/auth/register", &body).await
    };
    let (one, two) = tokio::join!(register("a@example.org"), register("b@example.org"));
    let mut roles = Vec::new();
    for answer in [one, two] {
        if answer.status == 201 {
            let token = answer.json()["access_token"].as_str().unwrap().to_owned();
            let me = world
                .anonymous()
                .with_token(&token)
                .get("/api/v1/me")
                .await
                .ok();
            roles.push(me["role"].as_str().unwrap().to_owned());
        } else {
            answer.is_problem(409, "already_set_up");
        }
    }
    assert_eq!(
        roles.iter().filter(|role| *role == "admin").count(),
        1,
        "{roles:?}"
    );
}

#[tokio::test]
async fn the_set_up_token_is_needed_where_the_listener_is_public() {
    let mut options = options();
    options.set_up = SetUp::Required(None);
    options.registration = Registration::Closed;
    let world = World::start_with(options).await;
    let token = world.api().setup_token().unwrap().to_owned();
    assert!(token.len() >= 32);
    let instance = world.anonymous().get("/api/v1/instance").await.ok();
    assert_eq!(
        (&instance["setup_token_required"], &instance["registration"]),
        (&json!(true), &json!("closed"))
    );
    let register = async |email: &str, extra: Value| {
        let mut body = json!({"email": email, "password": PASSWORD});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        world.anonymous().post("/api/v1/auth/register", &body).await
    };
    for wrong in [
        json!({}),
        json!({"setup_token": ""}),
        json!({"setup_token": format!("{token}x")}),
        json!({"setup_token": null}),
    ] {
        register("a@example.org", wrong)
            .await
            .is_problem(403, "setup_token_required");
    }
    assert_eq!(
        register("a@example.org", json!({"setup_token": token}))
            .await
            .status,
        201
    );
    assert_eq!(world.api().setup_token(), None);
    let late = register("b@example.org", json!({"setup_token": token})).await;
    late.is_problem(403, "registration_closed");
}

#[tokio::test]
async fn invitations_are_used_once_and_expire() {
    let mut options = options();
    options.registration = Registration::Invite;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let invite = async |body: Value| ana.post("/api/v1/invitations", &body).await;
    let code = async || invite(json!({"expires_in": 60})).await.ok()["code"].clone();
    let (first, second) = (code().await, code().await);
    let register = async |email: &str, invite: Value| {
        let body = json!({"email": email, "password": PASSWORD, "invite": invite});
        world.anonymous().post("/api/v1/auth/register", &body).await
    };
    register("b@example.org", Value::Null)
        .await
        .is_problem(403, "invite_required");
    register("b@example.org", json!("wrong"))
        .await
        .is_problem(403, "invite_required");
    assert_eq!(register("b@example.org", first.clone()).await.status, 201);
    register("c@example.org", first)
        .await
        .is_problem(403, "invite_required");
    world.clock.advance(Duration::from_secs(61));
    register("c@example.org", second)
        .await
        .is_problem(403, "invite_required");
    let listed = ana.get("/api/v1/invitations").await.ok();
    assert_eq!(listed["items"], json!([]), "neither used nor expired ones");
}

#[tokio::test]
async fn an_administrator_makes_lists_and_withdraws_invitations() {
    let mut options = options();
    options.registration = Registration::Invite;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let made = ana.post("/api/v1/invitations", &json!({})).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    let at = |member: &str| serde_json::from_value::<Timestamp>(made[member].clone()).unwrap();
    let week = Duration::from_hours(7 * 24);
    assert_eq!(at("created_at") + week, at("expires_at"));
    let listed = ana.get("/api/v1/invitations").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["items"][0]["id"], made["id"]);
    assert_eq!(listed["items"][0]["code"], Value::Null, "told once");
    let path = format!("/api/v1/invitations/{}", made["id"].as_str().unwrap());
    assert_eq!(ana.delete(&path).await.status, 204);
    ana.delete(&path).await.is_problem(404, "not_found");
    let body = json!({"email": "b@example.org", "password": PASSWORD, "invite": made["code"]});
    let late = world.anonymous().post("/api/v1/auth/register", &body).await;
    late.is_problem(403, "invite_required");
    for seconds in [0, 59, 7_776_001] {
        let body = json!({"expires_in": seconds});
        let odd = ana.post("/api/v1/invitations", &body).await;
        odd.is_problem(422, "invalid_body");
    }
}

#[tokio::test]
async fn invitations_are_for_administrators_of_an_installation_that_takes_accounts() {
    let world = World::start().await;
    world.user("ana@example.org").await;
    let bob = world.user("bob@example.org").await;
    let id = UserId::new();
    let path = format!("/api/v1/invitations/{id}");
    for refused in [
        bob.post("/api/v1/invitations", &json!({})).await,
        bob.get("/api/v1/invitations").await,
        bob.delete(&path).await,
    ] {
        refused.is_problem(403, "administrators_only");
    }
    let anonymous = world.anonymous().get("/api/v1/invitations").await;
    assert_eq!(anonymous.status, 401);
    let mut options = options();
    options.registration = Registration::Closed;
    let closed = World::start_with(options).await;
    let ana = closed.user("ana@example.org").await;
    let made = ana.post("/api/v1/invitations", &json!({})).await;
    made.is_problem(403, "registration_closed");
}

#[tokio::test]
async fn wrong_passwords_and_unknown_accounts_are_answered_alike() {
    let world = World::start().await;
    world.user("ana@example.org").await;
    let login = async |email: &str, password: &str| {
        let body = json!({"email": email, "password": password});
        world.anonymous().post("/api/v1/auth/login", &body).await
    };
    let wrong = login("ana@example.org", "not the password").await;
    wrong.is_problem(401, "invalid_credentials");
    for (email, password) in [
        ("nobody@example.org", PASSWORD),
        ("not an address", PASSWORD),
        ("", ""),
        ("ana@example.org", ""),
    ] {
        let answer = login(email, password).await;
        assert_eq!(
            (answer.status, &answer.body),
            (wrong.status, &wrong.body),
            "{email}"
        );
    }
    assert_eq!(login("ANA@example.org ", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn passwords_and_addresses_are_checked() {
    let world = World::start().await;
    for (email, password, code) in [
        ("a@example.org", "seven77", "invalid_password"),
        ("a@example.org", &"x".repeat(1025), "invalid_password"),
        ("nobody", PASSWORD, "invalid_email"),
        ("a@b\r\nSet-Cookie: x", PASSWORD, "invalid_email"),
    ] {
        let body = json!({"email": email, "password": password});
        let answer = world.anonymous().post("/api/v1/auth/register", &body).await;
        answer.is_problem(422, code);
    }
    let body = json!({"email": "a@example.org", "password": "é".repeat(512)});
    let answer = world.anonymous().post("/api/v1/auth/register", &body).await;
    assert_eq!(answer.status, 201, "1,024 bytes are taken");
}

#[tokio::test]
async fn the_refresh_token_rotates_and_its_reuse_ends_the_sign_in() {
    let world = World::start().await;
    let mut ana = world.user("ana@example.org").await;
    let mut other_device = world.anonymous();
    other_device.login("ana@example.org").await;
    let first = ana.refresh.clone();
    let renewed = ana.renew().await;
    assert_eq!(renewed.status, 200);
    let (token, cookie) = renewed.cookie().unwrap();
    assert_ne!(Some(&token), first.as_ref());
    for attribute in [
        "HttpOnly",
        "SameSite=Strict",
        "Path=/api/v1/auth",
        "Max-Age=2592000",
    ] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(
        !cookie.contains("Secure"),
        "the connection is plain: {cookie}"
    );
    assert_eq!(ana.get("/api/v1/me").await.status, 200);
    let mut socket = world.socket(&ana).await;
    // A thief comes with the old one.
    world.clock.advance(Duration::from_secs(10));
    let mut thief = ana.clone();
    thief.refresh = first;
    let refused = thief.renew().await;
    refused.is_problem(401, "unauthorized");
    assert_eq!(refused.cookie().unwrap().0, "", "the cookie is taken back");
    // Now neither the thief nor the owner has anything: the tokens, old and new, and the open socket.
    ana.renew().await.is_problem(401, "unauthorized");
    ana.get("/api/v1/me").await.is_problem(401, "unauthorized");
    assert_eq!(socket.closed().await, Some(4401));
    // The other device's sign-in is another family.
    assert_eq!(other_device.get("/api/v1/me").await.status, 200);
    assert_eq!(other_device.renew().await.status, 200);
}

#[tokio::test]
async fn signing_out_bites_at_once() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    assert_eq!(ana.get("/api/v1/me").await.status, 200);
    let mut socket = world.socket(&ana).await;
    let conversation = ana.conversation().await;
    world
        .node
        .script([jarvis_testkit::Step::text("x"), jarvis_testkit::Step::Stall]);
    let accepted = ana.send(&conversation, "q").await;
    let mut events = ana
        .events(accepted["generation_id"].as_str().unwrap(), None)
        .await;
    assert_eq!(events.next().await.unwrap().name, "delta");
    let out = ana.cookie_post("/api/v1/auth/logout").await;
    assert_eq!(out.status, 204);
    assert_eq!(out.cookie().unwrap().0, "");
    ana.get("/api/v1/me").await.is_problem(401, "unauthorized");
    ana.get("/api/v1/conversations")
        .await
        .is_problem(401, "unauthorized");
    assert_eq!(socket.closed().await, Some(4401));
    assert_eq!(events.next().await, None, "the event stream ends");
    ana.clone().renew().await.is_problem(401, "unauthorized");
    assert_eq!(
        ana.cookie_post("/api/v1/auth/logout").await.status,
        204,
        "twice is no error"
    );
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_repeated() {
    let world = World::start().await;
    let mut ana = world.user("ana@example.org").await;
    let first = ana.refresh.clone();
    assert_eq!(ana.renew().await.status, 200);
    // The answer never came: the browser has the old cookie still.
    let mut again = ana.clone();
    again.refresh = first;
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(again.renew().await.status, 200);
    assert_eq!(again.get("/api/v1/me").await.status, 200);
    assert_eq!(again.renew().await.status, 200);
    // Whoever has the other one comes too late: one of them is a thief.
    world.clock.advance(Duration::from_secs(10));
    ana.renew().await.is_problem(401, "unauthorized");
    again.renew().await.is_problem(401, "unauthorized");
}

#[tokio::test]
async fn two_tabs_that_renew_at_once_stay_signed_in() {
    let world = World::start().await;
    let mut one = world.user("ana@example.org").await;
    let mut two = one.clone();
    let (first, second) = tokio::join!(one.renew(), two.renew());
    assert_eq!((first.status, second.status), (first.status, first.status));
    assert_eq!(first.status, 200);
    // Whichever cookie came last is what both go on with.
    assert_eq!(two.renew().await.status, 200);
    assert_eq!(one.get("/api/v1/me").await.status, 200);
}

#[tokio::test]
async fn signing_out_needs_no_cookie() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let mut socket = world.socket(&ana).await;
    let without_cookie = world.anonymous().with_token(ana.token());
    let out = async || {
        let path = "/api/v1/auth/logout";
        without_cookie.request(Method::POST, path, &[], "").await
    };
    assert_eq!(out().await.status, 204);
    assert_eq!(socket.closed().await, Some(4401));
    ana.get("/api/v1/me").await.is_problem(401, "unauthorized");
    ana.clone().renew().await.is_problem(401, "unauthorized");
    out().await.is_problem(401, "unauthorized");
}

#[tokio::test]
async fn refresh_and_sign_out_come_from_our_own_pages() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let cookie = format!("jarvis_refresh={}", ana.refresh.as_deref().unwrap());
    let foreign = [
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
        vec![("sec-fetch-site", "cross-site")],
    ];
    for path in ["/api/v1/auth/refresh", "/api/v1/auth/logout"] {
        for mut headers in foreign.clone() {
            headers.push(("cookie", &cookie));
            let answer = world
                .anonymous()
                .request(Method::POST, path, &headers, "")
                .await;
            answer.is_problem(403, "foreign_origin");
        }
    }
    let ours = format!("http://{}", world.address());
    let headers = [("cookie", cookie.as_str()), ("origin", &ours)];
    let answer = world
        .anonymous()
        .request(Method::POST, "/api/v1/auth/refresh", &headers, "")
        .await;
    assert_eq!(
        answer.status, 200,
        "nothing that was refused has used the token up"
    );
    let answer = world
        .anonymous()
        .request(Method::POST, "/api/v1/auth/refresh", &[], "")
        .await;
    answer.is_problem(401, "unauthorized");
}

#[tokio::test]
async fn the_cookie_is_secure_behind_a_proxy_that_speaks_tls() {
    let mut options = options();
    options.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    let world = World::start_with(options).await;
    let body = json!({"email": "ana@example.org", "password": PASSWORD}).to_string();
    let headers = [JSON, ("x-forwarded-proto", "https")];
    let path = "/api/v1/auth/register";
    let answer = world
        .anonymous()
        .request(Method::POST, path, &headers, body)
        .await;
    assert!(
        answer.cookie().unwrap().1.ends_with("; Secure"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn expired_tokens_are_refused_and_renewed() {
    let world = World::start().await;
    let mut ana = world.user("ana@example.org").await;
    assert_eq!(ana.get("/api/v1/me").await.status, 200);
    world.clock.advance(Duration::from_secs(599));
    assert_eq!(ana.get("/api/v1/me").await.status, 200);
    world.clock.advance(Duration::from_secs(2));
    ana.get("/api/v1/me").await.is_problem(401, "token_expired");
    assert_eq!(ana.renew().await.status, 200);
    assert_eq!(ana.get("/api/v1/me").await.status, 200);
    world.clock.advance(Duration::from_secs(30 * 24 * 3600 + 1));
    ana.renew().await.is_problem(401, "unauthorized");
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let parts: Vec<_> = ana.token().split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let secret = [7; 32];
    let good = json!({"alg": "HS256", "typ": "JWT"});
    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        claims
    };
    let without = |field: &str| {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().remove(field);
        claims
    };
    let own = sign(&good, &claims, &secret);
    assert_eq!(
        ana.with_token(&own).get("/api/v1/me").await.status,
        200,
        "the forger's tool works"
    );
    let none = json!({"alg": "none", "typ": "JWT"});
    let header_and_claims = |header: &Value| format!("{}.{}", encode(header), encode(&claims));
    let stranger = "0197a000-0000-7000-8000-000000000000";
    let forged = [
        sign(&good, &claims, &[8; 32]),
        format!("{}.", header_and_claims(&none)),
        format!("{}.{}", header_and_claims(&none), parts[2]),
        sign(&none, &claims, &secret),
        sign(&json!({"alg": "HS384"}), &claims, &secret),
        sign(&json!({"alg": "RS256"}), &claims, &secret),
        sign(&json!({}), &claims, &secret),
        sign(&good, &with("iss", json!("mallory")), &secret),
        sign(&good, &with("aud", json!("other")), &secret),
        sign(&good, &with("sub", json!(stranger)), &secret),
        sign(&good, &with("sid", json!(stranger)), &secret),
        sign(&good, &with("exp", json!("soon")), &secret),
        sign(&good, &without("exp"), &secret),
        sign(&good, &without("aud"), &secret),
        sign(&good, &without("sid"), &secret),
        format!(
            "{}.{}.{}",
            parts[0],
            encode(&with("sub", json!(stranger))),
            parts[2]
        ),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}x", ana.token()),
        "x".repeat(10_000),
        "a.b.c".into(),
        "..".into(),
        String::new(),
    ];
    for token in forged {
        let answer = ana.with_token(&token).get("/api/v1/me").await;
        answer.is_problem(401, "unauthorized");
        let mut socket = crate::client::Socket::open(world.address()).await;
        socket
            .say(&json!({"type": "auth", "access_token": token}))
            .await;
        assert_eq!(socket.closed().await, Some(4401), "{token}");
    }
    let expired = sign(&good, &with("exp", json!(1)), &secret);
    ana.with_token(&expired)
        .get("/api/v1/me")
        .await
        .is_problem(401, "token_expired");
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn sign(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    let signature = mac.chain_update(&message).finalize().into_bytes();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Else another page could sign a browser in to an account of its own, and read what is asked there.
#[tokio::test]
async fn accounts_are_made_and_entered_from_our_own_pages() {
    let world = World::start().await;
    world.user("ana@example.org").await;
    let ask = async |path: &str, email: &str, from: (&str, &str)| {
        let headers = [JSON, from];
        let body = json!({"email": email, "password": PASSWORD}).to_string();
        let anonymous = world.anonymous();
        anonymous.request(Method::POST, path, &headers, body).await
    };
    let (register, login) = ("/api/v1/auth/register", "/api/v1/auth/login");
    for foreign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for (path, email) in [(register, "ben@example.org"), (login, "ana@example.org")] {
            let answer = ask(path, email, foreign).await;
            answer.is_problem(403, "foreign_origin");
            assert!(answer.cookie().is_none());
        }
    }
    let origin = format!("http://{}", world.address());
    let ours = ("origin", &*origin);
    assert_eq!(ask(register, "ben@example.org", ours).await.status, 201);
    assert_eq!(ask(login, "ana@example.org", ours).await.status, 200);
}
