//! Where all rows of an installation are.

use super::{Part, Place, error::KeepError, tables::Table, unfinished::Unfinished};
use crate::{
    Db,
    sql::{Lock, Tx},
};
use std::path::{Path, PathBuf};

/// Where all rows are: nearly always in one database, but what was measured may have one of its own.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Everything, or everything but the series.
    pub main: Place,
    /// The series, where they lie apart.
    pub series: Option<Place>,
    /// The directory with the text of answers in the making, where that lies in files.
    pub answers: Option<PathBuf>,
}

/// Snapshots taken at most for one in which no answer ends while its file is looked for.
const SNAPSHOTS: u32 = 20;

/// One transaction on each of the databases.
pub(super) struct Sides<'a> {
    main: Side<'a>,
    series: Option<Side<'a>>,
    /// What the files add to the rows of the main one.
    unfinished: Unfinished,
}

struct Side<'a> {
    place: &'a Place,
    db: Db,
    tx: Tx,
}

impl Stores {
    /// Everything in one database.
    #[must_use]
    pub fn one(place: Place) -> Self {
        Self {
            main: place,
            series: None,
            answers: None,
        }
    }

    /// A consistent view of each, while others go on writing.
    pub(super) async fn snapshots(&self) -> Result<Sides<'_>, KeepError> {
        let series = match &self.series {
            Some(place) => Some(Side::snapshot(place).await?),
            None => None,
        };
        let mut main = Side::snapshot(&self.main).await?;
        let unfinished = match &self.answers {
            Some(directory) => main.with_files(directory).await?,
            None => Unfinished::default(),
        };
        Ok(Sides {
            main,
            series,
            unfinished,
        })
    }

    /// A writing transaction on each, of which none has a row, nor a Jarvis that runs.
    pub(super) async fn empty_ones(&self) -> Result<Sides<'_>, KeepError> {
        let (main, series) = match &self.series {
            Some(place) => {
                let series = Side::empty(place, Some(Part::Series)).await?;
                (Some(Part::Main), Some(series))
            }
            None => (None, None),
        };
        let main = Side::empty(&self.main, main).await?;
        Ok(Sides {
            main,
            series,
            unfinished: Unfinished::default(),
        })
    }
}

impl<'a> Side<'a> {
    async fn snapshot(place: &'a Place) -> Result<Self, KeepError> {
        let db = place.open_source().await?;
        let tx = db.begin_snapshot().await.map_err(place.says())?;
        Ok(Self { place, db, tx })
    }

    /// What the files in `directory` add to the snapshot, which becomes a later one where they are ahead of it.
    async fn with_files(&mut self, directory: &Path) -> Result<Unfinished, KeepError> {
        let says = self.place.says();
        for _ in 0..SNAPSHOTS {
            let read = Unfinished::read(directory, self.place, &self.db, &mut self.tx).await?;
            if let Some(unfinished) = read {
                return Ok(unfinished);
            }
            let later = self.db.begin_snapshot().await.map_err(says)?;
            let earlier = std::mem::replace(&mut self.tx, later);
            earlier.rollback().await.map_err(says)?;
        }
        Err(KeepError::Restless {
            place: self.place.to_string(),
        })
    }

    /// Empty in `part`, or at all.
    async fn empty(place: &'a Place, part: Option<Part>) -> Result<Self, KeepError> {
        let db = place.open_target().await?;
        let mut tx = db.begin_write().await.map_err(place.says())?;
        tx.be_patient().await.map_err(place.says())?;
        tx.lock(Lock::Move).await.map_err(place.says())?;
        place.require_rest(&mut tx).await?;
        place.require_empty(&mut tx, part).await?;
        Ok(Self { place, db, tx })
    }
}

impl Sides<'_> {
    /// The transaction on the database that has this table, and what is to be added to its rows.
    pub(super) fn of(&mut self, table: &Table) -> (&Place, &mut Tx, &Unfinished) {
        let side = match &mut self.series {
            Some(series) if table.part == Part::Series => series,
            _ => &mut self.main,
        };
        (side.place, &mut side.tx, &self.unfinished)
    }

    /// Keeps what was written; in the main one last, for that is what makes the rest matter.
    pub(super) async fn commit(self) -> Result<(), KeepError> {
        for side in self.series.into_iter().chain([self.main]) {
            side.tx.commit().await.map_err(side.place.says())?;
            side.db.close().await;
        }
        Ok(())
    }

    /// Ends reading, or undoes what was written.
    pub(super) async fn rollback(self) {
        for side in self.series.into_iter().chain([self.main]) {
            // What is not ended here ends with the connection.
            let _ = side.tx.rollback().await;
            side.db.close().await;
        }
    }
}
