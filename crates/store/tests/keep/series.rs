use crate::{Engine, NOW, Store};
use jarvis_domain::{GenerationId, Status, Timestamp, UserId};
use jarvis_store::{
    Db, DbOptions, Location,
    series::{
        AnswerPoint, NodePoint, NodeSpan, Series, SeriesOptions, SeriesStore, Span, Usage,
        UsageFilter, Width,
    },
};
use jarvis_testkit::services::Postgres;
use std::time::Duration;
use tokio::{sync::oneshot, task::JoinSet};

const HOUR: i64 = 3_600_000_000;
/// Midnight, so that days are easy to count.
const MIDNIGHT: i64 = 20_779 * 24 * HOUR;

/// A series that is being written.
struct Running {
    series: Series,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<()>,
}

fn run(options: SeriesOptions) -> Running {
    let (series, task) = Series::new(options);
    let (stop, stopped) = oneshot::channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(task.run(async {
        let _ = stopped.await;
    }));
    Running {
        series,
        stop,
        tasks,
    }
}

impl Running {
    /// Stops it, which writes what has arrived.
    async fn stop(mut self) -> Series {
        self.stop.send(()).unwrap();
        self.tasks.join_next().await.unwrap().unwrap();
        self.series
    }

    /// Waits until the store has been opened.
    async fn opened(&self) {
        let all = UsageFilter {
            span: everything(),
            width: Width::Hour,
            user: None,
        };
        while self.series.usage(all).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

async fn on(engine: Engine) -> (Store, Db) {
    let store = Store::new(engine);
    let db = store.open().await;
    (store, db)
}

/// Kept for ever: the points of these tests are of any time.
fn kept(store: SeriesStore) -> SeriesOptions {
    SeriesOptions {
        keep_answers: Duration::from_hours(24 * 365 * 100),
        keep_nodes: Duration::from_hours(24 * 365 * 100),
        ..SeriesOptions::new(store)
    }
}

fn everything() -> Span {
    Span {
        from: Timestamp::from_micros(0),
        to: Timestamp::from_micros(i64::MAX / 2),
    }
}

fn answer(at: i64, user: UserId, model: &str) -> AnswerPoint {
    AnswerPoint {
        at: Timestamp::from_micros(at),
        generation: GenerationId::new(),
        user,
        model: model.to_owned(),
        node: Some("engine".into()),
        status: Status::Done,
        prompt_tokens: 10,
        completion_tokens: 5,
        total: Duration::from_millis(1500),
        first_token: Some(Duration::from_millis(200)),
    }
}

fn node(at: i64, name: &str, up: bool, health: f64) -> NodePoint {
    NodePoint {
        at: Timestamp::from_micros(at),
        node: name.to_owned(),
        observer: "api-1".into(),
        up,
        active: u32::from(up) * 3,
        waiting: 1.0,
        response: Duration::from_micros(2500),
        error_share: 0.25,
        health,
    }
}

/// Points across the borders of hours and days, for two users and models in an order that no collation agrees on.
fn points(users: [UserId; 2]) -> (Vec<AnswerPoint>, Vec<NodePoint>) {
    let mut answers = Vec::new();
    for (n, model) in ["llama3.2", "Zephyr", "éclair", "a b", "a-b"]
        .iter()
        .enumerate()
    {
        let offset = i64::try_from(n).unwrap();
        answers.push(answer(MIDNIGHT - 1 + offset, users[0], model));
        answers.push(answer(MIDNIGHT + HOUR - 1, users[1], model));
        answers.push(answer(MIDNIGHT + HOUR, users[1], model));
    }
    answers.push(AnswerPoint {
        status: Status::Stopped,
        node: None,
        first_token: None,
        completion_tokens: 0,
        total: Duration::from_mins(1),
        ..answer(MIDNIGHT + 1, users[0], "llama3.2")
    });
    let nodes = (0..10).map(|n| {
        node(
            MIDNIGHT + n * HOUR / 4,
            "gpu",
            n != 3,
            0.9 - f64::from(u8::try_from(n).unwrap()) / 100.0,
        )
    });
    (answers, nodes.collect())
}

/// What is asked of a series.
type Answers = (
    Vec<Usage>,
    Vec<Usage>,
    Vec<Usage>,
    Vec<NodeSpan>,
    Vec<NodeSpan>,
);

async fn asked(series: &Series, user: UserId) -> Answers {
    let by = |width, user| UsageFilter {
        span: everything(),
        width,
        user,
    };
    (
        series.usage(by(Width::Hour, None)).await.unwrap(),
        series.usage(by(Width::Day, None)).await.unwrap(),
        series.usage(by(Width::Hour, Some(user))).await.unwrap(),
        series.nodes(everything(), Width::Hour).await.unwrap(),
        series.nodes(everything(), Width::Day).await.unwrap(),
    )
}

async fn written(
    engine: Engine,
    users: [UserId; 2],
    points: &(Vec<AnswerPoint>, Vec<NodePoint>),
) -> Answers {
    let (_store, db) = on(engine).await;
    let running = run(kept(SeriesStore::Main(db)));
    running.opened().await;
    for answer in &points.0 {
        running.series.record(answer.clone());
        // Written twice, it counts once.
        running.series.record(answer.clone());
    }
    for node in &points.1 {
        running.series.record(node.clone());
    }
    let series = running.stop().await;
    assert_eq!(series.dropped(), 0);
    asked(&series, users[0]).await
}

#[tokio::test]
async fn both_engines_give_the_same_sums() {
    let users = [UserId::new(), UserId::new()];
    let points = points(users);
    let sqlite = written(Engine::Sqlite, users, &points).await;
    let postgres = written(Engine::Postgres, users, &points).await;
    assert_eq!(sqlite, postgres);

    let (hours, days, mine, nodes, node_days) = sqlite;
    assert_eq!(hours.iter().map(|row| row.answers).sum::<u64>(), 16);
    assert_eq!(days.iter().map(|row| row.answers).sum::<u64>(), 16);
    assert!(mine.iter().all(|row| row.user == users[0]));
    let last_day = Timestamp::from_micros(MIDNIGHT - 24 * HOUR);
    let yesterday: Vec<_> = days.iter().filter(|row| row.begin == last_day).collect();
    assert_eq!(
        yesterday.len(),
        1,
        "one answer ended before midnight: {days:?}"
    );
    let row = mine
        .iter()
        .find(|row| row.begin.micros() == MIDNIGHT && row.node.is_empty())
        .unwrap();
    assert_eq!((row.answers, row.done, row.prompt_tokens), (1, 0, 10));
    assert_eq!((row.first_tokens, row.first_token), (0, Duration::ZERO));
    assert_eq!(row.longest, Duration::from_mins(1));

    assert_eq!(
        nodes.iter().map(|row| row.samples).collect::<Vec<_>>(),
        [4, 4, 2]
    );
    assert!((nodes[0].up - 0.75).abs() < 1e-9, "{nodes:?}");
    assert_eq!(nodes[0].active_most, 3);
    assert_eq!(nodes[0].response, Duration::from_micros(2500));
    assert!((nodes[0].health_worst - 0.87).abs() < 1e-9, "{nodes:?}");
    assert_eq!(node_days.len(), 1);
    assert!((node_days[0].error_share - 0.25).abs() < 1e-9);
}

#[tokio::test]
async fn a_span_is_cut_to_whole_hours_and_excludes_its_end() {
    let (_store, db) = on(Engine::Sqlite).await;
    let user = UserId::new();
    let running = run(kept(SeriesStore::Main(db)));
    running.opened().await;
    for hour in 0..4 {
        running
            .series
            .record(answer(MIDNIGHT + hour * HOUR, user, "m"));
    }
    let series = running.stop().await;
    let filter = UsageFilter {
        span: Span {
            from: Timestamp::from_micros(MIDNIGHT + HOUR + 5),
            to: Timestamp::from_micros(MIDNIGHT + 3 * HOUR),
        },
        width: Width::Hour,
        user: None,
    };
    let found = series.usage(filter).await.unwrap();
    let hours: Vec<_> = found
        .iter()
        .map(|row| (row.begin.micros() - MIDNIGHT) / HOUR)
        .collect();
    assert_eq!(hours, [1, 2]);
}

#[tokio::test]
async fn a_store_that_is_down_costs_points_and_nothing_else() {
    let mut server = Postgres::start();
    let database = server.create_database();
    let mut options = crate::postgres(&database);
    options.hosts[0].port = server.port();
    let own = DbOptions::new(Location::Postgres(options));
    server.kill9();
    let running = run(SeriesOptions {
        buffer: 10,
        ..kept(SeriesStore::Own(own))
    });
    let user = UserId::new();
    // Returns at once, however many there are.
    for n in 0..100 {
        running.series.record(answer(MIDNIGHT + n, user, "m"));
    }
    assert_eq!(running.series.dropped(), 90);
    let filter = UsageFilter {
        span: everything(),
        width: Width::Day,
        user: None,
    };
    assert!(running.series.usage(filter).await.is_err());
    let told = async |yes: bool| {
        let told = async {
            while running.series.trouble().is_some() != yes {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_mins(1), told).await;
        assert!(in_time.is_ok(), "{:?}", running.series.trouble());
    };
    told(true).await;
    let port = server.port().to_string();
    assert!(running.series.trouble().unwrap().contains(&port));
    server.restart();
    running.opened().await;
    told(false).await;
    let series = running.stop().await;
    assert_eq!(
        series.usage(filter).await.unwrap()[0].answers,
        10,
        "what had room is kept"
    );
    assert_eq!(series.dropped(), 90);
}

#[tokio::test]
async fn a_store_that_goes_down_meanwhile_gets_what_waited() {
    let mut server = Postgres::start();
    let database = server.create_database();
    let mut options = crate::postgres(&database);
    options.hosts[0].port = server.port();
    let running = run(kept(SeriesStore::Own(DbOptions::new(Location::Postgres(
        options,
    )))));
    running.opened().await;
    assert!(running.series.is_apart());
    assert_eq!(running.series.trouble(), None);
    let user = UserId::new();
    for n in 0..50 {
        running.series.record(answer(MIDNIGHT + n, user, "m"));
        if n == 25 {
            server.kill9();
        }
    }
    server.restart();
    let filter = UsageFilter {
        span: everything(),
        width: Width::Day,
        user: None,
    };
    // Asked until all are there: lost points would show by never coming.
    tokio::time::timeout(Duration::from_mins(1), async {
        loop {
            match running.series.usage(filter).await {
                Ok(rows) if rows.first().is_some_and(|row| row.answers == 50) => return,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(running.stop().await.dropped(), 0);
}

#[tokio::test]
async fn a_point_that_cannot_be_kept_costs_only_itself() {
    let (_store, db) = on(Engine::Sqlite).await;
    let running = run(kept(SeriesStore::Main(db)));
    running.opened().await;
    let user = UserId::new();
    for model in ["good", "b\0d", "better"] {
        running.series.record(answer(MIDNIGHT, user, model));
    }
    let filter = UsageFilter {
        span: everything(),
        width: Width::Day,
        user: None,
    };
    let models = async || {
        let rows = running.series.usage(filter).await.unwrap();
        rows.into_iter().map(|row| row.model).collect::<Vec<_>>()
    };
    while models().await.len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(models().await, ["better", "good"]);
    assert_eq!(running.stop().await.dropped(), 1);
}

#[tokio::test]
async fn what_is_too_old_is_removed() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let (store, db) = on(engine).await;
        let now = jarvis_domain::Clock::System.now().micros();
        let old = now - 10 * 24 * HOUR;
        for (table, rest) in [
            ("series_answers", "'g', 'u', 'm', '', 'done', 1, 1, 1, NULL"),
            ("series_nodes", "'n', 'o', 1, 0, 0, 0, 0, 0"),
        ] {
            for at in [old, now] {
                store
                    .execute(&format!("INSERT INTO {table} VALUES ({at}, {rest})"))
                    .await;
            }
        }
        let running = run(SeriesOptions {
            keep_answers: Duration::from_hours(24 * 11),
            keep_nodes: Duration::from_hours(24 * 9),
            ..SeriesOptions::new(SeriesStore::Main(db))
        });
        let count =
            async |table: &str| store.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        while count("series_nodes").await > 1 {
            tokio::task::yield_now().await;
        }
        running.stop().await;
        assert_eq!(count("series_nodes").await, 1, "{engine:?}");
        assert_eq!(count("series_answers").await, 2, "{engine:?}");
    }
}

/// The extension itself is not here. What can be proven without it: the sums that its continuous aggregates are made of are, on real
/// points, those of the views in whose place they stand. `time_bucket` is the one function of it that they use.
#[tokio::test]
async fn the_aggregates_for_timescale_sum_up_what_the_views_do() {
    let script = include_str!("../../timescale/tables.sql");
    let users = [UserId::new(), UserId::new()];
    let (store, db) = on(Engine::Postgres).await;
    let running = run(kept(SeriesStore::Main(db)));
    running.opened().await;
    let (answers, nodes) = points(users);
    for point in answers {
        running.series.record(point);
    }
    for point in nodes {
        running.series.record(point);
    }
    running.stop().await;
    store
        .execute(
            "CREATE FUNCTION time_bucket(width BIGINT, at BIGINT) RETURNS BIGINT LANGUAGE SQL IMMUTABLE AS 'SELECT floor(at::NUMERIC / width)::BIGINT * width'",
        )
        .await;
    for view in ["series_answers_by_hour", "series_nodes_by_hour"] {
        let (_, rest) = script
            .split_once(&format!("CREATE MATERIALIZED VIEW {view}\n"))
            .unwrap();
        let (_, rest) = rest.split_once(" AS\n").unwrap();
        let (select, _) = rest.split_once("\nWITH NO DATA;").unwrap();
        let rows = store.number(&format!("SELECT COUNT(*) FROM {view}")).await;
        assert!(rows > 2, "{view}");
        let differing = format!(
            "SELECT COUNT(*) FROM ((TABLE {view} EXCEPT ALL ({select})) UNION ALL (({select}) EXCEPT ALL TABLE {view})) AS differing"
        );
        assert_eq!(store.number(&differing).await, 0, "{view}");
    }
}

#[test]
fn the_point_of_an_answer_says_what_its_generation_does() {
    let generation = jarvis_domain::Generation {
        id: GenerationId::new(),
        conversation_id: jarvis_domain::ConversationId::new(),
        message_id: jarvis_domain::MessageId::new(),
        user_id: UserId::new(),
        model: "m".into(),
        status: Status::Running,
        epoch: 1,
        attempts: 1,
        usage: None,
        error: None,
        created_at: NOW,
        finished_at: None,
    };
    let usage = jarvis_domain::Usage {
        prompt_tokens: 7,
        completion_tokens: 8,
        total_ms: 2000,
        first_token_ms: Some(300),
    };
    let at = NOW + Duration::from_secs(2);
    let point = AnswerPoint::of(&generation, Status::Done, Some(&usage), at);
    assert_eq!(point.total, Duration::from_secs(2));
    assert_eq!(point.first_token, Some(Duration::from_millis(300)));
    assert_eq!((point.prompt_tokens, point.completion_tokens), (7, 8));
    let point = AnswerPoint::of(&generation, Status::Stopped, None, at);
    assert_eq!((point.prompt_tokens, point.first_token), (0, None));
}
