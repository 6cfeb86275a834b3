use super::{connect, prefix, until};
use jarvis_domain::{GenerationId, SessionId, UserId};
use jarvis_store::{Bus, Ear, Notice};
use jarvis_testkit::services::RedisCluster;

/// The next hint that says something.
async fn heard(ear: &mut Ear) -> Notice {
    loop {
        match ear.next().await.unwrap() {
            Notice::Missed => {}
            notice => return notice,
        }
    }
}

/// Sends until it is heard: what was sent before somebody listened may be lost.
async fn arrives(bus: &Bus, ear: &mut Ear) {
    let generation = GenerationId::new();
    until("a hint arrives", async || {
        bus.send(Notice::Stop { generation }).await;
        let wait = std::time::Duration::from_millis(200);
        let all = async { while heard(ear).await != (Notice::Stop { generation }) {} };
        tokio::time::timeout(wait, all).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn alone_one_hears_oneself() {
    let bus = Bus::default();
    let mut ear = bus.ear();
    let notice = Notice::Revoked {
        session: SessionId::new(),
    };
    bus.send(notice.clone()).await;
    assert_eq!(ear.next().await, Some(notice));
    drop(bus);
    assert_eq!(ear.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_instance_hears_every_hint_once() {
    let (cluster, prefix) = (RedisCluster::shared(), prefix());
    let one = Bus::shared(&connect(cluster, &prefix).await);
    let other = Bus::shared(&connect(cluster, &prefix).await);
    let (mut here, mut there) = (one.ear(), other.ear());
    assert_eq!(
        there.next().await,
        Some(Notice::Missed),
        "nobody listened before"
    );
    arrives(&one, &mut there).await;
    let sent = [
        Notice::Tell {
            user: UserId::new(),
            frame: r#"{"type":"x"}"#.to_owned(),
        },
        Notice::Revoked {
            session: SessionId::new(),
        },
        Notice::Stop {
            generation: GenerationId::new(),
        },
    ];
    let mut elsewhere = one.ear();
    for notice in &sent {
        one.send(notice.clone()).await;
        assert_eq!(heard(&mut elsewhere).await, *notice);
    }
    // Whatever `arrives` had sent in vain comes first.
    let mut got = Vec::new();
    while got.last() != sent.last() {
        got.push(heard(&mut there).await);
    }
    assert_eq!(got[got.len() - 3..], sent);
    while heard(&mut here).await != sent[2] {}
    one.send(sent[0].clone()).await;
    assert_eq!(heard(&mut here).await, sent[0], "its own hint comes once");
    assert_eq!(heard(&mut there).await, sent[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn installations_do_not_hear_each_other() {
    let cluster = RedisCluster::shared();
    let one = Bus::shared(&connect(cluster, &prefix()).await);
    let prefix = prefix();
    let other = Bus::shared(&connect(cluster, &prefix).await);
    let third = Bus::shared(&connect(cluster, &prefix).await);
    let mut ear = other.ear();
    arrives(&third, &mut ear).await;
    let (foreign, own) = (UserId::new(), UserId::new());
    let tell = |user| Notice::Tell {
        user,
        frame: String::new(),
    };
    one.send(tell(foreign)).await;
    third.send(tell(own)).await;
    let mut got = heard(&mut ear).await;
    while matches!(got, Notice::Stop { .. }) {
        got = heard(&mut ear).await;
    }
    assert_eq!(got, tell(own));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_master_is_told_of_and_the_others_carry_on() {
    let mut cluster = tokio::task::block_in_place(RedisCluster::start);
    let prefix = prefix();
    let one = Bus::shared(&connect(&cluster, &prefix).await);
    let other = Bus::shared(&connect(&cluster, &prefix).await);
    let mut there = other.ear();
    arrives(&one, &mut there).await;
    for node in 0..RedisCluster::MASTERS {
        let listens = cluster.command(node, &["PUBSUB", "NUMSUB", &format!("{prefix}:bus")]);
        let listens = !listens.ends_with('0');
        let mut fresh = other.ear();
        tokio::task::block_in_place(|| cluster.kill9(node));
        if listens {
            // One or the other listened there: whoever did is told, and both go on.
            arrives(&one, &mut there).await;
            arrives(&other, &mut fresh).await;
        }
        tokio::task::block_in_place(|| cluster.restart(node));
    }
}
