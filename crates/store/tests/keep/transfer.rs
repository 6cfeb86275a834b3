use crate::{Engine, NOW, Store, fixture, told};
use jarvis_store::{
    Db,
    keep::{Contents, KeepError, Part, Progress, Step, migrate},
};

fn silent(_: Progress) {}

async fn moved(from: &Store, to: &Store) -> Contents {
    migrate(&from.place(), &to.place(), None, NOW, silent)
        .await
        .unwrap_or_else(|error| panic!("{}", told(&error)))
}

#[tokio::test]
async fn rows_go_to_postgres_and_back_and_are_the_same() {
    let first = Store::new(Engine::Sqlite);
    fixture::fill(&first).await;
    let (second, third) = (Store::new(Engine::Postgres), Store::new(Engine::Sqlite));
    let there = moved(&first, &second).await;
    let back = moved(&second, &third).await;
    assert_eq!(there, back);
    assert_eq!(
        there.tables.iter().map(|(_, tally)| tally.rows()).min(),
        Some(5),
        "every table has rows: {there:?}"
    );
    let messages = there.tables.iter().find(|(name, _)| *name == "messages");
    assert_eq!(messages.unwrap().1.rows(), fixture::MESSAGES as u64);
    // Both are databases that Jarvis works on.
    for store in [&second, &third] {
        let db = store.open().await;
        assert_eq!(db.count_users().await.unwrap(), 5);
        assert_eq!(db.integrity().await.unwrap(), Vec::<String>::new());
        db.close().await;
    }
}

#[tokio::test]
async fn rows_go_from_a_database_to_another_one_of_the_same_engine() {
    let (first, second) = (Store::new(Engine::Sqlite), Store::new(Engine::Postgres));
    fixture::fill(&first).await;
    let there = moved(&first, &second).await;
    let third = Store::new(Engine::Postgres);
    assert_eq!(moved(&second, &third).await, there);
}

#[tokio::test]
async fn an_empty_database_can_be_moved() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Postgres));
    from.open().await.close().await;
    assert_eq!(moved(&from, &to).await.rows(), 0);
    to.open().await.close().await;
}

#[tokio::test]
async fn the_series_can_go_to_a_database_of_their_own() {
    let from = Store::new(Engine::Sqlite);
    fixture::fill(&from).await;
    let (main, series) = (Store::new(Engine::Postgres), Store::new(Engine::Sqlite));
    let mut all = Vec::new();
    for (to, part) in [(&main, Part::Main), (&series, Part::Series)] {
        let contents = migrate(&from.place(), &to.place(), Some(part), NOW, silent).await;
        all.extend(contents.unwrap().tables);
    }
    assert_eq!(all, moved(&from, &Store::new(Engine::Sqlite)).await.tables);
    assert_eq!(main.number("SELECT COUNT(*) FROM series_nodes").await, 0);
    assert_eq!(series.number("SELECT COUNT(*) FROM users").await, 0);
    assert_eq!(
        series.number("SELECT COUNT(*) FROM series_nodes").await,
        211
    );
}

#[tokio::test]
async fn progress_is_told_up_to_the_end_of_each_table() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Sqlite));
    fixture::fill(&from).await;
    let mut told = Vec::new();
    migrate(&from.place(), &to.place(), None, NOW, |progress| {
        told.push(progress);
    })
    .await
    .unwrap();
    let of = |step| {
        told.iter()
            .filter(move |progress| progress.step == step && progress.table == "messages")
            .map(|progress| (progress.rows, progress.of))
            .collect::<Vec<_>>()
    };
    let all = Some(fixture::MESSAGES as u64);
    let steps = [0, 100, 200, 300, 400, 437].map(|rows| (rows, all));
    assert_eq!(of(Step::Copying), steps);
    assert_eq!(of(Step::Verifying), steps[1..]);
}

/// What goes wrong behind the back of a move, once its last table is being copied.
async fn with_fault(target: Engine, fault: &'static str) -> (KeepError, Store, Store) {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(target));
    fixture::fill(&from).await;
    let mut planted = false;
    let outcome = migrate(&from.place(), &to.place(), None, NOW, |progress| {
        if progress.table == "series_nodes" && !std::mem::replace(&mut planted, true) {
            let now = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| now.block_on(to.execute(fault)));
        }
    })
    .await;
    assert!(planted);
    (outcome.unwrap_err(), from, to)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_a_changed_and_a_doubled_row_are_noticed() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        for (table, fault) in [
            (
                "idempotency_keys",
                "DELETE FROM idempotency_keys WHERE key = (SELECT MIN(key) FROM idempotency_keys)",
            ),
            (
                "messages",
                "UPDATE messages SET content = content || ' ' WHERE id = (SELECT MAX(id) FROM messages)",
            ),
            (
                "messages",
                "INSERT INTO messages SELECT id || 'b', conversation_id, parent_id, role, content, created_at FROM messages WHERE id = (SELECT MIN(id) FROM messages)",
            ),
            (
                "sessions",
                "UPDATE sessions SET revoked_at = 0 WHERE id = (SELECT MIN(id) FROM sessions)",
            ),
        ] {
            let (error, from, to) = with_fault(engine, fault).await;
            let KeepError::Differs(found) = &error else {
                panic!("{engine:?}, {fault}: {}", told(&error));
            };
            assert_eq!(found.table, table, "{engine:?}, {fault}");
            // Nobody works on it, and a second try does not make it better.
            let error = Db::open(&to.options).await.unwrap_err();
            assert!(error.to_string().contains("unfinished"), "{error}");
            let again = migrate(&from.place(), &to.place(), None, NOW, silent).await;
            assert!(matches!(again, Err(KeepError::Differs(_))), "{again:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_written_to_the_source_meanwhile_is_noticed() {
    let (from, to) = (Store::new(Engine::Sqlite), Store::new(Engine::Postgres));
    fixture::fill(&from).await;
    let outcome = migrate(&from.place(), &to.place(), None, NOW, |progress| {
        if progress.table == "series_nodes" && progress.rows == 0 {
            let write = from.execute("UPDATE users SET role = 'admin'");
            let now = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| now.block_on(write));
        }
    })
    .await;
    assert!(
        matches!(&outcome, Err(KeepError::Differs(found)) if found.table == "users"),
        "{outcome:?}"
    );
}
