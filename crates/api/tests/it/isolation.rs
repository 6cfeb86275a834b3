//! Every route, tried by nobody, by somebody else and by its owner. What is another's is to the byte what never was.

use crate::{
    client::{Answer, Client},
    server::World,
};
use hyper::Method;
use serde_json::{Value, json};

/// A UUID that names nothing.
const NOTHING: &str = "0197a000-0000-7000-8000-000000000000";

/// What a route asks of whoever comes.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Token,
    /// An administrator's token.
    Admin,
    /// A token, and that the thing be theirs.
    Ownership,
}

struct Route {
    method: Method,
    path: &'static str,
    needs: Needs,
    body: Value,
}

/// The committed list. A route that is in the OpenAPI document and not here fails the test below.
fn routes() -> Vec<Route> {
    use Needs::{Admin, Nothing, Ownership, Token};
    let route = |method, path, needs, body| Route {
        method,
        path,
        needs,
        body,
    };
    let none = Value::Null;
    vec![
        route(Method::GET, "/api/v1/instance", Nothing, none.clone()),
        route(
            Method::POST,
            "/api/v1/auth/register",
            Nothing,
            json!({"email": "c@example.org", "password": "long enough"}),
        ),
        route(
            Method::POST,
            "/api/v1/auth/login",
            Nothing,
            json!({"email": "ana@example.org", "password": crate::server::PASSWORD}),
        ),
        route(Method::POST, "/api/v1/auth/refresh", Nothing, none.clone()),
        route(Method::GET, "/api/v1/me", Token, none.clone()),
        route(Method::GET, "/api/v1/invitations", Admin, none.clone()),
        route(Method::POST, "/api/v1/invitations", Admin, json!({})),
        route(
            Method::DELETE,
            "/api/v1/invitations/{id}",
            Admin,
            none.clone(),
        ),
        route(Method::GET, "/api/v1/models", Token, none.clone()),
        route(Method::GET, "/api/v1/status", Token, none.clone()),
        route(Method::GET, "/api/v1/conversations", Token, none.clone()),
        route(Method::POST, "/api/v1/conversations", Token, json!({})),
        route(
            Method::GET,
            "/api/v1/conversations/{id}",
            Ownership,
            none.clone(),
        ),
        route(
            Method::PATCH,
            "/api/v1/conversations/{id}",
            Ownership,
            json!({"title": "mine now"}),
        ),
        route(
            Method::GET,
            "/api/v1/conversations/{id}/messages",
            Ownership,
            none.clone(),
        ),
        route(
            Method::POST,
            "/api/v1/conversations/{id}/messages",
            Ownership,
            json!({"content": "hello"}),
        ),
        route(
            Method::POST,
            "/api/v1/conversations/{id}/regenerate",
            Ownership,
            json!({"parent_id": "{message}"}),
        ),
        route(
            Method::GET,
            "/api/v1/generations/{id}",
            Ownership,
            none.clone(),
        ),
        route(
            Method::GET,
            "/api/v1/generations/{id}/events",
            Ownership,
            none.clone(),
        ),
        route(
            Method::POST,
            "/api/v1/generations/{id}/cancel",
            Ownership,
            none.clone(),
        ),
        // Last: these take away what the others are tried on.
        route(
            Method::DELETE,
            "/api/v1/conversations/{id}",
            Ownership,
            none.clone(),
        ),
        route(Method::POST, "/api/v1/auth/logout", Nothing, none),
    ]
}

/// What Ana has.
struct Things {
    conversation: String,
    message: String,
    generation: String,
    invitation: String,
}

impl Things {
    async fn of(client: &Client) -> Self {
        let conversation = client.conversation().await;
        let accepted = client.send(&conversation, "secret").await;
        let generation = accepted["generation_id"].as_str().unwrap().to_owned();
        client.ended(&generation).await;
        let invite = client.post("/api/v1/invitations", &json!({})).await.ok();
        Self {
            conversation: conversation.rsplit('/').next().unwrap().to_owned(),
            message: accepted["message_id"].as_str().unwrap().to_owned(),
            generation,
            invitation: invite["id"].as_str().unwrap().to_owned(),
        }
    }

    fn nothing(id: &str) -> Self {
        Self {
            conversation: id.to_owned(),
            message: NOTHING.to_owned(),
            generation: id.to_owned(),
            invitation: id.to_owned(),
        }
    }
}

async fn call(route: &Route, client: &Client, things: &Things) -> Answer {
    let id = if route.path.contains("generations") {
        &things.generation
    } else if route.path.contains("invitations") {
        &things.invitation
    } else {
        &things.conversation
    };
    let path = route.path.replace("{id}", id);
    let body = if route.body.is_null() {
        String::new()
    } else {
        route.body.to_string()
    };
    let body = body.replace("{message}", &things.message);
    let kind = [("content-type", "application/json")];
    client
        .request(route.method.clone(), &path, &kind, body)
        .await
}

#[tokio::test]
async fn every_route_is_refused_to_whoever_has_no_right_to_it() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let ben = world.user("ben@example.org").await;
    let nobody = world.anonymous();
    let anas = Things::of(&ana).await;
    let mut refused = nobody.get("/api/v1/me").await;
    refused.is_problem(401, "unauthorized");
    refused.headers.remove("date");
    for route in routes() {
        let name = format!("{} {}", route.method, route.path);
        if route.needs != Needs::Nothing {
            let mut answer = call(&route, &nobody, &anas).await;
            answer.headers.remove("date");
            assert_eq!(
                (answer.status, &answer.headers, &answer.body),
                (refused.status, &refused.headers, &refused.body),
                "{name}"
            );
        }
        if route.needs == Needs::Admin {
            let answer = call(&route, &ben, &anas).await;
            answer.is_problem(403, "administrators_only");
        }
        if route.needs == Needs::Ownership {
            let mut absent = call(&route, &ben, &Things::nothing(NOTHING)).await;
            absent.is_problem(404, "not_found");
            let mut foreign = call(&route, &ben, &anas).await;
            let mut odd = call(&route, &ben, &Things::nothing("..%2fetc")).await;
            for answer in [&mut absent, &mut foreign, &mut odd] {
                answer.headers.remove("date");
            }
            assert_eq!(
                (foreign.status, &foreign.headers, &foreign.body),
                (absent.status, &absent.headers, &absent.body),
                "{name}"
            );
            assert_eq!(
                (odd.status, &odd.body),
                (absent.status, &absent.body),
                "{name}"
            );
        }
        let owner = call(&route, &ana, &anas).await;
        let unused_cookie = route.path.ends_with("refresh");
        assert!(
            owner.status.is_success() || unused_cookie,
            "{name}: {owner:?}"
        );
    }
    assert_eq!(
        ben.get("/api/v1/conversations").await.ok()["items"],
        json!([])
    );
}

#[tokio::test]
async fn the_list_of_routes_is_whole() {
    let document: Value = serde_json::from_str(&jarvis_api::document()).unwrap();
    let mut described: Vec<_> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let mut tried: Vec<_> = routes()
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    described.sort();
    tried.sort();
    assert_eq!(tried, described);
}

#[tokio::test]
async fn sockets_keep_to_their_own() {
    let world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let ben = world.user("ben@example.org").await;
    let anas = Things::of(&ana).await;
    let mut page = world.socket(&ben).await;
    for kind in ["subscribe", "cancel"] {
        let mut errors = Vec::new();
        for id in [anas.generation.as_str(), NOTHING, "no id"] {
            page.say(&json!({"type": kind, "generation_id": id, "offset": 0}))
                .await;
            let mut error = page.hear("error").await;
            assert_eq!(
                (&error["code"], &error["generation_id"]),
                (&json!("not_found"), &json!(id))
            );
            error.as_object_mut().unwrap().remove("generation_id");
            errors.push(error);
        }
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    }
    for id in [anas.conversation.as_str(), NOTHING, "no id"] {
        page.say(&json!({"type": "send", "id": "k", "conversation_id": id, "content": "x"}))
            .await;
        assert_eq!(page.hear("error").await["code"], "not_found");
        page.say(&json!({"type": "regenerate", "id": "k", "conversation_id": id, "parent_id": anas.message})).await;
        assert_eq!(page.hear("error").await["code"], "not_found");
    }
    // What Ana does now is told to her pages alone: the next thing Ben hears is of his own doing.
    ana.patch(
        &format!("/api/v1/conversations/{}", anas.conversation),
        &json!({"title": "mine"}),
    )
    .await
    .ok();
    ben.conversation().await;
    assert_ne!(
        page.hear("conversation").await["conversation"]["title"],
        "mine"
    );
}
