//! The extension TimescaleDB, where a database has it. Its SQL lies in `timescale/`, apart from everything else, for it runs nowhere
//! else.

use super::{SeriesOptions, task::micros};
use crate::{
    Db, StoreError,
    sql::{Conn, Lock, args},
};

const TABLES: &str = include_str!("../../timescale/tables.sql");

/// Sets up hypertables, continuous aggregates and policies, once, if the extension is there. An administrator puts it there
/// (`CREATE EXTENSION timescaledb`); then the next start does the rest, with the points that are there already.
pub(super) async fn prepare(db: &Db, options: &SeriesOptions) -> Result<(), StoreError> {
    if !db.is_postgres() || !has_extension(&mut db.writer().await?).await? {
        return Ok(());
    }
    let mut tx = db.begin_write().await?;
    tx.without_deadline();
    tx.lock(Lock::Schema).await?;
    if !has_hypertables(&mut tx).await? {
        tx.script(sqlx::SqlStr::from_static(TABLES)).await?;
        tracing::info!("the series are kept by TimescaleDB from now on");
    }
    for (table, keep) in [
        ("series_answers", options.keep_answers),
        ("series_answers_by_hour", options.keep_answers),
        ("series_nodes", options.keep_nodes),
        ("series_nodes_by_hour", options.keep_nodes),
    ] {
        let remove = "SELECT remove_retention_policy(CAST($1 AS REGCLASS), if_exists => TRUE)";
        tx.execute("series", remove, args![table]).await?;
        let add = "SELECT add_retention_policy(CAST($1 AS REGCLASS), CAST($2 AS BIGINT))";
        tx.execute("series", add, args![table, micros(keep)])
            .await?;
    }
    tx.commit().await
}

/// Whether it keeps the series of this database.
pub(super) async fn rules(db: &Db) -> Result<bool, StoreError> {
    if !db.is_postgres() {
        return Ok(false);
    }
    let mut conn = db.writer().await?;
    Ok(has_extension(&mut conn).await? && has_hypertables(&mut conn).await?)
}

async fn has_extension(conn: &mut Conn) -> Result<bool, StoreError> {
    let text = "SELECT COUNT(*) FROM pg_catalog.pg_extension WHERE extname = 'timescaledb'";
    Ok(conn.scalar("series", text, args![]).await? > 0)
}

async fn has_hypertables(conn: &mut Conn) -> Result<bool, StoreError> {
    let text = "SELECT COUNT(*) FROM timescaledb_information.hypertables WHERE hypertable_name = 'series_answers'";
    Ok(conn.scalar("series", text, args![]).await? > 0)
}
