//! What is asked again elsewhere, and what that may cost.

use crate::{
    dialect::Dialect,
    web::{Answer, Served, quick, serve, spec},
};
use jarvis_balancer::Options;
use jarvis_testkit::{FakeModel, FakeOllama, Step};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

async fn node() -> FakeOllama {
    FakeOllama::with(vec![FakeModel::engine("m:latest")]).await
}

async fn ask(served: &Served) -> Answer {
    served
        .post(
            "/api/chat",
            &Dialect::Chat.asking("m", true, &json!({"options": {"num_predict": 4}})),
        )
        .await
}

fn refuse(node: &FakeOllama, status: u16, times: usize) {
    for _ in 0..times {
        node.script([Step::Refuse(status, "no".into())]);
    }
}

/// Asks until `node` was asked once more; every answer is a good one.
async fn until_asked(served: &Served, node: &FakeOllama) {
    let before = node.tally().asked;
    while node.tally().asked == before {
        assert_eq!(ask(served).await.status, 200);
    }
}

/// Its list is wrong, and stays so: it knows the model no more, but says that it does.
#[tokio::test]
async fn a_model_that_a_node_only_lists_costs_no_retries_and_few_looks() {
    let (wrong, good) = (node().await, node().await);
    refuse(&wrong, 404, 200);
    refuse(&wrong, 500, 1);
    let options = Options {
        probe_interval: Duration::from_hours(1),
        ..quick()
    };
    let served = serve(options, vec![spec("wrong", &wrong), spec("good", &good)]).await;
    let (began, before) = (Instant::now(), wrong.looks());
    while wrong.tally().asked < 200 {
        let answer = ask(&served).await;
        assert_eq!((answer.status, answer.node()), (200, "good"));
    }
    // What it may cost to ask again after a failure was not touched.
    until_asked(&served, &wrong).await;
    let looks = (wrong.looks() - before) / 3;
    let most = 1 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!((1..=most).contains(&looks), "{looks} of {most}");
    let state = served.node("wrong").await;
    assert_eq!(state["breaker"], "closed", "{state}");
    served.until_idle().await;
}

#[tokio::test]
async fn a_failure_that_nobody_else_can_make_good_is_no_retry() {
    let (one, two) = (node().await, node().await);
    let served = serve(quick(), vec![spec("a", &one)]).await;
    for _ in 0..200 {
        refuse(&one, 500, 1);
        assert_eq!(ask(&served).await.ollama_error(500), "no");
        for _ in 0..2 {
            assert_eq!(ask(&served).await.status, 200);
        }
    }
    served.join(spec("b", &two)).await;
    for _ in 0..10 {
        refuse(&one, 500, 1);
        until_asked(&served, &one).await;
        until_asked(&served, &one).await;
    }
    served.until_idle().await;
}

#[tokio::test]
async fn a_node_that_says_429_is_at_no_fault_and_not_favoured() {
    for strategy in [
        "round_robin",
        "least_connections",
        "weighted_response_time",
        "queue_length",
        "adaptive",
    ] {
        let (full, good) = (node().await, node().await);
        refuse(&full, 429, 500);
        let options = Options {
            strategy: strategy.parse().unwrap(),
            ..quick()
        };
        let served = serve(options, vec![spec("full", &full), spec("good", &good)]).await;
        let began = Instant::now();
        for _ in 0..200 {
            let answer = ask(&served).await;
            assert_eq!((answer.status, answer.node()), (200, "good"), "{strategy}");
        }
        // It is asked again now and then, as it may have room again.
        let (asked, most) = (full.tally().asked, 2 + began.elapsed().as_secs());
        assert!(asked <= most, "{strategy}: {asked} of {most}");
        assert_eq!(served.node("full").await["breaker"], "closed", "{strategy}");
        served.until_idle().await;
    }
}

#[tokio::test]
async fn a_429_of_all_nodes_is_told_and_the_next_request_served() {
    let (one, two) = (node().await, node().await);
    let served = serve(quick(), vec![spec("a", &one), spec("b", &two)]).await;
    for _ in 0..20 {
        refuse(&one, 429, 1);
        refuse(&two, 429, 1);
        assert_eq!(ask(&served).await.ollama_error(429), "no");
        let asked = one.tally().asked + two.tally().asked;
        assert_eq!(ask(&served).await.status, 200);
        assert_eq!(one.tally().asked + two.tally().asked, asked + 1);
    }
    let state = served.state().await;
    let breakers: Vec<_> = state["nodes"].as_array().unwrap().iter().collect();
    let closed = |node: &&Value| node["breaker"] == "closed";
    assert!(breakers.iter().all(closed), "{state}");
    served.until_idle().await;
}
