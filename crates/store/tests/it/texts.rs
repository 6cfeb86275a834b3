//! What text the engines keep: all but NUL, and exactly.

use crate::{NOW, Store, on_both, user};
use jarvis_domain::{Conversation, ConversationId};
use jarvis_store::StoreError;

on_both![text_comes_back_as_it_went_in, a_nul_character_is_refused];

fn titled(user: jarvis_domain::UserId, title: &str) -> Conversation {
    Conversation {
        id: ConversationId::new(),
        user_id: user,
        title: title.into(),
        model: None,
        head: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

async fn text_comes_back_as_it_went_in(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    for title in [
        "",
        " two  blanks ",
        "l'été — 日本 🦀 \u{FFFD}",
        "\r\n\t\u{1}\u{7f}\u{85}\u{200f}",
        "a\u{301}\u{e1}",
        "'; DROP TABLE users; --",
        "$1 \\ \"quoted\" %s",
    ] {
        let made = titled(enzo.id, title);
        db.create_conversation(&made).await.unwrap();
        let kept = db.conversation(enzo.id, made.id).await.unwrap();
        assert_eq!(kept, Some(made));
    }
}

async fn a_nul_character_is_refused(store: Store) {
    let db = store.open().await;
    let enzo = user(&db, "enzo@example.org").await;
    let refused = db.create_conversation(&titled(enzo.id, "a\0b")).await;
    assert!(matches!(refused, Err(StoreError::Nul)), "{refused:?}");
    assert_eq!(db.conversations(enzo.id, 10, None).await.unwrap(), []);
    db.create_conversation(&titled(enzo.id, "ab"))
        .await
        .unwrap();
}
