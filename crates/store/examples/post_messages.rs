//! The store's side of `bench/postgres.py`: keeps one message after the other as the API keeps one that is posted, without HTTP
//! around it. `post_messages ORDER`, where ORDER is one JSON object, see [`Order`]; the password of the database's user is in
//! `JARVIS_STORE_PASSWORD`. Prints one line of JSON.

use jarvis_domain::{
    Clock, Conversation, ConversationId, GenerationId, InstanceId, UserId, durable::Rules,
};
use jarvis_store::{
    Begin, Begun, Db, DbOptions, Grant, Host, Location, NewUser, Parent, PostgresOptions,
    Registered, RequestKey, Start,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};
use tokio_util::task::TaskTracker;

type Failure = Box<dyn Error + Send + Sync>;

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// Of a PostgreSQL server on this machine.
    port: u16,
    user: String,
    database: String,
    /// Each has an account and a conversation of its own, and posts the next message when the last one is committed.
    clients: u32,
    seconds: f64,
    /// The text of each message.
    content: String,
    model: String,
}

/// One who posts.
struct Client {
    db: Db,
    owner: InstanceId,
    user: UserId,
    conversation: ConversationId,
    content: String,
    model: String,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let text = env::args()
        .nth(1)
        .ok_or("usage: post_messages ORDER, one JSON object")?;
    let order: Order = serde_json::from_str(&text)?;
    let db = Db::open(&DbOptions::new(Location::Postgres(PostgresOptions {
        hosts: vec![Host {
            name: "127.0.0.1".to_owned(),
            port: order.port,
        }],
        user: order.user.clone(),
        password: Some(env::var("JARVIS_STORE_PASSWORD")?.into()),
        database: order.database.clone(),
        connections: order.clients,
    })))
    .await?;
    let owner = InstanceId::new();
    db.look_around(owner, &Rules::default()).await?;
    let mut clients = Vec::new();
    for _ in 0..order.clients {
        clients.push(Client::new(&db, owner, &order).await?);
    }
    let tracker = TaskTracker::new();
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(order.seconds);
    let posting: Vec<_> = clients
        .into_iter()
        .map(|client| tracker.spawn(async move { client.post_until(until).await }))
        .collect();
    let mut took = Vec::new();
    for client in posting {
        took.extend(client.await??);
    }
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100].as_secs_f64() * 1e3;
    let mean = took.iter().sum::<Duration>().as_secs_f64() / f64::from(u32::try_from(took.len())?);
    println!(
        "{}",
        json!({"messages": took.len(), "seconds": seconds, "mean_ms": mean * 1e3, "p50_ms": at(50), "p99_ms": at(99)})
    );
    Ok(())
}

impl Client {
    async fn new(db: &Db, owner: InstanceId, order: &Order) -> Result<Self, Failure> {
        let (user, now) = (UserId::new(), Clock::System.now());
        let new = NewUser {
            id: user,
            email: format!("{user}@example.org").parse()?,
            password_hash: "none".to_owned(),
            created_at: now,
        };
        let Registered::Made(_) = db.register(new, Grant::Open).await? else {
            return Err("an account was refused".into());
        };
        let conversation = Conversation {
            id: ConversationId::new(),
            user_id: user,
            title: "What is measured".to_owned(),
            model: None,
            head: None,
            created_at: now,
            updated_at: now,
        };
        db.create_conversation(&conversation).await?;
        Ok(Self {
            db: db.clone(),
            owner,
            user,
            conversation: conversation.id,
            content: order.content.clone(),
            model: order.model.clone(),
        })
    }

    /// How long each message took.
    async fn post_until(&self, until: Instant) -> Result<Vec<Duration>, Failure> {
        let mut took = Vec::new();
        loop {
            let began = Instant::now();
            if began >= until {
                return Ok(took);
            }
            self.post().await?;
            took.push(began.elapsed());
        }
    }

    async fn post(&self) -> Result<(), Failure> {
        let id = GenerationId::new();
        let key = RequestKey {
            key: id.to_string(),
            digest: "0f8d2c5e7a9b1346c8e0d2f4a6b8c0e2d4f6a8b0c2e4d6f8a0b2c4d6e8f0a2b4".to_owned(),
        };
        let begin = Begin {
            id,
            owner: self.owner,
            user: self.user,
            idempotency_key: Some(key),
            start: Start::Message {
                conversation: self.conversation,
                parent: Parent::Head,
                content: self.content.clone(),
            },
            model: self.model.clone(),
            now: Clock::System.now(),
        };
        match self.db.begin(begin).await? {
            Begun::New { .. } => Ok(()),
            other => Err(format!("a message was not kept: {other:?}").into()),
        }
    }
}
