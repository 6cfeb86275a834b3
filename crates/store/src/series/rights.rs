//! Whether a database of the series' own is one that can be written to, asked before it is.

use crate::{
    Db, DbOptions, Location, StoreError,
    sql::{args, require_whole},
};

/// Whether the user may make tables where they would be made, and change those that were made before.
const MIGRATE: &str = "
    SELECT CAST(COALESCE(has_schema_privilege(current_schema(), 'CREATE'), FALSE)
        AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class
            WHERE oid = to_regclass('_sqlx_migrations') AND NOT pg_has_role(relowner, 'USAGE')) AS INTEGER)::BIGINT";

/// Whether the user may do with the tables what [`SeriesTask`](super::SeriesTask) does.
const WRITE: &str = "
    SELECT CAST(bool_and(has_table_privilege(t, may)) AS INTEGER)::BIGINT
    FROM unnest(ARRAY['series_answers', 'series_nodes']) AS t, unnest(ARRAY['SELECT', 'INSERT', 'DELETE']) AS may";

/// Passes if the database can be used as it is, or can be brought up to date. Changes nothing.
///
/// # Errors
/// As [`Db::open`] before anything is changed; [`StoreError::NoRight`] where opening, or writing, would fail for want of rights.
pub async fn require_rights(options: &DbOptions) -> Result<(), StoreError> {
    let db = Db::connect(options).await?;
    let asked = ask(&db, options).await;
    db.close().await;
    asked
}

async fn ask(db: &Db, options: &DbOptions) -> Result<(), StoreError> {
    let Location::Postgres(place) = &options.location else {
        return Ok(());
    };
    let mut conn = db.reader().await?;
    let (text, what) = if Db::is_behind(&mut conn).await? {
        (MIGRATE, "make and change tables")
    } else {
        require_whole(&mut conn).await?;
        (WRITE, "write to the tables of the series")
    };
    if conn.scalar("open", text, args![]).await? > 0 {
        return Ok(());
    }
    Err(StoreError::NoRight {
        user: place.user.clone(),
        what,
        database: place.database.clone(),
    })
}
