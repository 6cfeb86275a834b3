//! A counter per user that moves with every committed change of what the user's lists show.
//!
//! It makes an exact cache possible: what was read after the counter stood at `n` may be shown while it still stands at `n`, and
//! exact reads from a standby: one that shows the counter at `n` has all that the user was acknowledged before it stood there.
//!
//! On SQLite, where one process writes, it is kept here: a writer moves it after its commit and before it answers, so nobody
//! who has seen a write acknowledged is shown a page from before it. On PostgreSQL it is a column of the user's row, written in the
//! same transaction, for another instance may be the writer; reading it costs one query for all who ask at the same time.

use super::{conn::Conn, value::args};
use crate::StoreError;
use jarvis_domain::UserId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

/// Kept in memory, for the process that alone writes.
#[derive(Debug, Default)]
pub(super) struct Counted(RwLock<HashMap<UserId, i64>>);

impl Counted {
    pub(super) fn of(&self, user: UserId) -> i64 {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&user)
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn advance(&self, user: UserId) {
        *self
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(user)
            .or_default() += 1;
    }
}

/// Asked of the database: one query runs at a time, and whoever comes meanwhile shares the next one.
#[derive(Debug, Default)]
pub(super) struct Asked {
    waiting: Mutex<Vec<Arc<Question>>>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Question {
    user: UserId,
    /// Set by the query that began after the question was put; `None` if it failed.
    answer: OnceLock<Option<i64>>,
}

/// More users than this are asked for by a second query.
const TOGETHER: usize = 256;

impl Asked {
    /// The counter as it stood at some moment after the call; 0 for a user who is not there.
    ///
    /// # Errors
    /// [`StoreError::Deadline`] if who asked for all had no answer; that one is told why.
    pub(super) async fn of<F>(
        &self,
        user: UserId,
        connect: impl Fn() -> F,
    ) -> Result<i64, StoreError>
    where
        F: Future<Output = Result<Conn, StoreError>>,
    {
        let question = Arc::new(Question {
            user,
            answer: OnceLock::new(),
        });
        self.waiting().push(Arc::clone(&question));
        let _turn = self.turn.lock().await;
        match question.answer.get() {
            Some(Some(version)) => return Ok(*version),
            Some(None) => return Err(StoreError::Deadline),
            None => {}
        }
        let mut asking = std::mem::take(&mut *self.waiting());
        // Not there if the turn before this one was given up in the middle.
        asking.retain(|other| !Arc::ptr_eq(other, &question));
        let later = asking.split_off(asking.len().min(TOGETHER - 1));
        self.waiting().extend(later);
        asking.push(Arc::clone(&question));
        let versions = async { many(&mut connect().await?, &asking).await }.await;
        for question in &asking {
            let version = |known: &HashMap<_, _>| known.get(&question.user).copied().unwrap_or(0);
            let _ = question.answer.set(versions.as_ref().ok().map(version));
        }
        versions.map(|known| known.get(&user).copied().unwrap_or(0))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Question>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn many(
    conn: &mut Conn,
    asking: &[Arc<Question>],
) -> Result<HashMap<UserId, i64>, StoreError> {
    if let [question] = asking {
        let version = one(conn, question.user).await?;
        return Ok(HashMap::from([(question.user, version)]));
    }
    let users: Vec<_> = asking.iter().map(|one| one.user.to_string()).collect();
    let text = "SELECT id, list_version FROM users WHERE id = ANY (string_to_array($1, ','))";
    let rows = conn
        .fetch_all("list_versions", text, args![users.join(",")])
        .await?;
    rows.iter()
        .map(|row| Ok((row.parsed("id")?, row.integer("list_version")?)))
        .collect()
}

/// The counter of one user.
pub(super) async fn one(conn: &mut Conn, user: UserId) -> Result<i64, StoreError> {
    let text = "SELECT list_version FROM users WHERE id = $1";
    let row = conn
        .fetch_optional("list_version", text, args![user])
        .await?;
    row.map_or(Ok(0), |row| row.integer("list_version"))
}
