use crate::{NOW, Store, at, new_user, on_both, user};
use jarvis_domain::UserRole;
use jarvis_store::{Grant, Registered, Rotation};

on_both![
    only_one_account_can_be_the_first,
    an_address_is_taken_once_and_an_invitation_used_once,
    a_refresh_token_that_comes_twice_revokes_its_family,
    a_token_spent_just_now_may_come_again,
    a_copied_token_makes_no_second_line,
    of_two_that_renew_at_once_both_are_served,
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

/// Seconds after [`NOW`].
fn after(seconds: i64) -> jarvis_domain::Timestamp {
    at(NOW.micros() + seconds * 1_000_000)
}

async fn a_refresh_token_that_comes_twice_revokes_its_family(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let session = db.create_session(enzo.id, "t1", NOW, after(99)).await;
    let (session, user) = (session.unwrap(), enzo.id);
    let rotate = async |old: &str, new: &str, seconds: i64| {
        let made = db.rotate_refresh_token(old, new, after(seconds), after(99));
        made.await.unwrap()
    };
    let rotated = Rotation::Rotated { session, user };
    assert_eq!(rotate("t1", "t2", 1).await, rotated);
    assert_eq!(rotate("t2", "t3", 2).await, rotated);
    assert!(db.session_is_live(session).await.unwrap());
    // Within the grace, but its successor was used.
    let reused = Rotation::Reused { session, user };
    assert_eq!(rotate("t1", "x", 3).await, reused);
    assert!(!db.session_is_live(session).await.unwrap());
    let newest = rotate("t3", "t4", 3).await;
    assert_eq!(newest, Rotation::Refused, "it falls with its family");
}

async fn a_token_spent_just_now_may_come_again(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let session = db.create_session(enzo.id, "t1", NOW, after(99)).await;
    let (session, user) = (session.unwrap(), enzo.id);
    let rotate = async |old: &str, new: &str, seconds: i64| {
        let made = db.rotate_refresh_token(old, new, after(seconds), after(99));
        made.await.unwrap()
    };
    let rotated = Rotation::Rotated { session, user };
    let reused = Rotation::Reused { session, user };
    assert_eq!(rotate("t1", "lost", 1).await, rotated);
    assert_eq!(rotate("t1", "lost too", 5).await, rotated);
    assert_eq!(rotate("t1", "t2", 10).await, rotated);
    assert_eq!(rotate("t2", "t3", 20).await, rotated);
    // The first of the siblings that was used has spent them all, and they were not presented a moment ago.
    assert_eq!(rotate("lost", "x", 21).await, reused);
    assert!(!db.session_is_live(session).await.unwrap());

    let session = db.create_session(enzo.id, "u1", NOW, after(99)).await;
    let session = session.unwrap();
    let rotated = Rotation::Rotated { session, user };
    assert_eq!(rotate("u1", "u2", 1).await, rotated);
    let late = rotate("u1", "x", 11).await;
    assert_eq!(late, Rotation::Reused { session, user }, "10 s are over");

    let session = db.create_session(enzo.id, "v1", NOW, after(99)).await;
    let session = session.unwrap();
    let rotated = Rotation::Rotated { session, user };
    assert_eq!(rotate("v1", "v2", 50).await, rotated);
    let early = rotate("v1", "x", 40).await;
    let reused = Rotation::Reused { session, user };
    assert_eq!(early, reused, "the clock was set back");
}

/// Whoever copied a token goes on beside its owner for one renewal at most, however well they time it.
async fn a_copied_token_makes_no_second_line(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    for thief_first in [false, true] {
        let token = |name: &str| format!("{name} {thief_first}");
        let session = db
            .create_session(enzo.id, &token("t"), NOW, after(99))
            .await
            .unwrap();
        let rotate = async |old: &str, new: &str, seconds: i64| {
            let (old, new) = (token(old), token(new));
            let made = db.rotate_refresh_token(&old, &new, after(seconds), after(99));
            made.await.unwrap()
        };
        let (session, user) = (session, enzo.id);
        let rotated = Rotation::Rotated { session, user };
        assert_eq!(rotate("t", "owner", 1).await, rotated);
        assert_eq!(rotate("t", "thief", 3).await, rotated);
        let (first, second) = if thief_first {
            ("thief", "owner")
        } else {
            ("owner", "thief")
        };
        assert_eq!(rotate(first, "next", 13).await, rotated);
        let found_out = rotate(second, "x", 15).await;
        assert_eq!(found_out, Rotation::Reused { session, user });
        assert_eq!(rotate("next", "x", 16).await, Rotation::Refused);
    }
}

async fn of_two_that_renew_at_once_both_are_served(store: Store) {
    let one = store.open().await;
    let two = store.open().await;
    let enzo = user(&one, "enzo@example.org").await;
    for round in 0..20 {
        let token = |name: &str| format!("{name} {round}");
        let (old, left, right, next) = (token("t"), token("left"), token("right"), token("n"));
        let session = one.create_session(enzo.id, &old, NOW, after(99)).await;
        let session = session.unwrap();
        let rotated = Rotation::Rotated {
            session,
            user: enzo.id,
        };
        let (first, second) = tokio::join!(
            one.rotate_refresh_token(&old, &left, after(1), after(99)),
            two.rotate_refresh_token(&old, &right, after(2), after(99))
        );
        assert_eq!((first.unwrap(), second.unwrap()), (rotated, rotated));
        // Both go on with either: one cookie is left of the two.
        let next = two.rotate_refresh_token(&left, &next, after(3), after(99));
        assert_eq!(next.await.unwrap(), rotated);
    }
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
