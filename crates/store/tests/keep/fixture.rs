//! Rows of every table, with the texts that get lost or changed where something is careless.

use crate::{Store, raw};
use jarvis_store::Location;
use sqlx::SqlitePool;

/// Messages; more than a few pages, and no whole number of them.
pub(crate) const MESSAGES: usize = 437;

fn unusual() -> Vec<String> {
    [
        "",
        " ",
        "plain",
        "'quoted' \"twice\" `thrice` \\ back\\slash",
        "a\nb\r\nc\td",
        "$1 ? :name %s {} ; DROP TABLE messages; --",
        "[\"json\", null, 1e9]",
        "👩‍👩‍👧‍👦🏳️‍🌈 and 𝄞 and 中文",
        "שלום \u{202e}עולם\u{202c} مرحبا",
        "e\u{301} is not é",
        "\u{feff}with a byte order mark\u{fffd}\u{ffff}\u{10ffff}",
        "\u{1}\u{1f}\u{7f}\u{85}\u{2028}",
        "NULL",
        "12345678901234567890",
        "trailing spaces   ",
    ]
    .map(str::to_owned)
    .into()
}

/// Longer than any page, chunk or buffer on its way.
fn long() -> String {
    "très long 🚀 ".repeat(100_000)
}

/// Fills an empty SQLite file with rows of every table.
pub(crate) async fn fill(store: &Store) {
    let Location::File { path, .. } = &store.options.location else {
        panic!("the fixture is made in SQLite and moved from there");
    };
    store.open().await.close().await;
    let pool = raw(path).await;
    let texts = unusual();
    for user in 0..5 {
        let text = &texts[user % texts.len()];
        run(
            &pool,
            "INSERT INTO users (id, email, password_hash, role, created_at, list_version) VALUES (?, ?, ?, 'user', ?, ?)",
            [id("user", user), format!("u{user}@example.org"), text.clone(), user.to_string(), "9007199254740993".into()],
        )
        .await;
        run(
            &pool,
            "INSERT INTO invites (id, code_hash, created_by, created_at, expires_at, used_by, used_at) VALUES (?, ?, ?, 1, 9223372036854775807, NULL, NULL)",
            [id("invite", user), format!("hash{user}"), id("user", user)],
        )
        .await;
        run(
            &pool,
            "INSERT INTO sessions (id, user_id, created_at, revoked_at) VALUES (?, ?, -1, NULL)",
            [id("session", user), id("user", user)],
        )
        .await;
        run(
            &pool,
            "INSERT INTO refresh_tokens (token_hash, session_id, created_at, expires_at, used_at) VALUES (?, ?, 0, 0, 0)",
            [format!("token{user}"), id("session", user)],
        )
        .await;
    }
    for conversation in 0..103 {
        let text = &texts[conversation % (texts.len())];
        run(
            &pool,
            "INSERT INTO conversations (id, user_id, title, model, head_message_id, created_at, updated_at) VALUES (?, ?, ?, NULL, ?, 1, 2)",
            [id("conversation", conversation), id("user", conversation % 5), text.clone(), id("message", conversation)],
        )
        .await;
    }
    for message in 0..MESSAGES {
        messages(&pool, &texts, message).await;
    }
    for point in 0..211 {
        points(&pool, &texts, point).await;
    }
    pool.close().await;
}

async fn messages(pool: &SqlitePool, texts: &[String], n: usize) {
    let (conversation, text) = (n % 103, &texts[n % texts.len()]);
    let content = if n == 5 { long() } else { text.clone() };
    run(
        pool,
        "INSERT INTO messages (id, conversation_id, parent_id, role, content, created_at) VALUES (?, ?, NULLIF(?, ''), 'assistant', ?, 3)",
        [
            id("message", n),
            id("conversation", conversation),
            if n < 103 { String::new() } else { id("message", n - 103) },
            content,
        ],
    )
    .await;
    if n.is_multiple_of(2) {
        run(
            pool,
            "INSERT INTO generations (id, conversation_id, message_id, user_id, model, status, epoch, attempts, usage, error, created_at, finished_at)
             VALUES (?, ?, ?, ?, 'a model', 'done', 4294967295, 1, '{\"prompt_tokens\":1}', NULL, 5, NULL)",
            [id("generation", n), id("conversation", conversation), id("message", n), id("user", conversation % 5)],
        )
        .await;
        // The same keys for several users, to have a key of two columns matter.
        run(
            pool,
            "INSERT INTO idempotency_keys (user_id, key, request, generation_id, created_at) VALUES (?, ?, ?, ?, 6) ON CONFLICT DO NOTHING",
            [id("user", n % 5), format!("key {}", n / 10), text.clone(), id("generation", n)],
        )
        .await;
    }
}

async fn points(pool: &SqlitePool, texts: &[String], n: usize) {
    let text = &texts[n % (texts.len())];
    run(
        pool,
        "INSERT INTO series_answers (at, generation_id, user_id, model, node, status, prompt_tokens, completion_tokens, total_time, first_token_time)
         VALUES (CAST(? AS INTEGER), ?, ?, ?, '', 'done', 10, 20, 30, NULL)",
        [(n as u64 / 7 * 1_000_003).to_string(), id("generation", n), id("user", n % 5), text.clone()],
    )
    .await;
    run(
        pool,
        "INSERT INTO series_nodes (at, node, observer, up, active, waiting, response_time, error_share, health)
         VALUES (CAST(? AS INTEGER), ?, ?, 1, 2, 3, 4, 5, 6)",
        [(n as u64 / 9 * 999).to_string(), format!("{text}{}", n % 3), format!("api-{n}")],
    )
    .await;
}

/// Identifiers as they really look, so that both engines put them in the same and in another order.
fn id(kind: &str, n: usize) -> String {
    let kind = kind.bytes().map(u32::from).sum::<u32>();
    format!(
        "{:08x}-{kind:04x}-7000-8000-{n:012x}",
        n * 2_654_435_761 % 4_294_967_291
    )
}

async fn run<const N: usize>(pool: &SqlitePool, sql: &'static str, values: [String; N]) {
    let query = values
        .into_iter()
        .fold(sqlx::query(sql), sqlx::query::Query::bind);
    query.execute(pool).await.unwrap();
}
