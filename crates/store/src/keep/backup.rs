//! Into an archive, out of one, and the comparison of both.
//!
//! A backup reads one snapshot, so it is consistent while Jarvis goes on; what is not in the rows yet of answers in the making comes
//! from their files. A restore first reads the archive to its end, then writes
//! in one transaction and reads everything again before it is committed: a target is either whole or untouched.
//!
//! The archive's file is read and written without leaving the thread to others: these are commands of an operator, beside which the
//! process does nothing.

use super::{
    Contents, Progress, Step,
    archive::{Key, Line, Lock, Reader, Writer},
    error::{Difference, KeepError},
    rows::{self, Cells, Pages},
    stores::{Sides, Stores},
    tables::{self, PAGE, Table},
    tally::Tally,
};
use crate::SCHEMA_VERSION;
use jarvis_domain::Timestamp;
use std::path::Path;

/// Writes all rows into an encrypted archive at `file`, which must not be there yet. `now` is written into it.
///
/// # Errors
/// [`KeepError::Exists`], a store that cannot be read or has another schema, a disk that is full: nothing is left then.
pub async fn back_up(
    from: &Stores,
    file: &Path,
    lock: &Lock,
    now: Timestamp,
    mut progress: impl FnMut(Progress),
) -> Result<Contents, KeepError> {
    let mut sides = from.snapshots().await?;
    let written = write(&mut sides, file, lock, now, &mut progress).await;
    sides.rollback().await;
    Ok(Contents {
        taken_at: Some(now),
        schema: SCHEMA_VERSION,
        tables: written?,
    })
}

async fn write(
    sides: &mut Sides<'_>,
    file: &Path,
    lock: &Lock,
    now: Timestamp,
    progress: &mut impl FnMut(Progress),
) -> Result<Vec<(&'static str, Tally)>, KeepError> {
    let mut writer = Writer::create(file, lock, now)?;
    let mut kept = Vec::new();
    for table in tables::of(None) {
        let (place, tx, unfinished) = sides.of(table);
        writer.table(table)?;
        let mut pages = Pages::new(table, None);
        loop {
            let mut page = pages.next(tx).await.map_err(place.says())?;
            if page.is_empty() {
                break;
            }
            for row in &mut page {
                unfinished.complete(table, row, Some(now));
                writer.row(row)?;
            }
            progress(Progress {
                step: Step::Copying,
                table: table.name,
                rows: writer.rows(),
                of: None,
            });
        }
        kept.push((table.name, writer.end_table()?));
    }
    writer.finish()?;
    Ok(kept)
}

/// Reads an archive to its end: what is in it, if every line is as it was written. Changes nothing anywhere.
///
/// # Errors
/// [`KeepError::NotAnArchive`], [`KeepError::WrongKey`], [`KeepError::OtherLock`], [`KeepError::NewerArchive`],
/// [`KeepError::Damaged`], or the device's own.
pub fn examine(
    file: &Path,
    key: &Key,
    mut progress: impl FnMut(Progress),
) -> Result<Contents, KeepError> {
    read_through(&mut Reader::open(file, key)?, &mut progress)
}

fn read_through(
    reader: &mut Reader,
    progress: &mut impl FnMut(Progress),
) -> Result<Contents, KeepError> {
    let mut tables = Vec::new();
    loop {
        match reader.next()? {
            Line::Table | Line::Row(_) => {}
            Line::EndOfTable(table, tally) => {
                progress(verified(table.name, tally));
                tables.push((table.name, tally));
            }
            Line::End => break,
        }
    }
    Ok(Contents {
        taken_at: Some(reader.head().taken_at),
        schema: reader.head().schema,
        tables,
    })
}

/// Compares an archive row for row with what the stores hold now.
///
/// # Errors
/// [`KeepError::Differs`], else as [`examine`] and what a store says.
pub async fn compare(
    file: &Path,
    key: &Key,
    with: &Stores,
    mut progress: impl FnMut(Progress),
) -> Result<Contents, KeepError> {
    let mut reader = Reader::open(file, key)?;
    let contents = read_through(&mut reader, &mut |_| ())?;
    let mut reader = reader.again()?;
    let mut sides = with.snapshots().await?;
    let outcome = same(&mut reader, file, &mut sides, &mut progress).await;
    sides.rollback().await;
    outcome.map(|()| contents)
}

/// Restores an archive into stores that are empty, and reads all rows again before they are kept.
///
/// # Errors
/// As [`examine`] before any store is touched; [`KeepError::NotEmpty`], [`KeepError::InUse`] and whatever a store says leave no row
/// behind (where the series have a database of their own, it is committed first, and may be filled when the other one fails).
pub async fn restore(
    file: &Path,
    key: &Key,
    into: &Stores,
    mut progress: impl FnMut(Progress),
) -> Result<Contents, KeepError> {
    let mut reader = Reader::open(file, key)?;
    let contents = read_through(&mut reader, &mut |_| ())?;
    let mut reader = reader.again()?;
    let mut sides = into.empty_ones().await?;
    let filled = fill(&mut reader, &mut sides, &mut progress).await;
    let proven = match filled.and_then(|()| reader.again()) {
        Ok(mut reader) => same(&mut reader, file, &mut sides, &mut progress).await,
        Err(error) => Err(error),
    };
    match proven {
        Ok(()) => sides.commit().await.map(|()| contents),
        Err(error) => {
            sides.rollback().await;
            Err(error)
        }
    }
}

async fn fill(
    reader: &mut Reader,
    sides: &mut Sides<'_>,
    progress: &mut impl FnMut(Progress),
) -> Result<(), KeepError> {
    let mut page = Vec::with_capacity(PAGE);
    loop {
        match reader.next()? {
            Line::Table => {}
            Line::Row(row) => {
                page.push(row);
                if let Some((table, tally)) = reader.table().filter(|_| page.len() == PAGE) {
                    insert(sides, table, &page).await?;
                    page.clear();
                    progress(copied(table.name, tally.rows()));
                }
            }
            Line::EndOfTable(table, tally) => {
                insert(sides, &table, &page).await?;
                page.clear();
                progress(copied(table.name, tally.rows()));
            }
            Line::End => return Ok(()),
        }
    }
}

async fn insert(sides: &mut Sides<'_>, table: &Table, page: &[Cells]) -> Result<(), KeepError> {
    let (place, tx, _) = sides.of(table);
    rows::insert(tx, table, page).await.map_err(place.says())
}

/// Fails unless every table of the archive is in the stores, row for row, in the columns that the archive has.
async fn same(
    reader: &mut Reader,
    file: &Path,
    sides: &mut Sides<'_>,
    progress: &mut impl FnMut(Progress),
) -> Result<(), KeepError> {
    loop {
        match reader.next()? {
            Line::Table | Line::Row(_) => {}
            Line::EndOfTable(table, expected) => {
                let now = Some(reader.head().taken_at);
                let (place, tx, unfinished) = sides.of(&table);
                let complete = |row: &mut Cells| unfinished.complete(&table, row, now);
                let found = rows::tally(tx, &table, complete, |_| ())
                    .await
                    .map_err(place.says())?;
                progress(verified(table.name, found));
                if found != expected {
                    let difference = Difference {
                        table: table.name,
                        expected_in: file.display().to_string(),
                        expected,
                        found_in: place.to_string(),
                        found,
                    };
                    return Err(difference.into());
                }
            }
            Line::End => return Ok(()),
        }
    }
}

fn copied(table: &'static str, rows: u64) -> Progress {
    Progress {
        step: Step::Copying,
        table,
        rows,
        of: None,
    }
}

fn verified(table: &'static str, tally: Tally) -> Progress {
    Progress {
        step: Step::Verifying,
        table,
        rows: tally.rows(),
        of: Some(tally.rows()),
    }
}
