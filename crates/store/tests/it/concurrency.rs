//! What must hold when many do the same at once: on SQLite because one writes at a time, on PostgreSQL because the transactions lock
//! what they meet at.

use crate::{NOW, Store, at, new_user, on_both, opening, user};
use jarvis_domain::InstanceId;
use jarvis_store::{
    Begin, Begun, Db, Grant, Outcome, Parent, Registered, RequestKey, Rotation, Start, StoreError,
};
use std::collections::HashSet;

on_both![
    one_of_many_is_the_first_account,
    one_invitation_makes_one_account,
    one_key_begins_one_generation,
    messages_at_one_head_become_one_line,
    of_many_successors_of_a_refresh_token_one_goes_on,
    ends_and_deletions_do_not_hold_each_other_up,
    one_claim_wins,
];

const MANY: usize = 16;

async fn one_of_many_is_the_first_account(store: Store) {
    let db = store.open().await;
    let register = |n| db.register(new_user(&format!("u{n}@example.org")), Grant::First);
    let outcomes = store.race("users", (0..MANY).map(register)).await;
    let made = |outcome: &&Result<Registered, StoreError>| matches!(outcome, Ok(Registered::Made(user)) if user.role == jarvis_domain::UserRole::Admin);
    assert_eq!(outcomes.iter().filter(made).count(), 1, "{outcomes:?}");
    let late =
        |outcome: &&Result<Registered, StoreError>| matches!(outcome, Ok(Registered::NotFirst));
    assert_eq!(outcomes.iter().filter(late).count(), MANY - 1);
    assert_eq!(db.count_users().await.unwrap(), 1);
}

async fn one_invitation_makes_one_account(store: Store) {
    let db = store.open().await;
    let admin = user(&db, "admin@example.org").await;
    db.create_invite(admin.id, "code", NOW, at(9_000_000))
        .await
        .unwrap();
    let register = |n| {
        let new = new_user(&format!("u{n}@example.org"));
        db.register(new, Grant::Invite("code"))
    };
    let outcomes = store.race("invites", (0..MANY).map(register)).await;
    let made = outcomes
        .into_iter()
        .filter(|outcome| matches!(outcome.as_ref().unwrap(), Registered::Made(_)));
    assert_eq!(made.count(), 1);
    assert_eq!(db.count_users().await.unwrap(), 2);
}

async fn one_key_begins_one_generation(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let begin = || Begin {
        idempotency_key: Some(RequestKey {
            key: "k".into(),
            digest: "d".into(),
        }),
        ..opening(enzo.id, "q")
    };
    let starts = (0..MANY).map(|_| db.begin(begin()));
    let outcomes = store.race("idempotency_keys", starts).await;
    let (mut new, mut ids) = (0, HashSet::new());
    for outcome in outcomes {
        match outcome.unwrap() {
            Begun::New { generation, .. } => {
                new += 1;
                ids.insert(generation.id);
            }
            Begun::Before { generation, .. } => {
                ids.insert(generation.id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((new, ids.len()), (1, 1));
    assert_eq!(db.conversations(enzo.id, 10, None).await.unwrap().len(), 1);
}

async fn messages_at_one_head_become_one_line(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let Begun::New { generation, .. } = db.begin(opening(enzo.id, "q")).await.unwrap() else {
        panic!("new");
    };
    let conversation = generation.conversation_id;
    let next = |n: usize| {
        db.begin(Begin {
            start: Start::Message {
                conversation,
                parent: Parent::Head,
                content: n.to_string(),
            },
            ..opening(enzo.id, "q")
        })
    };
    for outcome in store.race("conversations", (0..MANY).map(next)).await {
        assert!(matches!(outcome.unwrap(), Begun::New { .. }));
    }
    let kept = db.conversation(enzo.id, conversation).await.unwrap();
    let head = kept.unwrap().head.unwrap();
    let branch = db.branch(conversation, head).await.unwrap();
    assert_eq!(branch.len(), 2 * (MANY + 1), "one line, no fork");
}

/// However many tabs send the same token at once, none of them is signed out; and what they were given is one token's worth.
async fn of_many_successors_of_a_refresh_token_one_goes_on(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let end = at(9_000_000_000);
    let session = db.create_session(enzo.id, "t", NOW, end).await.unwrap();
    let new: Vec<_> = (0..MANY).map(|n| format!("n{n}")).collect();
    let rotate = |new| db.rotate_refresh_token("t", new, NOW, end);
    let rotations = new.iter().map(String::as_str).map(rotate);
    let outcomes = store.race("refresh_tokens", rotations).await;
    let rotated = |outcome: &Result<_, _>| matches!(outcome, Ok(Rotation::Rotated { .. }));
    assert!(outcomes.iter().all(rotated), "{outcomes:?}");
    assert!(db.session_is_live(session).await.unwrap());
    let later = at(NOW.micros() + 60_000_000);
    let used = db.rotate_refresh_token(&new[0], "used", later, end).await;
    assert!(rotated(&used), "{used:?}");
    let much_later = at(NOW.micros() + 120_000_000);
    let others = new[1..]
        .iter()
        .map(|old| db.rotate_refresh_token(old, "x", much_later, end));
    let outcomes = store.race("sessions", others).await;
    assert!(!outcomes.iter().any(rotated), "{outcomes:?}");
    assert!(
        !db.session_is_live(session).await.unwrap(),
        "somebody came with another one later"
    );
}

async fn ends_and_deletions_do_not_hold_each_other_up(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    for round in 0..8 {
        let Begun::New { generation, .. } = db.begin(opening(enzo.id, "q")).await.unwrap() else {
            panic!("new");
        };
        let conversation = generation.conversation_id;
        let outcome = Outcome {
            status: jarvis_domain::Status::Done,
            usage: None,
            error: None,
        };
        let next = db.begin(Begin {
            start: Start::Message {
                conversation,
                parent: Parent::Head,
                content: "q2".into(),
            },
            ..opening(enzo.id, "q")
        });
        let (finished, deleted, begun) = tokio::join!(
            db.finish(&generation, "a", &outcome, NOW),
            db.delete_conversation(enzo.id, conversation),
            next,
        );
        assert!(
            matches!(finished, Ok(()) | Err(StoreError::Fenced)),
            "round {round}: {finished:?}"
        );
        assert!(deleted.unwrap());
        assert!(
            matches!(begun, Ok(Begun::New { .. } | Begun::Absent)),
            "round {round}: {begun:?}"
        );
        let left = db.messages(enzo.id, conversation, 10, None).await.unwrap();
        assert_eq!(left, [], "round {round}");
    }
}

async fn one_claim_wins(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let Begun::New { generation, .. } = db.begin(opening(enzo.id, "q")).await.unwrap() else {
        panic!("new");
    };
    let claim = |_| db.claim(generation.id, generation.epoch, InstanceId::new());
    let outcomes = store.race("generations", (0..MANY).map(claim)).await;
    let won: Vec<_> = outcomes
        .into_iter()
        .filter_map(Result::unwrap)
        .map(|claimed| claimed.generation.epoch)
        .collect();
    assert_eq!(won, [2]);
}

#[tokio::test]
async fn the_list_version_of_one_instance_moves_with_the_writes_of_another() {
    let store = Store::postgres();
    let (here, there) = (store.open().await, store.open().await);
    let enzo = user(&here, "enzo@example.org").await;
    let version = async |db: &Db| db.conversations_version(enzo.id).await.unwrap();
    let before = version(&here).await;
    there.begin(opening(enzo.id, "q")).await.unwrap();
    let after = version(&here).await;
    assert!(after > before, "{before} {after}");
    assert_eq!(version(&there).await, after);
}
