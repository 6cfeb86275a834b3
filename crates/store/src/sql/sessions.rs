//! Sign-ins and their rotating refresh tokens. Tokens are known here by their hash alone.
//!
//! A token's successors are those that were made at the moment at which it was spent. There are several where its answer was
//! lost and it came again; the first of them that is used spends all of them.

use super::{
    Db,
    conn::Tx,
    dialect::{Text, sql},
    value::args,
};
use crate::StoreError;
use jarvis_domain::{SessionId, Timestamp, UserId};
use std::time::Duration;

/// For so long after it was spent a token may come again, if none of its successors was used: the answer that carried the
/// successor may have been lost.
const GRACE: Duration = Duration::from_secs(10);

/// With the lock of the whole sign-in, so that of two that come at once the second sees what the first has done.
const PRESENTED: Text = sql![
    "SELECT s.id, s.user_id, s.revoked_at, t.created_at, t.used_at, t.expires_at FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.token_hash = $1",
    for_update
];

/// What came of presenting a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It was good, or spent only just now; the new one stands in its place.
    Rotated {
        /// The sign-in it belongs to.
        session: SessionId,
        /// Whose it is.
        user: UserId,
    },
    /// It had been spent, so somebody has a copy: the whole sign-in is revoked.
    Reused {
        /// The sign-in that was revoked.
        session: SessionId,
        /// Whose it was.
        user: UserId,
    },
    /// Unknown, expired or revoked.
    Refused,
}

impl Db {
    /// Begins a sign-in with its first refresh token.
    pub async fn create_session(
        &self,
        user: UserId,
        token_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<SessionId, StoreError> {
        let id = SessionId::new();
        let text = "INSERT INTO sessions (id, user_id, created_at) VALUES ($1, $2, $3)";
        let mut tx = self.begin_write().await?;
        tx.execute("create_session", text, args![id, user, now])
            .await?;
        insert_token(&mut tx, id, token_hash, now, expires_at).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Uses up a refresh token and puts `new_hash` in its place. A second use revokes the sign-in, unless it comes within
    /// seconds and nothing that the first one gave was used: then `new_hash` is one more successor.
    pub async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        new_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Rotation, StoreError> {
        let mut tx = self.begin_write().await?;
        let rotation = rotate(&mut tx, token_hash, new_hash, now, expires_at).await?;
        if rotation == Rotation::Refused {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        Ok(rotation)
    }

    /// Ends the sign-in that a refresh token belongs to, and names it; `None` for an unknown token, and for one whose sign-in
    /// has ended before.
    pub async fn revoke_session_of(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<SessionId>, StoreError> {
        let text = "UPDATE sessions SET revoked_at = $1 WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_hash = $2) AND revoked_at IS NULL RETURNING id";
        let mut conn = self.writer().await?;
        let row = conn
            .fetch_optional("revoke_session", text, args![now, token_hash])
            .await?;
        row.map(|row| row.parsed("id")).transpose()
    }

    /// Ends a sign-in; whether it had not ended before.
    pub async fn revoke_session(&self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        let text = "UPDATE sessions SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
        let mut conn = self.writer().await?;
        let ended = conn.execute("revoke_session", text, args![now, id]).await?;
        Ok(ended > 0)
    }

    /// Whether a sign-in exists and has not been revoked.
    pub async fn session_is_live(&self, id: SessionId) -> Result<bool, StoreError> {
        let text = "SELECT COUNT(*) FROM sessions WHERE id = $1 AND revoked_at IS NULL";
        let mut conn = self.reader().await?;
        let live = conn.scalar("session_is_live", text, args![id]).await?;
        Ok(live > 0)
    }
}

async fn rotate(
    tx: &mut Tx,
    token_hash: &str,
    new_hash: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<Rotation, StoreError> {
    let row = tx
        .fetch_optional("refresh_token", PRESENTED, args![token_hash])
        .await?;
    let Some(row) = row else {
        return Ok(Rotation::Refused);
    };
    let session: SessionId = row.parsed("id")?;
    let user: UserId = row.parsed("user_id")?;
    if row.moment_or_null("revoked_at")?.is_some() {
        return Ok(Rotation::Refused);
    }
    let successor_of = match row.moment_or_null("used_at")? {
        None if row.moment("expires_at")? <= now => return Ok(Rotation::Refused),
        None => {
            // Its siblings have been spent since they were made: only what was presented may come again.
            let text = "UPDATE refresh_tokens SET used_at = CASE WHEN token_hash = $1 THEN $2 ELSE created_at END WHERE session_id = $3 AND created_at = $4 AND used_at IS NULL";
            let values = args![token_hash, now, session, row.moment("created_at")?];
            tx.execute("use_refresh_token", text, values).await?;
            now
        }
        // A clock that was set back makes the grace no longer.
        Some(spent_at)
            if now.since(spent_at) < GRACE
                && spent_at.since(now) < GRACE
                && has_unused(tx, session, spent_at).await? =>
        {
            spent_at
        }
        Some(_) => {
            let text = "UPDATE sessions SET revoked_at = $1 WHERE id = $2";
            tx.execute("revoke_session", text, args![now, session])
                .await?;
            return Ok(Rotation::Reused { session, user });
        }
    };
    insert_token(tx, session, new_hash, successor_of, expires_at).await?;
    Ok(Rotation::Rotated { session, user })
}

/// Whether what followed a token that was spent at `spent_at` is unused still.
async fn has_unused(
    tx: &mut Tx,
    session: SessionId,
    spent_at: Timestamp,
) -> Result<bool, StoreError> {
    let text = "SELECT COUNT(*) FROM refresh_tokens WHERE session_id = $1 AND created_at = $2 AND used_at IS NULL";
    let values = args![session, spent_at];
    Ok(tx.scalar("unused_successors", text, values).await? > 0)
}

async fn insert_token(
    tx: &mut Tx,
    session: SessionId,
    token_hash: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    let text = "INSERT INTO refresh_tokens (token_hash, session_id, created_at, expires_at) VALUES ($1, $2, $3, $4)";
    let values = args![token_hash, session, now, expires_at];
    tx.execute("insert_refresh_token", text, values).await?;
    Ok(())
}
