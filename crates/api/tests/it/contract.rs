//! The committed contract is what the code keeps.

use crate::server::World;

#[test]
fn the_committed_document_is_the_codes_own() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    assert!(
        committed == jarvis_api::document(),
        "api/openapi.json is out of date: run `make generate`"
    );
}

#[tokio::test]
async fn the_document_is_served_and_health_is_plain() {
    let world = World::start().await;
    let answer = world.anonymous().get("/api/openapi.json").await;
    assert_eq!(answer.body, jarvis_api::document());
    assert_eq!(answer.ok()["openapi"], "3.1.0");
    let health = world.anonymous().get("/health").await;
    assert_eq!(health.headers["content-type"], "application/json");
    assert_eq!(health.body, "{\"status\":\"ok\"}");
}

#[tokio::test]
async fn models_and_status_show_the_nodes() {
    let mut world = World::start().await;
    let ana = world.user("ana@example.org").await;
    let models = ana.get("/api/v1/models").await.ok();
    assert_eq!(models["next_cursor"], serde_json::Value::Null);
    let model = &models["items"][0];
    assert_eq!(
        (&model["name"], &model["default"], &model["nodes"][0]),
        (&"test:latest".into(), &true.into(), &"node".into())
    );
    let status = ana.get("/api/v1/status").await.ok();
    assert_eq!(status["status"], "ok", "{status}");
    world.node = jarvis_testkit::FakeOllama::start().await;
    world.restart().await;
    let ana = ana.at(world.address());
    world.node = jarvis_testkit::FakeOllama::start().await;
    let conversation = ana.conversation().await;
    let sent = ana.send(&conversation, "x").await;
    assert_eq!(
        ana.ended(sent["generation_id"].as_str().unwrap()).await["status"],
        "failed"
    );
    let status = ana.get("/api/v1/status").await.ok();
    assert_eq!(status["status"], "degraded", "{status}");
    let node = status["components"]
        .as_array()
        .unwrap()
        .iter()
        .find(|part| part["name"] == "node node")
        .unwrap();
    assert_eq!(node["status"], "down");
    assert!(node["detail"].is_string());
}
