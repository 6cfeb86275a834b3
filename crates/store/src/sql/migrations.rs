//! The schema and its versions, the same texts for both engines.
//!
//! All that is missing is applied in one transaction under a lock, so that of many instances that start at once one does it and the
//! others find it done, and a schema is never half-way. A migration only adds, so that the previous program goes on beside it; the
//! table `schema_floor` says which the oldest program is that may. A program that meets migrations it does not know works on, unless
//! it stands below that floor.

use super::{
    Lock,
    conn::{Conn, Tx},
    dialect::{Text, sql},
    value::args,
};
use crate::StoreError;
use sqlx::migrate::{Migration, Migrator};
use std::{collections::BTreeMap, time::Instant};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// The newest schema that this program knows.
pub const SCHEMA_VERSION: i64 = 6;

/// One step of the schema, and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMigration {
    /// Its number.
    pub version: i64,
    /// What it is for, in a few words.
    pub description: String,
    /// Whether the database has it already.
    pub applied: bool,
    /// Its statements; empty if only the database knows it.
    pub sql: String,
}

/// The table that sqlx keeps too, so that earlier versions of Jarvis find their way.
const TABLE: Text = sql![
    "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        success BOOLEAN NOT NULL,
        checksum ",
    bytes,
    " NOT NULL,
        execution_time BIGINT NOT NULL
    )"
];

/// Whether a table is there.
const HAS_TABLE: Text = Text {
    sqlite: "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1",
    postgres: "SELECT COUNT(*) FROM pg_catalog.pg_class WHERE oid = to_regclass($1)",
};

/// What the database has: checksums by version.
type Applied = BTreeMap<i64, Vec<u8>>;

/// Whether something is to be done, if this program may work on the database at all.
pub(super) async fn needed(conn: &mut Conn) -> Result<bool, StoreError> {
    Ok(missing(&check(conn).await?).next().is_some())
}

/// Brings the schema up to date.
pub(super) async fn run(mut tx: Tx) -> Result<(), StoreError> {
    tx.without_deadline();
    tx.lock(Lock::Schema).await?;
    // Another instance may have done it while this one waited.
    let applied = check(&mut tx).await?;
    tx.execute("migrate", TABLE, args![]).await?;
    for migration in missing(&applied) {
        apply(&mut tx, migration)
            .await
            .map_err(|source| StoreError::Migration {
                version: migration.version,
                source: Box::new(source),
            })?;
    }
    tx.commit().await
}

/// Every migration that this program or the database (`None`: one that is not there yet) knows, in order.
pub(super) async fn plan(conn: Option<&mut Conn>) -> Result<Vec<PlannedMigration>, StoreError> {
    let applied = match conn {
        Some(conn) => check(conn).await?,
        None => Applied::new(),
    };
    let ours = MIGRATIONS.iter().map(|migration| PlannedMigration {
        version: migration.version,
        description: migration.description.to_string(),
        applied: applied.contains_key(&migration.version),
        sql: migration.sql.as_str().to_owned(),
    });
    let foreign = applied.keys().filter(|version| !knows(**version));
    let foreign = foreign.map(|&version| PlannedMigration {
        version,
        description: "of a newer program".into(),
        applied: true,
        sql: String::new(),
    });
    let mut plan: Vec<_> = ours.chain(foreign).collect();
    plan.sort_by_key(|step| step.version);
    Ok(plan)
}

fn missing(applied: &Applied) -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS
        .iter()
        .filter(|migration| !applied.contains_key(&migration.version))
}

fn knows(version: i64) -> bool {
    MIGRATIONS.version_exists(version)
}

/// What the database has, if this program may work on it.
async fn check(conn: &mut Conn) -> Result<Applied, StoreError> {
    let applied = applied(conn).await?;
    for migration in MIGRATIONS.iter() {
        if let Some(checksum) = applied.get(&migration.version)
            && checksum.as_slice() != &*migration.checksum
        {
            return Err(StoreError::Changed {
                version: migration.version,
            });
        }
    }
    if let Some(&found) = applied.keys().rfind(|version| !knows(**version)) {
        let text = "SELECT version FROM schema_floor";
        let floor = conn.scalar("migrate", text, args![]).await?;
        if floor > SCHEMA_VERSION {
            return Err(StoreError::Newer {
                found,
                known: SCHEMA_VERSION,
            });
        }
        tracing::warn!(
            found,
            known = SCHEMA_VERSION,
            "the database has a newer schema that this version can work on"
        );
    }
    Ok(applied)
}

/// Whether the database has a table of this name.
pub(super) async fn has_table(conn: &mut Conn, name: &str) -> Result<bool, StoreError> {
    let there = conn.scalar("migrate", HAS_TABLE, args![name]).await?;
    Ok(there > 0)
}

async fn applied(conn: &mut Conn) -> Result<Applied, StoreError> {
    if !has_table(conn, "_sqlx_migrations").await? {
        return Ok(Applied::new());
    }
    let text = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";
    let rows = conn.fetch_all("migrate", text, args![]).await?;
    rows.iter()
        .map(|row| Ok((row.integer("version")?, row.bytes("checksum")?)))
        .collect()
}

async fn apply(tx: &mut Tx, migration: &Migration) -> Result<(), StoreError> {
    let started = Instant::now();
    tx.script(migration.sql.clone()).await?;
    let took = i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let text = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES ($1, $2, TRUE, $3, $4)";
    let (description, checksum) = (&*migration.description, &*migration.checksum);
    let values = args![migration.version, description, checksum, took];
    tx.execute("migrate", text, values).await?;
    tracing::info!(version = migration.version, description, "schema migrated");
    Ok(())
}
