//! Leases on answers: who is there, whose answers are to be taken over, and what their owners keep.
//!
//! What is decided here is decided by [`jarvis_domain::durable`]; the statements only compare and swap.

use super::{
    Db, Engine, again,
    conn::{Conn, Tx},
    dialect::sql,
    generations::{columns, generation_of},
    row::Row,
    value::args,
};
use crate::StoreError;
use jarvis_domain::{
    Epoch, Generation, GenerationId, InstanceId, Timestamp, UserId,
    durable::{Bases, Beat, Keep, Kept, Lease, Path, Rules},
};
use serde::Serialize;

/// One of an instance's own answers, as SQL has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The answer.
    pub id: GenerationId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its user has asked for its end.
    pub stop: bool,
}

/// What an instance sees when it renews its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The other instances that are there.
    pub others: Vec<InstanceId>,
    /// Its own answers that have not ended.
    pub mine: Vec<Owned>,
    /// The answers that nobody makes: to be claimed from their epoch.
    pub unowned: Vec<(GenerationId, Epoch)>,
}

/// An answer that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The answer, in its next epoch.
    pub generation: Generation,
    /// What SQL holds of it.
    pub kept: Kept,
    /// Its user has asked for its end.
    pub stop: bool,
}

/// A checkpoint of one answer.
#[derive(Debug, Clone, Serialize)]
pub struct Checkpoint {
    id: GenerationId,
    epoch: Epoch,
    number: u64,
    bases: String,
    path: &'static str,
    tokens: u64,
    text: String,
}

impl Checkpoint {
    /// What `keep` asks for, of an answer in `epoch`: `kept`, cut to the bytes it covers.
    #[must_use]
    pub fn new(id: GenerationId, epoch: Epoch, keep: Keep, kept: Kept) -> Self {
        Self {
            id,
            epoch,
            number: keep.number,
            bases: kept.bases.to_string(),
            path: name(keep.path),
            tokens: kept.tokens,
            text: kept.text,
        }
    }

    /// Of which answer.
    #[must_use]
    pub fn id(&self) -> GenerationId {
        self.id
    }
}

const fn name(path: Path) -> &'static str {
    match path {
        Path::Log => "log",
        Path::Sql => "sql",
    }
}

impl Db {
    /// Whether other instances may work on this database too.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(..))
    }

    /// Renews this instance's lease, removes those of instances that are gone, and says what there is to do. To be called
    /// before anything is begun, and then every [`Rules::renew`].
    ///
    /// Alone on its database (a file, which is locked), an instance judges at once: no other one can be there.
    pub async fn look_around(&self, me: InstanceId, rules: &Rules) -> Result<Look, StoreError> {
        let mut conn = self.writer().await?;
        let beat = beat(&mut conn).await?;
        let mine = rules.renewed(&beat, me);
        write_lease(&mut conn, &mine).await?;
        let others = beat.leases.iter().filter(|lease| lease.instance != me);
        let (there, gone): (Vec<_>, Vec<_>) = if self.is_shared() {
            (rules.others(&beat, &mine), rules.gone(&beat, &mine))
        } else {
            let all = others.clone().map(|lease| lease.instance);
            (Vec::new(), all.collect())
        };
        for lease in others.filter(|lease| gone.contains(&lease.instance)) {
            remove(&mut conn, lease).await?;
        }
        let text = "SELECT id, epoch, owner, stop_at FROM generations WHERE status IN ('queued', 'running')
             AND (owner = $1 OR owner IS NULL OR NOT EXISTS (SELECT 1 FROM instances WHERE instances.id = generations.owner)) ORDER BY id";
        let rows = conn.fetch_all("look_around", text, args![me]).await?;
        let mut look = Look {
            others: there,
            mine: Vec::new(),
            unowned: Vec::new(),
        };
        for row in &rows {
            let (id, epoch) = (row.parsed("id")?, row.count("epoch")?);
            if row.parsed_or_null("owner")? == Some(me) {
                let stop = row.moment_or_null("stop_at")?.is_some();
                look.mine.push(Owned { id, epoch, stop });
            } else {
                look.unowned.push((id, epoch));
            }
        }
        Ok(look)
    }

    /// Takes over an answer of `epoch` that is this instance's, or nobody's: `None` if somebody was faster, or its owner is
    /// there again. An owner who did not give it up counts as lost, except oneself.
    ///
    /// # Errors
    /// [`StoreError::Unsure`] if it may be this instance's now: the next looks will tell.
    pub async fn claim(
        &self,
        id: GenerationId,
        epoch: Epoch,
        me: InstanceId,
    ) -> Result<Option<Claimed>, StoreError> {
        let text = concat!(
            "UPDATE generations SET epoch = epoch + 1, checkpoint = 0, attempts = attempts + CASE WHEN owner IS NULL OR owner = $3 THEN 0 ELSE 1 END, owner = $3
             WHERE id = $1 AND epoch = $2 AND status IN ('queued', 'running')
             AND (owner IS NULL OR owner = $3 OR NOT EXISTS (SELECT 1 FROM instances WHERE instances.id = generations.owner)) RETURNING bases, path, tokens, stop_at, ",
            columns!()
        );
        let mut conn = self.writer().await?;
        let row = conn
            .fetch_optional("claim", text, args![id, epoch, me])
            .await?;
        let Some(row) = row else { return Ok(None) };
        let generation = generation_of(&row)?;
        // Earlier owners can change it no more.
        let text = "SELECT content FROM messages WHERE id = $1";
        let message = conn
            .fetch_optional("claimed_text", text, args![generation.message_id])
            .await?;
        let Some(message) = message else {
            return Ok(None);
        };
        Ok(Some(Claimed {
            kept: kept_of(&row, message.text("content")?)?,
            stop: row.moment_or_null("stop_at")?.is_some(),
            generation,
        }))
    }

    /// Commits checkpoints, all at once: which ones were taken. One that is not is of an answer that has ended or has a later
    /// owner, or comes after its successor.
    pub async fn keep(&self, checkpoints: &[Checkpoint]) -> Result<Vec<GenerationId>, StoreError> {
        again(|| async {
            let mut tx = self.begin_write().await?;
            let taken = keep_in(&mut tx, checkpoints).await?;
            tx.commit().await?;
            Ok(taken)
        })
        .await
    }

    /// Commits the last checkpoints of an instance that goes, and gives up its answers and its lease: others may take them
    /// over at once, and it counts as no loss.
    pub async fn give_up(
        &self,
        me: InstanceId,
        checkpoints: &[Checkpoint],
    ) -> Result<(), StoreError> {
        again(|| async {
            let mut tx = self.begin_write().await?;
            keep_in(&mut tx, checkpoints).await?;
            let text = "UPDATE generations SET owner = NULL WHERE owner = $1 AND status IN ('queued', 'running')";
            tx.execute("give_up", text, args![me]).await?;
            let text = "DELETE FROM instances WHERE id = $1";
            tx.execute("leave", text, args![me]).await?;
            tx.commit().await
        })
        .await
    }

    /// Asks for the end of an answer, wherever it is made; false if there is no such answer of this user, or it has ended.
    pub async fn ask_to_stop(
        &self,
        user: UserId,
        id: GenerationId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let text = "UPDATE generations SET stop_at = COALESCE(stop_at, $3) WHERE id = $1 AND user_id = $2 AND status IN ('queued', 'running')";
        let mut conn = self.writer().await?;
        let asked = conn
            .execute("ask_to_stop", text, args![id, user, now])
            .await?;
        Ok(asked > 0)
    }

    /// What SQL holds of an answer's text; `None` if there is no such answer.
    pub async fn kept(&self, id: GenerationId) -> Result<Option<Kept>, StoreError> {
        let text = "SELECT g.bases, g.path, g.tokens, m.content FROM generations g JOIN messages m ON m.id = g.message_id WHERE g.id = $1";
        let mut conn = self.reader().await?;
        let row = conn.fetch_optional("kept", text, args![id]).await?;
        row.map(|row| kept_of(&row, row.text("content")?))
            .transpose()
    }
}

fn kept_of(row: &Row, text: String) -> Result<Kept, StoreError> {
    let path = row.text("path")?;
    Ok(Kept {
        bases: row.parsed::<Bases>("bases")?,
        text,
        tokens: u64::try_from(row.integer("tokens")?).unwrap_or(0),
        path: match path.as_str() {
            "sql" => Path::Sql,
            _ => Path::Log,
        },
    })
}

async fn beat(conn: &mut Conn) -> Result<Beat, StoreError> {
    let text = sql![
        "SELECT ",
        now,
        " AS now, ",
        server,
        " AS server_now, id, server, since, lease_until FROM (SELECT 1 AS one) AS one LEFT JOIN instances ON TRUE"
    ];
    let rows = conn.fetch_all("beat", text, args![]).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let lease = |row: &Row| {
        Ok(match row.parsed_or_null("id")? {
            Some(instance) => Some(Lease {
                instance,
                server: row.integer("server")?,
                since: row.moment("since")?,
                until: row.moment("lease_until")?,
            }),
            None => None,
        })
    };
    Ok(Beat {
        now: first.moment("now")?,
        server: first.integer("server_now")?,
        leases: rows
            .iter()
            .filter_map(|row| lease(row).transpose())
            .collect::<Result<_, StoreError>>()?,
    })
}

async fn write_lease(conn: &mut Conn, lease: &Lease) -> Result<(), StoreError> {
    let text = "INSERT INTO instances (id, server, since, lease_until) VALUES ($1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET server = excluded.server, since = excluded.since, lease_until = excluded.lease_until";
    let values = args![lease.instance, lease.server, lease.since, lease.until];
    conn.execute("renew_lease", text, values).await?;
    Ok(())
}

/// A change that nobody sees: an instance comes and goes in one transaction.
pub(super) async fn try_out(tx: &mut Tx) -> Result<(), StoreError> {
    let now = Timestamp::from_micros(0);
    let lease = Lease {
        instance: InstanceId::new(),
        server: 0,
        since: now,
        until: now,
    };
    write_lease(tx, &lease).await?;
    remove(tx, &lease).await
}

/// Removes a lease, unless it has been renewed since it was judged.
async fn remove(conn: &mut Conn, lease: &Lease) -> Result<(), StoreError> {
    let text = "DELETE FROM instances WHERE id = $1 AND server = $2 AND lease_until = $3";
    let values = args![lease.instance, lease.server, lease.until];
    conn.execute("remove_lease", text, values).await?;
    Ok(())
}

async fn keep_in(tx: &mut Tx, checkpoints: &[Checkpoint]) -> Result<Vec<GenerationId>, StoreError> {
    if checkpoints.is_empty() {
        return Ok(Vec::new());
    }
    let all = serde_json::to_string(checkpoints).map_err(|error| StoreError::Unreadable {
        column: "checkpoints",
        reason: error.to_string(),
    })?;
    let text = sql![
        "UPDATE generations SET checkpoint = CAST(e.value->>'number' AS BIGINT), bases = e.value->>'bases', path = e.value->>'path', tokens = CAST(e.value->>'tokens' AS BIGINT),
             status = CASE WHEN e.value->>'text' = '' THEN status ELSE 'running' END
         FROM ",
        json_each,
        " AS e WHERE generations.id = e.value->>'id' AND generations.epoch = CAST(e.value->>'epoch' AS BIGINT)
             AND generations.checkpoint < CAST(e.value->>'number' AS BIGINT) AND generations.status IN ('queued', 'running') RETURNING generations.id AS id"
    ];
    let rows = tx.fetch_all("checkpoint", text, args![&all]).await?;
    let taken = rows.iter().map(|row| row.parsed("id"));
    let taken: Vec<GenerationId> = taken.collect::<Result<_, _>>()?;
    let text = sql![
        "UPDATE messages SET content = e.value->>'text' FROM ",
        json_each,
        " AS e JOIN generations AS g ON g.id = e.value->>'id' WHERE messages.id = g.message_id
             AND g.epoch = CAST(e.value->>'epoch' AS BIGINT) AND g.checkpoint = CAST(e.value->>'number' AS BIGINT) AND g.status IN ('queued', 'running')"
    ];
    tx.execute("checkpoint_text", text, args![&all]).await?;
    Ok(taken)
}
