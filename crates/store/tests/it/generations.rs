use crate::{NOW, Store, at, on_both, opening, user};
use jarvis_domain::{
    Generation, GenerationError, GenerationId, InstanceId, MessageId, Role, Status, Usage, UserId,
};
use jarvis_store::{Begin, Begun, Db, Outcome, Parent, RequestKey, Start, StoreError};

on_both![
    branches_grow_from_any_message_and_are_read_root_first,
    one_key_begins_one_generation_however_often_it_comes,
    foreign_places_are_absent_and_answers_are_not_answered_again,
    a_late_owner_is_refused_and_an_end_is_final,
    a_deleted_conversation_takes_everything_with_it,
    a_long_branch_can_be_read_and_deleted,
];

fn key(digest: &str) -> RequestKey {
    RequestKey {
        key: "k".into(),
        digest: digest.into(),
    }
}

fn begin(user: UserId, start: Start) -> Begin {
    Begin {
        start,
        ..opening(user, "q")
    }
}

async fn new(db: &Db, begin: Begin) -> (Generation, MessageId) {
    match db.begin(begin).await.unwrap() {
        Begun::New {
            generation,
            message_id,
        } => (generation, message_id),
        other => panic!("{other:?}"),
    }
}

fn done() -> Outcome {
    let usage = Usage {
        prompt_tokens: 3,
        completion_tokens: 2,
        total_ms: 9,
        first_token_ms: Some(4),
    };
    Outcome {
        status: Status::Done,
        usage: Some(usage),
        error: None,
    }
}

async fn branches_grow_from_any_message_and_are_read_root_first(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let (one, question) = new(&db, opening(enzo.id, "q1")).await;
    db.finish(&one, "a1", &done(), at(2_000_000)).await.unwrap();
    let conversation = one.conversation_id;
    let (two, _) = new(
        &db,
        begin(
            enzo.id,
            Start::Message {
                conversation,
                parent: Parent::Head,
                content: "q2".into(),
            },
        ),
    )
    .await;
    let (again, same) = new(
        &db,
        begin(
            enzo.id,
            Start::Again {
                conversation,
                message: question,
            },
        ),
    )
    .await;
    assert_eq!(same, question);
    let (edited, _) = new(
        &db,
        begin(
            enzo.id,
            Start::Message {
                conversation,
                parent: Parent::Root,
                content: "q1 bis".into(),
            },
        ),
    )
    .await;

    let texts = |branch: Vec<jarvis_domain::Message>| {
        branch
            .into_iter()
            .map(|m| (m.role, m.content))
            .collect::<Vec<_>>()
    };
    let long = texts(db.branch(conversation, two.message_id).await.unwrap());
    assert_eq!(
        long,
        [
            (Role::User, "q1".into()),
            (Role::Assistant, "a1".into()),
            (Role::User, "q2".into()),
            (Role::Assistant, String::new())
        ]
    );
    assert_eq!(
        db.branch(conversation, again.message_id)
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        db.branch(conversation, edited.message_id)
            .await
            .unwrap()
            .len(),
        2
    );
    let rows = db.messages(enzo.id, conversation, 100, None).await.unwrap();
    assert_eq!(rows.len(), 7);
    assert_eq!(rows[1].generation.as_ref().unwrap().usage, done().usage);
    assert_eq!(rows[0].generation, None);
    assert_eq!(
        db.messages(enzo.id, conversation, 100, Some(rows[4].message.id))
            .await
            .unwrap()
            .as_slice(),
        &rows[5..]
    );
}

async fn one_key_begins_one_generation_however_often_it_comes(store: Store) {
    let db = store.open().await;
    let (enzo, eve) = (
        user(&db, "enzo@example.org").await,
        user(&db, "eve@example.org").await,
    );
    let keyed = |user| Begin {
        idempotency_key: Some(key("q")),
        ..opening(user, "q")
    };
    let (one, two) = tokio::join!(db.begin(keyed(enzo.id)), db.begin(keyed(enzo.id)));
    let (generation, message_id) = match (one.unwrap(), two.unwrap()) {
        (
            Begun::New {
                generation,
                message_id,
            },
            Begun::Before {
                generation: same,
                message_id: question,
            },
        )
        | (
            Begun::Before {
                generation: same,
                message_id: question,
            },
            Begun::New {
                generation,
                message_id,
            },
        ) => {
            assert_eq!((&generation, message_id), (&same, question));
            (generation, message_id)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        db.messages(enzo.id, generation.conversation_id, 10, None)
            .await
            .unwrap()[0]
            .message
            .id,
        message_id
    );
    assert_eq!(db.conversations(enzo.id, 10, None).await.unwrap().len(), 1);
    assert!(
        matches!(db.begin(keyed(eve.id)).await.unwrap(), Begun::New { .. }),
        "another user's key is another key"
    );
    let other = Begin {
        idempotency_key: Some(key("r")),
        ..opening(enzo.id, "r")
    };
    assert_eq!(db.begin(other).await.unwrap(), Begun::KeyReused);
    assert_eq!(
        db.begun(enzo.id, &key("r")).await.unwrap(),
        Some(Begun::KeyReused)
    );
    assert_eq!(
        db.begun(enzo.id, &key("q")).await.unwrap(),
        Some(Begun::Before {
            generation,
            message_id
        })
    );
}

async fn foreign_places_are_absent_and_answers_are_not_answered_again(store: Store) {
    let db = store.open().await;
    let (enzo, eve) = (
        user(&db, "enzo@example.org").await,
        user(&db, "eve@example.org").await,
    );
    let (mine, question) = new(&db, opening(enzo.id, "q")).await;
    let (hers, _) = new(&db, opening(eve.id, "q")).await;
    let conversation = mine.conversation_id;
    for start in [
        Start::Message {
            conversation: hers.conversation_id,
            parent: Parent::Head,
            content: "x".into(),
        },
        Start::Message {
            conversation,
            parent: Parent::Message(hers.message_id),
            content: "x".into(),
        },
        Start::Again {
            conversation,
            message: mine.message_id,
        },
        Start::Again {
            conversation: hers.conversation_id,
            message: question,
        },
    ] {
        assert_eq!(
            db.begin(begin(enzo.id, start.clone())).await.unwrap(),
            Begun::Absent,
            "{start:?}"
        );
    }
    assert_eq!(db.generation(eve.id, mine.id).await.unwrap(), None);
    assert_eq!(
        db.messages(enzo.id, conversation, 10, None)
            .await
            .unwrap()
            .len(),
        2
    );
}

async fn a_late_owner_is_refused_and_an_end_is_final(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let (old, _) = new(&db, opening(enzo.id, "q")).await;
    db.mark_running(old.id, old.epoch).await.unwrap();
    assert_eq!(db.unfinished().await.unwrap().len(), 1);
    let me = InstanceId::new();
    let claimed = db.claim(old.id, old.epoch, me).await.unwrap().unwrap();
    let claimed = claimed.generation;
    assert_eq!((claimed.epoch, claimed.attempts), (2, 1), "it was nobody's");
    assert_eq!(
        db.claim(old.id, old.epoch, me).await.unwrap(),
        None,
        "one claim wins"
    );
    assert!(matches!(
        db.mark_running(old.id, old.epoch).await,
        Err(StoreError::Fenced)
    ));
    assert!(matches!(
        db.finish(&old, "late", &done(), NOW).await,
        Err(StoreError::Fenced)
    ));
    let error = GenerationError {
        code: "node_lost".into(),
        message: "gone".into(),
    };
    let cut = Outcome {
        status: Status::Interrupted,
        usage: None,
        error: Some(error.clone()),
    };
    db.finish(&claimed, "whole", &cut, NOW).await.unwrap();
    assert!(matches!(
        db.finish(&claimed, "twice", &done(), NOW).await,
        Err(StoreError::Fenced)
    ));
    let kept = db.generation(enzo.id, old.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.status, kept.error),
        (Status::Interrupted, Some(error))
    );
    assert_eq!(
        db.message(old.conversation_id, old.message_id)
            .await
            .unwrap()
            .unwrap()
            .content,
        "whole"
    );
    assert!(db.unfinished().await.unwrap().is_empty());
}

async fn a_deleted_conversation_takes_everything_with_it(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let keyed = Begin {
        idempotency_key: Some(key("q")),
        ..opening(enzo.id, "q")
    };
    let (generation, _) = new(&db, keyed.clone()).await;
    assert!(
        db.delete_conversation(enzo.id, generation.conversation_id)
            .await
            .unwrap()
    );
    assert_eq!(db.generation(enzo.id, generation.id).await.unwrap(), None);
    assert!(matches!(
        db.finish(&generation, "late", &done(), NOW).await,
        Err(StoreError::Fenced)
    ));
    let anew = Begin {
        id: GenerationId::new(),
        ..keyed
    };
    assert!(matches!(db.begin(anew).await.unwrap(), Begun::New { .. }));
}

async fn a_long_branch_can_be_read_and_deleted(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let (first, _) = new(&db, opening(enzo.id, "q")).await;
    let conversation = first.conversation_id;
    let mut last = first;
    for n in 0..750 {
        let next = Start::Message {
            conversation,
            parent: Parent::Head,
            content: n.to_string(),
        };
        last = new(&db, begin(enzo.id, next)).await.0;
    }
    assert_eq!(
        db.branch(conversation, last.message_id)
            .await
            .unwrap()
            .len(),
        1502
    );
    assert!(db.delete_conversation(enzo.id, conversation).await.unwrap());
    assert_eq!(
        db.message(conversation, last.message_id).await.unwrap(),
        None
    );
}
