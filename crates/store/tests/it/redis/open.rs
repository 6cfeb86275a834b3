use super::{connect, options, prefix, until};
use jarvis_domain::GenerationId;
use jarvis_store::{AnswerLog, LogError, Redis, RedisOpenError, RedisOptions};
use jarvis_testkit::services::{Home, Process, RedisCluster, free_port, program, run};
use secrecy::SecretString;
use tokio_util::task::TaskTracker;

async fn refusal(options: RedisOptions) -> RedisOpenError {
    let tasks = TaskTracker::new();
    let error = Redis::open(options, &tasks).await.unwrap_err();
    // Nothing goes on in the background.
    tasks.close();
    tasks.wait().await;
    assert!(!error.to_string().contains("horse"), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_missing_one_are_told() {
    let cluster = RedisCluster::shared();
    let wrong = RedisOptions {
        password: Some(SecretString::from("wrong horse")),
        ..options(cluster.nodes(), "x")
    };
    assert!(matches!(refusal(wrong).await, RedisOpenError::Denied(_)));
    let none = RedisOptions {
        password: None,
        ..options(cluster.nodes(), "x")
    };
    assert!(matches!(refusal(none).await, RedisOpenError::Denied(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_cluster_is_told() {
    let (home, port) = (Home::new("plain-redis"), free_port());
    let mut command = home.command(program("redis-server", "redis-server"));
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
    ]);
    let mut server = Process::start("redis-server", command, &home.path().join("log"));
    server.wait_ready(|| {
        let mut ping = home.command(program("redis-cli", "redis-tools"));
        ping.args(["-p", &port.to_string(), "PING"]);
        ping.output()
            .is_ok_and(|pong| pong.status.success() && pong.stdout.starts_with(b"PONG"))
    });
    let node = format!("127.0.0.1:{port}");
    let options = RedisOptions::new(vec![node.clone()], None, "x".to_owned());
    match refusal(options).await {
        RedisOpenError::NoCluster(named) => assert_eq!(named, node),
        other => panic!("{other}"),
    }
    let _ = run(home.command(program("redis-cli", "redis-tools")).args([
        "-p",
        &port.to_string(),
        "PING",
    ]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_at_the_start_is_used_when_it_comes() {
    let mut cluster = tokio::task::block_in_place(RedisCluster::start);
    for node in 0..RedisCluster::MASTERS {
        cluster.stop(node);
    }
    let redis = connect(&cluster, &prefix()).await;
    assert!(!redis.trouble().is_empty());
    let log = AnswerLog::shared(&redis);
    let id = GenerationId::new();
    assert!(matches!(log.take_up(id, 1).await, Err(LogError::Away(_))));
    assert!(matches!(log.reader(id, 0).await, Err(LogError::Away(_))));
    tokio::task::block_in_place(|| {
        for node in 0..RedisCluster::MASTERS {
            cluster.restart_alone(node);
        }
        cluster.wait_whole();
    });
    until("the cluster is used", async || {
        log.take_up(id, 1).await.is_ok()
    })
    .await;
    until("nothing is wrong any more", async || {
        redis.trouble().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_lead_nowhere_are_told_unless_one_does() {
    let unknown = ["redis-1.invalid:6379", "redis-2.invalid:6379"].map(str::to_owned);
    match refusal(options(unknown.to_vec(), &prefix())).await {
        RedisOpenError::Unknown(told) => {
            assert!(unknown.iter().all(|node| told.contains(node)), "{told}");
        }
        other => panic!("{other}"),
    }
    let cluster = RedisCluster::shared();
    let nodes = unknown.into_iter().chain(cluster.nodes()).collect();
    let tasks = TaskTracker::new();
    let redis = Redis::open(options(nodes, &prefix()), &tasks)
        .await
        .unwrap();
    until("the others are used", async || redis.trouble().is_empty()).await;
    redis.close();
}
