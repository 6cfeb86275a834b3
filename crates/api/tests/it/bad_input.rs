//! Whatever is sent, the answer is a clear refusal and the process lives.

use crate::server::{World, options};
use hyper::Method;
use serde_json::{Value, json};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Every route that takes a body, and one that it accepts.
fn bodies(conversation: &str, message: &str) -> Vec<(Method, String, Value)> {
    vec![
        (
            Method::POST,
            "/api/v1/auth/register".into(),
            json!({"email": "x@example.org", "password": "long enough", "setup_token": null, "invite": null}),
        ),
        (
            Method::POST,
            "/api/v1/auth/login".into(),
            json!({"email": "ana@example.org", "password": "long enough"}),
        ),
        (
            Method::POST,
            "/api/v1/conversations".into(),
            json!({"title": "t", "model": "test"}),
        ),
        (
            Method::PATCH,
            conversation.into(),
            json!({"title": "t", "model": "test", "head_message_id": message}),
        ),
        (
            Method::POST,
            format!("{conversation}/messages"),
            json!({"content": "x", "parent_id": message, "model": "test"}),
        ),
        (
            Method::POST,
            format!("{conversation}/regenerate"),
            json!({"parent_id": message, "model": "test"}),
        ),
        (
            Method::POST,
            "/api/v1/invitations".into(),
            json!({"expires_in": 3600}),
        ),
    ]
}

#[test]
fn the_list_of_bodies_is_whole() {
    let document: Value = serde_json::from_str(&jarvis_api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, route)| (format!("{} {path}", method.to_uppercase()), route))
    });
    let mut described: Vec<_> = routes
        .filter(|(_, route)| route.get("requestBody").is_some())
        .map(|(name, _)| name)
        .collect();
    let mut tried: Vec<_> = bodies("/api/v1/conversations/{id}", "")
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    described.sort();
    tried.sort();
    assert_eq!(tried, described);
}

#[tokio::test]
async fn missing_and_mistyped_fields_are_refused_on_every_route() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let sent = ana.send(&conversation, "x").await;
    ana.ended(sent["generation_id"].as_str().unwrap()).await;
    let required = ["email", "password", "content", "parent_id"];
    for (method, path, good) in bodies(&conversation, sent["message_id"].as_str().unwrap()) {
        let call = async |body: Value| {
            ana.request(method.clone(), &path, &JSON, body.to_string())
                .await
        };
        for (field, _) in good.as_object().unwrap() {
            for wrong in [json!(7), json!([]), json!({"a": 1}), json!(true)] {
                let mut body = good.clone();
                body[field] = wrong;
                call(body).await.is_problem(422, "invalid_body");
            }
            let optional = path.ends_with("messages") && field == "parent_id";
            if required.contains(&field.as_str()) && !optional {
                let mut body = good.clone();
                body.as_object_mut().unwrap().remove(field);
                let problem = call(body).await.is_problem(422, "invalid_body");
                assert!(
                    problem["detail"].as_str().unwrap().contains(field),
                    "{problem}"
                );
            }
        }
        for wrong in [json!(null), json!("x"), json!(7), json!([1])] {
            call(wrong).await.is_problem(422, "invalid_body");
        }
    }
    assert_eq!(ana.messages(&conversation).await.len(), 2);
}

#[tokio::test]
async fn what_is_no_json_is_refused_on_every_route() {
    let mut options = options();
    options.body_bytes = 200_000;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let sent = ana.send(&conversation, "x").await;
    let deep = format!(
        "{{\"unknown\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let unclosed = "{\"a\":".repeat(10_000);
    for (method, path, good) in bodies(&conversation, sent["message_id"].as_str().unwrap()) {
        let call = async |body: Vec<u8>| ana.request(method.clone(), &path, &JSON, body).await;
        for text in [
            "",
            "{",
            "{\"content\":",
            "nonsense",
            "{\"content\":\"\u{1}\"}",
            &deep,
            &unclosed,
        ] {
            call(text.into()).await.is_problem(400, "invalid_body");
        }
        call(b"{\"content\":\"\xff\xfe\",\"email\":\"\xff\"}".to_vec())
            .await
            .is_problem(400, "invalid_body");
        call(vec![b' '; 200_001])
            .await
            .is_problem(413, "payload_too_large");
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "",
        ] {
            let headers = [("content-type", kind)];
            let answer = ana
                .request(method.clone(), &path, &headers, good.to_string())
                .await;
            answer.is_problem(415, "unsupported_media_type");
        }
    }
    assert_eq!(world.anonymous().get("/health").await.ok()["status"], "ok");
}

/// `{"title":"t"}`, packed by gzip.
const PACKED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xabV*\xc9,\xc9IU\xb2R*Q\xaa\x05\x00\xe4b\xffG\x0d\x00\x00\x00";

/// What is not unpacked cannot burst.
#[tokio::test]
async fn packed_bodies_are_not_unpacked() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let sent = ana.send(&conversation, "x").await;
    let headers = [JSON[0], ("content-encoding", "gzip")];
    for (method, path, _) in bodies(&conversation, sent["message_id"].as_str().unwrap()) {
        let answer = ana.request(method, &path, &headers, PACKED).await;
        answer.is_problem(400, "invalid_body");
    }
}

#[tokio::test]
async fn messages_are_neither_empty_nor_too_long() {
    let mut options = options();
    options.message_bytes = 100;
    let world = World::start_with(options).await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    let path = format!("{conversation}/messages");
    let mut page = world.socket(&ana).await;
    for (content, code) in [
        (String::new(), "message_empty"),
        (" \n\t\u{a0}".into(), "message_empty"),
        ("x".repeat(101), "message_too_long"),
        ("é".repeat(51), "message_too_long"),
    ] {
        ana.post(&path, &json!({"content": content}))
            .await
            .is_problem(422, code);
        page.say(&json!({"type": "send", "id": "k", "conversation_id": null, "content": content}))
            .await;
        let error = page.hear("error").await;
        assert_eq!((&error["code"], &error["id"]), (&json!(code), &json!("k")));
    }
    assert!(ana.messages(&conversation).await.is_empty());
    assert_eq!(
        ana.post(&path, &json!({"content": "é".repeat(50)}))
            .await
            .status,
        202
    );
}

#[tokio::test]
async fn identifiers_and_keys_that_are_none_are_refused() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let conversation = ana.conversation().await;
    for id in [
        "x",
        "0",
        "..",
        "%00",
        "%ff",
        "0197a000-0000-7000-8000-00000000000",
        &"a".repeat(4000),
    ] {
        for path in ["/api/v1/conversations/", "/api/v1/generations/"] {
            let answer = ana.get(&format!("{path}{id}")).await;
            answer.is_problem(404, "not_found");
        }
    }
    let body = json!({"content": "x"}).to_string();
    for key in ["", "a b", &"k".repeat(129)] {
        let headers = [JSON[0], ("idempotency-key", key)];
        let path = format!("{conversation}/messages");
        let answer = ana
            .request(Method::POST, &path, &headers, body.clone())
            .await;
        answer.is_problem(400, "invalid_body");
    }
    for last in ["x", "1", "1-", "-1", "1-x", "1--5", "99999999999-1"] {
        let sent = ana.send(&conversation, "x").await;
        let path = format!(
            "/api/v1/generations/{}/events",
            sent["generation_id"].as_str().unwrap()
        );
        let answer = ana
            .request(Method::GET, &path, &[("last-event-id", last)], "")
            .await;
        answer.is_problem(400, "invalid_body");
    }
}

/// What is no identifier is told from one that names nothing, whatever else is asked and of whomever.
#[tokio::test]
async fn identifiers_in_bodies_are_identifiers() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let ben = world.user("ben@example.org").await;
    let mut page = world.socket(&ana).await;
    let conversation = ana.conversation().await;
    let id = conversation.rsplit('/').next().unwrap();
    let sent = ana.send(&conversation, "x").await;
    ana.ended(sent["generation_id"].as_str().unwrap()).await;
    let said = |problem: &Value, field: &str| {
        let detail = problem["detail"].as_str().or(problem["message"].as_str());
        assert!(detail.unwrap().contains(&format!("`{field}`")), "{problem}");
    };
    for wrong in ["", "x", "..", "0197a000-0000-7000-8000-00000000000", "\0"] {
        let path = format!("{conversation}/messages");
        let answer = ana
            .post(&path, &json!({"content": "x", "parent_id": wrong}))
            .await;
        said(&answer.is_problem(422, "invalid_body"), "parent_id");
        let again = format!("{conversation}/regenerate");
        let answer = ana.post(&again, &json!({"parent_id": wrong})).await;
        said(&answer.is_problem(422, "invalid_body"), "parent_id");
        let foreign = ben.post(&again, &json!({"parent_id": wrong})).await;
        assert_eq!(foreign.body, answer.body, "nothing is told of it");
        let head = json!({"head_message_id": wrong});
        let answer = ana.patch(&conversation, &head).await;
        said(&answer.is_problem(422, "invalid_body"), "head_message_id");
        for kind in ["send", "regenerate"] {
            let frame = json!({"type": kind, "id": "k", "conversation_id": id, "content": "x", "parent_id": wrong});
            page.say(&frame).await;
            let error = page.hear("error").await;
            assert_eq!(
                (&error["code"], &error["id"]),
                (&json!("invalid_body"), &json!("k"))
            );
            said(&error, "parent_id");
        }
    }
    let absent = json!("0197a000-0000-7000-8000-000000000000");
    for kind in ["send", "regenerate"] {
        let frame = json!({"type": kind, "id": "k", "conversation_id": id, "content": "x", "parent_id": absent});
        page.say(&frame).await;
        assert_eq!(page.hear("error").await["code"], "not_found");
    }
    assert_eq!(ana.messages(&conversation).await.len(), 2);
}

#[tokio::test]
async fn unknown_addresses_and_methods_are_problems_too() {
    let world = World::start().await;
    let nobody = world.anonymous();
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/nope",
        "/api/v2/me",
        "/api/v1/conversations/",
    ] {
        let answer = nobody.get(path).await;
        answer.is_problem(404, "not_found");
    }
    for (method, path) in [
        (Method::DELETE, "/api/v1/me"),
        (Method::PUT, "/api/v1/conversations"),
        (Method::GET, "/api/v1/auth/login"),
        (Method::TRACE, "/health"),
    ] {
        let answer = nobody.request(method, path, &[], "").await;
        answer.is_problem(405, "method_not_allowed");
    }
}
