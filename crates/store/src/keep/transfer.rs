//! From one database into another, page by page.
//!
//! The target itself says how far it has come: each page is written in one transaction with the place where the next one begins, so
//! a move that was killed goes on where it was. Until every table has been read again on both sides and found the same, the target
//! carries the mark of an unfinished move, and no Jarvis works on it.

use super::{
    Contents, Part, Place, Progress, Step,
    error::{Difference, KeepError},
    rows::{self, Cell, Cells, Pages},
    tables::{self, Table},
    tally::Tally,
};
use crate::{
    Db, SCHEMA_VERSION, StoreError,
    sql::{Conn, Lock, Tx, args},
};
use jarvis_domain::Timestamp;

/// Moves all rows of `part` (or all) from one database into another one that is empty or half filled by this very move, and proves
/// that they are the same. The source stays as it is.
///
/// # Errors
/// Before anything is changed: a place that cannot be used, [`KeepError::Absent`], another schema, [`KeepError::InUse`],
/// [`KeepError::Unfinished`], [`KeepError::NotEmpty`], [`KeepError::OtherMove`], [`KeepError::OtherPart`]. Later: [`KeepError::Differs`] if the proof fails, and whatever a database says;
/// the same call goes on from there.
pub async fn migrate(
    from: &Place,
    to: &Place,
    part: Option<Part>,
    now: Timestamp,
    mut progress: impl FnMut(Progress),
) -> Result<Contents, KeepError> {
    let source = from.open_source().await?;
    if let Err(error) = require_still(from, &source, part).await {
        source.close().await;
        return Err(error);
    }
    let target = to.open_to_move_into().await?;
    let route = Route {
        from,
        to,
        source: &source,
        target: &target,
        part,
    };
    let outcome = async {
        route.check(now).await?;
        route.copy(&mut progress).await?;
        route.verify(&mut progress).await
    }
    .await;
    source.close().await;
    target.close().await;
    outcome
}

/// Fails if somebody works on the source, or if rows alone would not be all of `part`.
async fn require_still(from: &Place, source: &Db, part: Option<Part>) -> Result<(), KeepError> {
    let mut conn = source.reader().await.map_err(from.says())?;
    from.require_rest(&mut conn).await?;
    match part {
        None | Some(Part::Main) => from.require_ended_answers(&mut conn).await,
        Some(Part::Series) => Ok(()),
    }
}

struct Route<'a> {
    from: &'a Place,
    to: &'a Place,
    source: &'a Db,
    target: &'a Db,
    part: Option<Part>,
}

/// How far the target has come: the table that is being filled, and the key of its last row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    table: &'static Table,
    after: Option<Vec<Cell>>,
}

impl Route<'_> {
    /// Looks at the target, and marks it as being filled from this source.
    async fn check(&self, now: Timestamp) -> Result<(), KeepError> {
        let there = self.to.says();
        let mut tx = self.target.begin_write().await.map_err(there)?;
        tx.lock(Lock::Move).await.map_err(there)?;
        self.to.require_rest(&mut tx).await?;
        if self.position(&mut tx).await?.is_none() {
            self.to.require_empty(&mut tx, self.part).await?;
            let first = tables::of(self.part).next().map_or("", |table| table.name);
            let text =
                "INSERT INTO moves (source, part, at_table, started_at) VALUES ($1, $2, $3, $4)";
            let (source, part) = (self.from.to_string(), tables::spelling(self.part));
            tx.execute("keep", text, args![&source, part, first, now])
                .await
                .map_err(there)?;
        }
        tx.commit().await.map_err(there)
    }

    /// Where this move stands; `None` if it has not begun. One from elsewhere or of another part is not this one.
    async fn position(&self, conn: &mut Conn) -> Result<Option<Position>, KeepError> {
        let text = "SELECT source, part, at_table, after_key FROM moves";
        let row = conn.fetch_optional("keep", text, args![]).await;
        let Some(row) = row.map_err(self.to.says())? else {
            return Ok(None);
        };
        let read = || {
            let table = tables::table(&row.text("at_table")?);
            let table = table.ok_or_else(|| unreadable("at_table", &"unknown table"))?;
            let after = row.text_or_null("after_key")?;
            let after = after.map(|key| serde_json::from_str::<Cells>(&key));
            let after = after.transpose().map_err(|e| unreadable("after_key", &e))?;
            let position = Position {
                table,
                after: after.map(|cells| cells.0),
            };
            Ok((row.text("source")?, row.text("part")?, position))
        };
        let (source, part, position) = read().map_err(self.to.says())?;
        let place = self.to.to_string();
        if source != self.from.to_string() {
            let source_place = source;
            return Err(KeepError::OtherMove {
                place,
                source_place,
            });
        }
        if part != tables::spelling(self.part) {
            return Err(KeepError::OtherPart { place, part });
        }
        Ok(Some(position))
    }

    async fn copy(&self, progress: &mut impl FnMut(Progress)) -> Result<(), KeepError> {
        let mut conn = self.target.reader().await.map_err(self.to.says())?;
        let start = self.position(&mut conn).await?;
        drop(conn);
        let begun = |table: &&Table| {
            let start = start.as_ref();
            start.is_some_and(|start| table.name == start.table.name)
        };
        let mut snapshot = self
            .source
            .begin_snapshot()
            .await
            .map_err(self.from.says())?;
        for table in tables::of(self.part).skip_while(|table| !begun(table)) {
            let mut position = start
                .clone()
                .filter(|start| start.table.name == table.name)
                .unwrap_or(Position { table, after: None });
            self.copy_table(&mut snapshot, &mut position, progress)
                .await?;
        }
        snapshot.rollback().await.map_err(self.from.says())
    }

    async fn copy_table(
        &self,
        snapshot: &mut Tx,
        position: &mut Position,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), KeepError> {
        let table = position.table;
        let (here, there) = (self.from.says(), self.to.says());
        let of = count(snapshot, table).await.map_err(here)?;
        let mut conn = self.target.reader().await.map_err(there)?;
        let mut done = count(&mut conn, table).await.map_err(there)?;
        drop(conn);
        let mut pages = Pages::new(table, position.after.clone());
        loop {
            progress(Progress {
                step: Step::Copying,
                table: table.name,
                rows: done,
                of: Some(of),
            });
            let page = pages.next(snapshot).await.map_err(here)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            let after = last.key(table).to_vec();
            let mut tx = self.target.begin_write().await.map_err(there)?;
            tx.lock(Lock::Move).await.map_err(there)?;
            rows::insert(&mut tx, table, &page).await.map_err(there)?;
            self.advance(&mut tx, position, after).await?;
            tx.commit().await.map_err(there)?;
            done += page.len() as u64;
        }
    }

    /// Notes how far the target has come, unless somebody else has moved it on.
    async fn advance(
        &self,
        tx: &mut Tx,
        position: &mut Position,
        after: Vec<Cell>,
    ) -> Result<(), KeepError> {
        let before = self.position(tx).await?;
        let stands_here = before.is_some_and(|before| {
            before == *position || (position.after.is_none() && before.comes_before(position))
        });
        if !stands_here {
            return Err(KeepError::Contended {
                place: self.to.to_string(),
            });
        }
        position.after = Some(after.clone());
        let key = Cells(after).spelling();
        let text = "UPDATE moves SET at_table = $1, after_key = $2";
        let key = String::from_utf8_lossy(&key);
        tx.execute("keep", text, args![position.table.name, &*key])
            .await
            .map_err(self.to.says())?;
        Ok(())
    }

    /// Reads both sides again, the source as it is now, and takes the mark off the target if they are the same.
    async fn verify(&self, progress: &mut impl FnMut(Progress)) -> Result<Contents, KeepError> {
        let (here, there) = (self.from.says(), self.to.says());
        let mut source = self.source.begin_snapshot().await.map_err(here)?;
        let mut target = self.target.begin_snapshot().await.map_err(there)?;
        let mut tables = Vec::new();
        for table in tables::of(self.part) {
            let expected = rows::tally(&mut source, table, |_| (), |_| ())
                .await
                .map_err(here)?;
            let found = rows::tally(
                &mut target,
                table,
                |_| (),
                |rows| {
                    progress(Progress {
                        step: Step::Verifying,
                        table: table.name,
                        rows,
                        of: Some(expected.rows()),
                    });
                },
            );
            let found = found.await.map_err(there)?;
            self.require_same(table, expected, found)?;
            tables.push((table.name, found));
        }
        source.rollback().await.map_err(here)?;
        target.rollback().await.map_err(there)?;
        let mut tx = self.target.begin_write().await.map_err(there)?;
        // Never that of another move, whose rows nobody has read again.
        let text = "DELETE FROM moves WHERE source = $1 AND part = $2";
        let source = self.from.to_string();
        tx.execute("keep", text, args![&source, tables::spelling(self.part)])
            .await
            .map_err(there)?;
        tx.commit().await.map_err(there)?;
        Ok(Contents {
            taken_at: None,
            schema: SCHEMA_VERSION,
            tables,
        })
    }

    fn require_same(
        &self,
        table: &'static Table,
        expected: Tally,
        found: Tally,
    ) -> Result<(), KeepError> {
        if expected == found {
            return Ok(());
        }
        let difference = Difference {
            table: table.name,
            expected_in: self.from.to_string(),
            expected,
            found_in: self.to.to_string(),
            found,
        };
        Err(difference.into())
    }
}

impl Position {
    /// Whether `next` is the beginning of a later table.
    fn comes_before(&self, next: &Self) -> bool {
        let place = |table: &Table| tables::of(None).position(|other| other.name == table.name);
        place(self.table) < place(next.table)
    }
}

async fn count(conn: &mut Conn, table: &Table) -> Result<u64, StoreError> {
    let count = conn.scalar("keep", table.count, args![]).await?;
    Ok(count.unsigned_abs())
}

fn unreadable(column: &'static str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreadable {
        column,
        reason: why.to_string(),
    }
}
