use crate::{NOW, Store, at, on_both, user};
use jarvis_domain::{Conversation, ConversationId, MessageId, UserId};
use jarvis_store::{ConversationPatch, Db};

on_both![
    pages_join_without_gap_or_overlap_even_among_equal_moments,
    another_users_conversation_is_absent,
    every_write_moves_the_version_of_its_user_alone,
    a_head_must_be_a_message_of_the_conversation,
];

async fn conversation(db: &Db, user: UserId, title: &str, updated: i64) -> ConversationId {
    let id = ConversationId::new();
    let conversation = Conversation {
        id,
        user_id: user,
        title: title.into(),
        model: None,
        head: None,
        created_at: NOW,
        updated_at: at(updated),
    };
    db.create_conversation(&conversation).await.unwrap();
    id
}

async fn pages_join_without_gap_or_overlap_even_among_equal_moments(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    for n in 0..25 {
        conversation(&db, enzo.id, &format!("c{n}"), 1_000 + i64::from(n / 10)).await;
    }
    let whole = db.conversations(enzo.id, 100, None).await.unwrap();
    assert_eq!(whole.len(), 25);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = db.conversations(enzo.id, 4, after).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.updated_at, last.id));
        paged.extend(page);
    }
    assert_eq!(paged, whole);
}

async fn another_users_conversation_is_absent(store: Store) {
    let db = store.open().await;
    let (enzo, eve) = (
        user(&db, "enzo@example.org").await,
        user(&db, "eve@example.org").await,
    );
    let id = conversation(&db, enzo.id, "private", 1).await;
    let patch = ConversationPatch {
        title: Some("stolen".into()),
        ..ConversationPatch::default()
    };
    assert_eq!(db.conversation(eve.id, id).await.unwrap(), None);
    assert_eq!(
        db.update_conversation(eve.id, id, &patch).await.unwrap(),
        None
    );
    assert!(!db.delete_conversation(eve.id, id).await.unwrap());
    assert_eq!(
        db.conversation(enzo.id, id).await.unwrap().unwrap().title,
        "private"
    );
}

async fn every_write_moves_the_version_of_its_user_alone(store: Store) {
    let db = store.open().await;
    let (enzo, eve) = (
        user(&db, "enzo@example.org").await,
        user(&db, "eve@example.org").await,
    );
    let mut seen = db.conversations_version(enzo.id).await.unwrap();
    let mut moved = async || {
        let now = db.conversations_version(enzo.id).await.unwrap();
        std::mem::replace(&mut seen, now) != now
    };
    let id = conversation(&db, enzo.id, "a", 1).await;
    assert!(moved().await);
    let patch = ConversationPatch {
        title: Some("b".into()),
        ..ConversationPatch::default()
    };
    db.update_conversation(enzo.id, id, &patch)
        .await
        .unwrap()
        .unwrap();
    assert!(moved().await);
    db.delete_conversation(enzo.id, id).await.unwrap();
    assert!(moved().await);
    conversation(&db, eve.id, "hers", 1).await;
    assert!(!moved().await);
}

async fn a_head_must_be_a_message_of_the_conversation(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let id = conversation(&db, enzo.id, "a", 1).await;
    let patch = ConversationPatch {
        head: Some(MessageId::new()),
        ..ConversationPatch::default()
    };
    assert_eq!(
        db.update_conversation(enzo.id, id, &patch).await.unwrap(),
        None
    );
}
