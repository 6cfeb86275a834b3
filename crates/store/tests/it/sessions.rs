use crate::{NOW, Store, at, new_user, on_both, user};
use jarvis_domain::UserRole;
use jarvis_store::{Grant, Registered, Rotation};

on_both![
    only_one_account_can_be_the_first,
    an_address_is_taken_once_and_an_invitation_used_once,
    a_refresh_token_that_comes_twice_revokes_its_family,
    expired_unknown_and_signed_out_tokens_are_refused,
];

async fn only_one_account_can_be_the_first(store: Store) {
    let db = store.open().await;
    let (one, two) = tokio::join!(
        db.register(new_user("a@example.org"), Grant::First),
        db.register(new_user("b@example.org"), Grant::First)
    );
    let made: Vec<_> = [one.unwrap(), two.unwrap()]
        .into_iter()
        .filter(|r| matches!(r, Registered::Made(user) if user.role == UserRole::Admin))
        .collect();
    assert_eq!(made.len(), 1);
    assert_eq!(db.count_users().await.unwrap(), 1);
}

async fn an_address_is_taken_once_and_an_invitation_used_once(store: Store) {
    let db = store.open().await;
    let admin = user(&db, "admin@example.org").await;
    assert_eq!(
        db.register(new_user("admin@example.org"), Grant::Open)
            .await
            .unwrap(),
        Registered::EmailTaken
    );
    db.create_invite(admin.id, "code", NOW, at(2_000_000))
        .await
        .unwrap();
    assert_eq!(
        db.register(new_user("x@example.org"), Grant::Invite("wrong"))
            .await
            .unwrap(),
        Registered::BadInvite
    );
    assert!(matches!(
        db.register(new_user("x@example.org"), Grant::Invite("code"))
            .await
            .unwrap(),
        Registered::Made(_)
    ));
    assert_eq!(
        db.register(new_user("y@example.org"), Grant::Invite("code"))
            .await
            .unwrap(),
        Registered::BadInvite
    );
    assert_eq!(db.invites(NOW).await.unwrap(), [], "a used one is gone");
    let old = db.create_invite(admin.id, "old", NOW, NOW).await.unwrap();
    assert_eq!(db.invites(NOW).await.unwrap(), [], "so is an old one");
    let back = db.create_invite(admin.id, "back", NOW, at(2_000_000)).await;
    let back = back.unwrap();
    assert_eq!(db.invites(NOW).await.unwrap(), [back]);
    assert!(db.withdraw_invite(back.id).await.unwrap());
    assert!(!db.withdraw_invite(back.id).await.unwrap());
    assert!(!db.withdraw_invite(old.id).await.unwrap());
    assert_eq!(
        db.register(new_user("y@example.org"), Grant::Invite("back"))
            .await
            .unwrap(),
        Registered::BadInvite
    );
    assert_eq!(
        db.register(new_user("y@example.org"), Grant::Invite("old"))
            .await
            .unwrap(),
        Registered::BadInvite
    );
    assert_eq!(
        db.count_users().await.unwrap(),
        2,
        "a refused registration leaves nothing behind"
    );
}

async fn a_refresh_token_that_comes_twice_revokes_its_family(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let session = db
        .create_session(enzo.id, "t1", NOW, at(9_000_000))
        .await
        .unwrap();
    let rotated = Rotation::Rotated {
        session,
        user: enzo.id,
    };
    assert_eq!(
        db.rotate_refresh_token("t1", "t2", NOW, at(9_000_000))
            .await
            .unwrap(),
        rotated
    );
    assert_eq!(
        db.rotate_refresh_token("t2", "t3", NOW, at(9_000_000))
            .await
            .unwrap(),
        rotated
    );
    assert!(db.session_is_live(session).await.unwrap());
    assert_eq!(
        db.rotate_refresh_token("t1", "x", NOW, at(9_000_000))
            .await
            .unwrap(),
        Rotation::Reused {
            session,
            user: enzo.id
        }
    );
    assert!(!db.session_is_live(session).await.unwrap());
    assert_eq!(
        db.rotate_refresh_token("t3", "t4", NOW, at(9_000_000))
            .await
            .unwrap(),
        Rotation::Refused,
        "the newest falls with its family"
    );
}

async fn expired_unknown_and_signed_out_tokens_are_refused(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    db.create_session(enzo.id, "old", NOW, at(1_500_000))
        .await
        .unwrap();
    assert_eq!(
        db.rotate_refresh_token("old", "n", at(1_500_000), at(9_000_000))
            .await
            .unwrap(),
        Rotation::Refused
    );
    assert_eq!(
        db.rotate_refresh_token("never", "n", NOW, at(9_000_000))
            .await
            .unwrap(),
        Rotation::Refused
    );
    let session = db
        .create_session(enzo.id, "out", NOW, at(9_000_000))
        .await
        .unwrap();
    assert_eq!(
        db.revoke_session_of("out", NOW).await.unwrap(),
        Some(session)
    );
    assert_eq!(
        db.rotate_refresh_token("out", "n", NOW, at(9_000_000))
            .await
            .unwrap(),
        Rotation::Refused
    );
    assert_eq!(
        db.revoke_session_of("out", NOW).await.unwrap(),
        None,
        "it ends once"
    );
    assert_eq!(db.revoke_session_of("never", NOW).await.unwrap(), None);
}
