//! Sign-ins and their rotating refresh tokens. Tokens are known here by their hash alone.

use super::{Db, row::Columns};
use crate::StoreError;
use jarvis_domain::{SessionId, Timestamp, UserId};

/// What came of presenting a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It was good and is used up; the new one stands in its place.
    Rotated {
        /// The sign-in it belongs to.
        session: SessionId,
        /// Whose it is.
        user: UserId,
    },
    /// It had been used before, so somebody has a copy: the whole sign-in is revoked.
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
        let mut tx = self.begin_write().await?;
        sqlx::query("INSERT INTO sessions (id, user_id, created_at) VALUES ($1, $2, $3)")
            .bind(id.to_string())
            .bind(user.to_string())
            .bind(now.micros())
            .execute(&mut *tx)
            .await?;
        insert_token(&mut tx, id, token_hash, now, expires_at).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Uses up a refresh token and puts `new_hash` in its place; a second use revokes the sign-in.
    pub async fn rotate_refresh_token(
        &self,
        token_hash: &str,
        new_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Rotation, StoreError> {
        let mut tx = self.begin_write().await?;
        let row = sqlx::query(
            "SELECT s.id, s.user_id, s.revoked_at, t.used_at, t.expires_at FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id WHERE t.token_hash = $1",
        )
        .bind(token_hash)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            return Ok(Rotation::Refused);
        };
        let session: SessionId = row.parsed("id")?;
        let user: UserId = row.parsed("user_id")?;
        if row.moment_or_null("revoked_at")?.is_some() {
            return Ok(Rotation::Refused);
        }
        if row.moment_or_null("used_at")?.is_some() {
            sqlx::query("UPDATE sessions SET revoked_at = $1 WHERE id = $2")
                .bind(now.micros())
                .bind(session.to_string())
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            return Ok(Rotation::Reused { session, user });
        }
        if row.moment("expires_at")? <= now {
            return Ok(Rotation::Refused);
        }
        sqlx::query("UPDATE refresh_tokens SET used_at = $1 WHERE token_hash = $2")
            .bind(now.micros())
            .bind(token_hash)
            .execute(&mut *tx)
            .await?;
        insert_token(&mut tx, session, new_hash, now, expires_at).await?;
        tx.commit().await?;
        Ok(Rotation::Rotated { session, user })
    }

    /// Ends the sign-in that a refresh token belongs to, and names it; `None` for an unknown token, and for one whose sign-in
    /// has ended before.
    pub async fn revoke_session_of(
        &self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<SessionId>, StoreError> {
        let row = sqlx::query(
            "UPDATE sessions SET revoked_at = $1 WHERE id = (SELECT session_id FROM refresh_tokens WHERE token_hash = $2) AND revoked_at IS NULL RETURNING id",
        )
        .bind(now.micros())
        .bind(token_hash)
        .fetch_optional(&self.writer)
        .await?;
        row.map(|row| row.parsed("id")).transpose()
    }

    /// Whether a sign-in exists and has not been revoked.
    pub async fn session_is_live(&self, id: SessionId) -> Result<bool, StoreError> {
        let live: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM sessions WHERE id = $1 AND revoked_at IS NULL",
        )
        .bind(id.to_string())
        .fetch_one(&self.reader)
        .await?;
        Ok(live > 0)
    }
}

async fn insert_token(
    tx: &mut sqlx::SqliteConnection,
    session: SessionId,
    token_hash: &str,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO refresh_tokens (token_hash, session_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(token_hash)
        .bind(session.to_string())
        .bind(now.micros())
        .bind(expires_at.micros())
        .execute(tx)
        .await?;
    Ok(())
}
