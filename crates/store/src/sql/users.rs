//! Accounts and the invitations to make one.

use super::{Db, Lock, conn::Tx, row::Row, value::args};
use crate::StoreError;
use jarvis_domain::{Email, InviteId, Timestamp, User, UserId, UserRole};

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

/// An invitation that has been neither used nor withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invite {
    /// Its identifier; not the code that it is used with, which nobody keeps.
    pub id: InviteId,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
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
        let mut conn = self.reader().await?;
        let count = conn.scalar("count_users", COUNT, args![]).await?;
        Ok(count.unsigned_abs())
    }

    /// Makes an account: whole, or not at all. Two that claim to be the first cannot both be.
    pub async fn register(&self, new: NewUser, grant: Grant<'_>) -> Result<Registered, StoreError> {
        let mut tx = self.begin_write().await?;
        match register(&mut tx, new, grant).await? {
            made @ Registered::Made(_) => {
                tx.commit().await?;
                Ok(made)
            }
            refused => {
                tx.rollback().await?;
                Ok(refused)
            }
        }
    }

    /// The account with this identifier.
    pub async fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let text = "SELECT id, email, role, created_at FROM users WHERE id = $1";
        let mut conn = self.reader().await?;
        let row = conn.fetch_optional("user", text, args![id]).await?;
        row.as_ref().map(user_of).transpose()
    }

    /// The account with this address and its password's argon2id string.
    pub async fn credentials(&self, email: &Email) -> Result<Option<(User, String)>, StoreError> {
        let text = "SELECT id, email, role, created_at, password_hash FROM users WHERE email = $1";
        let mut conn = self.reader().await?;
        let row = conn
            .fetch_optional("credentials", text, args![email.as_str()])
            .await?;
        row.map(|row| Ok((user_of(&row)?, row.text("password_hash")?)))
            .transpose()
    }

    /// Puts a fresh hash in the place of a password's old one (other parameters, same password).
    pub async fn set_password_hash(&self, id: UserId, hash: &str) -> Result<(), StoreError> {
        let text = "UPDATE users SET password_hash = $1 WHERE id = $2";
        let mut conn = self.writer().await?;
        conn.execute("set_password_hash", text, args![hash, id])
            .await?;
        Ok(())
    }

    /// Keeps an invitation, by the hash of its code, until `expires_at`. Those that expired unused go.
    pub async fn create_invite(
        &self,
        by: UserId,
        code_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Invite, StoreError> {
        let invite = Invite {
            id: InviteId::new(),
            created_at: now,
            expires_at,
        };
        let mut tx = self.begin_write().await?;
        let text = "DELETE FROM invites WHERE used_at IS NULL AND expires_at <= $1";
        tx.execute("expire_invites", text, args![now]).await?;
        let text = "INSERT INTO invites (id, code_hash, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
        let values = args![invite.id, code_hash, by, now, expires_at];
        tx.execute("create_invite", text, values).await?;
        tx.commit().await?;
        Ok(invite)
    }

    /// The invitations that are good at `now`, the newest first.
    pub async fn invites(&self, now: Timestamp) -> Result<Vec<Invite>, StoreError> {
        let text = "SELECT id, created_at, expires_at FROM invites WHERE used_at IS NULL AND expires_at > $1 ORDER BY created_at DESC, id DESC";
        let mut conn = self.reader().await?;
        let rows = conn.fetch_all("invites", text, args![now]).await?;
        rows.iter().map(invite_of).collect()
    }

    /// Takes an invitation back. `false`: there is none, or it was used.
    pub async fn withdraw_invite(&self, id: InviteId) -> Result<bool, StoreError> {
        let text = "DELETE FROM invites WHERE id = $1 AND used_at IS NULL";
        let mut conn = self.writer().await?;
        Ok(conn.execute("withdraw_invite", text, args![id]).await? > 0)
    }
}

const COUNT: &str = "SELECT COUNT(*) FROM users";

async fn register(tx: &mut Tx, new: NewUser, grant: Grant<'_>) -> Result<Registered, StoreError> {
    let role = match grant {
        Grant::First => {
            tx.lock(Lock::FirstAccount).await?;
            if tx.scalar("count_users", COUNT, args![]).await? > 0 {
                return Ok(Registered::NotFirst);
            }
            UserRole::Admin
        }
        Grant::Open | Grant::Invite(_) => UserRole::User,
    };
    let text = "INSERT INTO users (id, email, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (email) DO NOTHING";
    let values = args![
        new.id,
        new.email.as_str(),
        new.password_hash,
        role.as_str(),
        new.created_at,
    ];
    if tx.execute("register", text, values).await? == 0 {
        return Ok(Registered::EmailTaken);
    }
    if let Grant::Invite(code_hash) = grant {
        let text = "UPDATE invites SET used_by = $1, used_at = $2 WHERE code_hash = $3 AND used_at IS NULL AND expires_at > $2";
        let values = args![new.id, new.created_at, code_hash];
        if tx.execute("use_invite", text, values).await? == 0 {
            return Ok(Registered::BadInvite);
        }
    }
    Ok(Registered::Made(User {
        id: new.id,
        email: new.email,
        role,
        created_at: new.created_at,
    }))
}

fn user_of(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: row.parsed("id")?,
        email: row.parsed("email")?,
        role: row.parsed("role")?,
        created_at: row.moment("created_at")?,
    })
}

fn invite_of(row: &Row) -> Result<Invite, StoreError> {
    Ok(Invite {
        id: row.parsed("id")?,
        created_at: row.moment("created_at")?,
        expires_at: row.moment("expires_at")?,
    })
}
