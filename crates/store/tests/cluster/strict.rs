use crate::{
    NOW, OUTAGE,
    load::{AFTERWARDS, Load, faults},
    open_with,
};
use jarvis_domain::{Conversation, ConversationId, UserId};
use jarvis_store::StoreError;
use jarvis_testkit::services::{PATIENCE, Patroni, Shape};
use std::time::Duration;

const SHAPE: Shape = Shape {
    nodes: 2,
    etcd: 1,
    strict: true,
};

fn conversation(user: UserId) -> Conversation {
    Conversation {
        id: ConversationId::new(),
        user_id: user,
        title: "alone".into(),
        model: None,
        head: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// Connections whose commit waits for a standby, on which the server does not notice that its client has gone.
fn waiting(cluster: &Patroni, primary: usize) -> usize {
    let count = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    cluster.psql(primary, count).unwrap().parse().unwrap()
}

/// In strict mode a commit is on two machines or is confirmed to nobody.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_while_the_only_standby_is_away() {
    let mut cluster = Patroni::start(SHAPE);
    let shorter = Duration::from_secs(2);
    let (db, user) = open_with(&cluster, |options| options.deadline = shorter).await;
    let primary = cluster.wait_for_writer(PATIENCE);
    let standby = 1 - primary;
    let load = Load::start(&db, user.id);
    assert!(load.wait_for(100, PATIENCE).await, "{}", cluster.logs());

    cluster.kill9(standby);
    // A commit from before may still be confirmed; one from now on is not.
    let new = conversation(user.id);
    let made = db.create_conversation(&new).await;
    assert!(
        matches!(made, Err(StoreError::Unsure(None) | StoreError::Deadline)),
        "{made:?}"
    );
    assert!(!load.wait_for(AFTERWARDS, shorter).await);
    assert_eq!(db.conversation(user.id, new.id).await.unwrap(), None);

    // However often one asks whether it takes changes, one connection waits for the answer.
    let mut counts = Vec::new();
    for _ in 0..3 {
        let found = db.ping().await;
        assert!(
            matches!(found, Err(StoreError::Unwritable { .. })),
            "{found:?}"
        );
        counts.push(waiting(&cluster, primary));
    }
    assert_eq!(counts[2], counts[0], "{counts:?}");

    cluster.restart(standby);
    assert_eq!(cluster.wait_for_standby(), standby);
    assert!(
        load.wait_for(AFTERWARDS, OUTAGE).await,
        "{}",
        cluster.logs()
    );
    db.ping().await.unwrap();
    let acknowledged = load.stop().await;
    let lost = faults(&db, user.id, &acknowledged).await;
    // What was told to be unsure may have been kept.
    let unsure = format!("doubled: {} was acknowledged to nobody", new.id);
    let lost: Vec<_> = lost.iter().filter(|fault| **fault != unsure).collect();
    assert_eq!(lost, [""; 0]);
}
