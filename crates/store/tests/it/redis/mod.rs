//! What instances share beside SQL, on a real Redis Cluster.

mod asking;
mod bus;
mod limits;
mod open;
mod proxy;

pub(crate) use proxy::Proxy;

use jarvis_domain::GenerationId;
use jarvis_store::{Redis, RedisOptions};
use jarvis_testkit::services::RedisCluster;
use secrecy::SecretString;
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Of an installation that nobody else in the cluster is.
pub(crate) fn prefix() -> String {
    format!("test-{}", GenerationId::new())
}

pub(crate) fn options(nodes: Vec<String>, prefix: &str) -> RedisOptions {
    let password = SecretString::from(RedisCluster::PASSWORD);
    RedisOptions::new(nodes, Some(password), prefix.to_owned())
}

pub(crate) async fn connect(cluster: &RedisCluster, prefix: &str) -> Redis {
    let options = options(cluster.nodes(), prefix);
    Redis::open(options, &TaskTracker::new()).await.unwrap()
}

/// Asks until the answer is yes; panics with `what` if it stays no.
pub(crate) async fn until(what: &str, mut yes: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !yes().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_mins(1), asked).await;
    assert!(in_time.is_ok(), "{what}: not within a minute");
}
