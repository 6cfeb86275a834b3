//! Clients that write without a pause, and the check of what became of it.

use crate::NOW;
use futures_util::{StreamExt as _, future, stream};
use jarvis_domain::{ConversationId, Generation, GenerationId, InstanceId, UserId};
use jarvis_store::{Begin, Begun, Db, RequestKey, Start};
use std::{collections::HashSet, time::Duration};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Writers at the same time.
const CLIENTS: usize = 4;

/// More acknowledgements than can have been under way when something happened, so that one of them is of a write after it.
pub(crate) const AFTERWARDS: u64 = CLIENTS as u64 + 1;

/// A question whose writer was told that it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) conversation: ConversationId,
    content: String,
    at: Instant,
}

/// Clients that ask one question after the other, each repeated under its key until it is acknowledged.
pub(crate) struct Load {
    clients: JoinSet<Vec<Acknowledged>>,
    stop: CancellationToken,
    count: watch::Receiver<u64>,
}

impl Load {
    pub(crate) fn start(db: &Db, user: UserId) -> Self {
        let stop = CancellationToken::new();
        let (counter, count) = watch::channel(0);
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(ask(db.clone(), user, client, stop.clone(), counter.clone()));
        }
        Self {
            clients,
            stop,
            count,
        }
    }

    /// Waits for `more` acknowledgements: whether they came in time.
    pub(crate) async fn wait_for(&self, more: u64, within: Duration) -> bool {
        let mut count = self.count.clone();
        let goal = *count.borrow_and_update() + more;
        let reached = count.wait_for(|count| *count >= goal);
        timeout(within, reached).await.is_ok()
    }

    /// Lets each client end with an acknowledgement: all that were given.
    pub(crate) async fn stop(self) -> Vec<Acknowledged> {
        self.stop.cancel();
        self.clients.join_all().await.concat()
    }
}

async fn ask(
    db: Db,
    user: UserId,
    client: usize,
    stop: CancellationToken,
    counter: watch::Sender<u64>,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    while !stop.is_cancelled() {
        let content = format!("question {} of client {client}", acknowledged.len());
        let generation = ask_until_acknowledged(&db, user, &content).await;
        acknowledged.push(Acknowledged {
            conversation: generation.conversation_id,
            content,
            at: Instant::now(),
        });
        counter.send_modify(|count| *count += 1);
    }
    acknowledged
}

async fn ask_until_acknowledged(db: &Db, user: UserId, content: &str) -> Generation {
    loop {
        let begin = Begin {
            id: GenerationId::new(),
            owner: InstanceId::new(),
            user,
            idempotency_key: Some(RequestKey {
                key: content.into(),
                digest: content.into(),
            }),
            start: Start::NewConversation {
                title: content.into(),
                content: content.into(),
            },
            model: "smollm2:135m".into(),
            now: NOW,
        };
        match db.begin(begin).await {
            Ok(Begun::New { generation, .. } | Begun::Before { generation, .. }) => {
                return generation;
            }
            Ok(other) => panic!("{other:?}"),
            // No primary, or it was lost in the middle: what a client does.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The longest time between two acknowledgements.
pub(crate) fn outage(acknowledged: &[Acknowledged]) -> Duration {
    let mut moments: Vec<Instant> = acknowledged.iter().map(|a| a.at).collect();
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

/// What is wrong with the store after all that was acknowledged, each question once: nothing, if all is well.
pub(crate) async fn faults(db: &Db, user: UserId, acknowledged: &[Acknowledged]) -> Vec<String> {
    let stored = conversations(db, user).await;
    let told: HashSet<ConversationId> = acknowledged.iter().map(|a| a.conversation).collect();
    let mut faults: Vec<String> = stream::iter(acknowledged)
        .map(|one| fault_of(db, user, &stored, one))
        .buffer_unordered(16)
        .filter_map(future::ready)
        .collect()
        .await;
    let unknown = stored.difference(&told);
    faults.extend(unknown.map(|id| format!("doubled: {id} was acknowledged to nobody")));
    faults
}

async fn fault_of(
    db: &Db,
    user: UserId,
    stored: &HashSet<ConversationId>,
    acknowledged: &Acknowledged,
) -> Option<String> {
    let Acknowledged {
        conversation,
        content,
        ..
    } = acknowledged;
    if !stored.contains(conversation) {
        return Some(format!("lost: {content}"));
    }
    let messages = db.messages(user, *conversation, 10, None).await.unwrap();
    let question = messages.first().map(|row| &row.message.content);
    let whole = question == Some(content) && messages.len() == 2;
    (!whole).then(|| format!("changed: {content} is {messages:?}"))
}

/// All conversations of this user.
async fn conversations(db: &Db, user: UserId) -> HashSet<ConversationId> {
    let (mut found, mut after) = (HashSet::new(), None);
    loop {
        let page = db.conversations(user, 500, after).await.unwrap();
        after = page.last().map(|last| (last.updated_at, last.id));
        if after.is_none() {
            return found;
        }
        found.extend(page.into_iter().map(|conversation| conversation.id));
    }
}
