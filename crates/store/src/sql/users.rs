//! Accounts and the invitations to make one.

use super::{Db, row::Columns};
use crate::StoreError;
use jarvis_domain::{Email, InviteId, Timestamp, User, UserId, UserRole};
use sqlx::sqlite::SqliteRow;

/// An account to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Its identifier.
    pub id: UserId,
    /// The address it signs in with.
    pub email: Email,
    /// The password as an argon2id string.
    pub password_hash: String,
    /// Now.
    pub created_at: Timestamp,
}

/// By what right an account is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant<'a> {
    /// It is the first; it becomes the administrator.
    First,
    /// Anybody may.
    Open,
    /// A single-use invitation, by the hash of its code.
    Invite(&'a str),
}

/// What came of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The account exists now.
    Made(User),
    /// Another account has this address.
    EmailTaken,
    /// There is an account already, so this cannot be the first.
    NotFirst,
    /// The invitation is unknown, used or expired.
    BadInvite,
}

impl Db {
    /// How many accounts there are.
    pub async fn count_users(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
            .fetch_one(&self.reader)
            .await?;
        Ok(count.unsigned_abs())
    }

    /// Makes an account: whole, or not at all. Two that claim to be the first cannot both be.
    pub async fn register(&self, new: NewUser, grant: Grant<'_>) -> Result<Registered, StoreError> {
        let mut tx = self.begin_write().await?;
        let role = match grant {
            Grant::First => {
                let others: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
                    .fetch_one(&mut *tx)
                    .await?;
                if others > 0 {
                    return Ok(Registered::NotFirst);
                }
                UserRole::Admin
            }
            Grant::Open | Grant::Invite(_) => UserRole::User,
        };
        let made = sqlx::query(
            "INSERT INTO users (id, email, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (email) DO NOTHING",
        )
        .bind(new.id.to_string())
        .bind(new.email.as_str())
        .bind(new.password_hash)
        .bind(role.as_str())
        .bind(new.created_at.micros())
        .execute(&mut *tx)
        .await?
        .rows_affected();
        if made == 0 {
            return Ok(Registered::EmailTaken);
        }
        if let Grant::Invite(code_hash) = grant {
            let used = sqlx::query(
                "UPDATE invites SET used_by = $1, used_at = $2 WHERE code_hash = $3 AND used_at IS NULL AND expires_at > $2",
            )
            .bind(new.id.to_string())
            .bind(new.created_at.micros())
            .bind(code_hash)
            .execute(&mut *tx)
            .await?
            .rows_affected();
            if used == 0 {
                return Ok(Registered::BadInvite);
            }
        }
        tx.commit().await?;
        Ok(Registered::Made(User {
            id: new.id,
            email: new.email,
            role,
            created_at: new.created_at,
        }))
    }

    /// The account with this identifier.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let row = sqlx::query("SELECT id, email, role, created_at FROM users WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.reader)
            .await?;
        row.as_ref().map(user_of).transpose()
    }

    /// The account with this address and its password's argon2id string.
    pub async fn credentials(&self, email: &Email) -> Result<Option<(User, String)>, StoreError> {
        let row = sqlx::query(
            "SELECT id, email, role, created_at, password_hash FROM users WHERE email = $1",
        )
        .bind(email.as_str())
        .fetch_optional(&self.reader)
        .await?;
        row.map(|row| Ok((user_of(&row)?, row.text("password_hash")?)))
            .transpose()
    }

    /// Puts a fresh hash in the place of a password's old one (other parameters, same password).
    pub async fn set_password_hash(&self, id: UserId, hash: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE users SET password_hash = $1 WHERE id = $2")
            .bind(hash)
            .bind(id.to_string())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Keeps an invitation, by the hash of its code, until `expires_at`.
    pub async fn create_invite(
        &self,
        by: UserId,
        code_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<InviteId, StoreError> {
        let id = InviteId::new();
        sqlx::query("INSERT INTO invites (id, code_hash, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(id.to_string())
            .bind(code_hash)
            .bind(by.to_string())
            .bind(now.micros())
            .bind(expires_at.micros())
            .execute(&self.writer)
            .await?;
        Ok(id)
    }
}

fn user_of(row: &SqliteRow) -> Result<User, StoreError> {
    Ok(User {
        id: row.parsed("id")?,
        email: row.parsed("email")?,
        role: row.parsed("role")?,
        created_at: row.moment("created_at")?,
    })
}
