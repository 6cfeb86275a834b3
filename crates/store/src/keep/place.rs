//! A database, opened as it is: nothing here brings a schema up to date that rows are to come from.

use super::{
    error::KeepError,
    tables::{self, Part},
};
use crate::{
    Db, DbOptions, Location, SCHEMA_VERSION, StoreError,
    sql::{Conn, args, sql},
};
use std::{fmt, path::Path, time::Duration};

/// Of a statement: pages of long rows take their time, and nobody waits for an answer here.
const DEADLINE: Duration = Duration::from_secs(30);

/// A database that rows are moved from or to.
#[derive(Debug, Clone)]
pub struct Place {
    /// Without a password.
    name: String,
    options: DbOptions,
}

impl Place {
    /// The database of these options, and how it is called in messages: a URL without a password. It also tells one source from
    /// another when a move goes on.
    #[must_use]
    pub fn new(name: String, options: DbOptions) -> Self {
        let options = DbOptions {
            statement_deadline: Some(options.deadline.max(DEADLINE)),
            ..options
        };
        Self { name, options }
    }

    /// The file, if it is one.
    fn file(&self) -> Option<&Path> {
        match &self.options.location {
            Location::File { path, .. } => Some(path),
            Location::Postgres(_) => None,
        }
    }

    /// Says of an error where it happened.
    pub(super) fn says(&self) -> impl Fn(StoreError) -> KeepError + Copy {
        |source| KeepError::Store {
            place: self.name.clone(),
            source: Box::new(source),
        }
    }

    /// Opens a database that rows are read from. It is changed in nothing.
    pub(super) async fn open_source(&self) -> Result<Db, KeepError> {
        match self.schema().await? {
            Some(SCHEMA_VERSION) => Db::open(&self.options).await.map_err(self.says()),
            Some(found) => Err(self.other_schema(found)),
            None => Err(KeepError::Absent {
                place: self.name.clone(),
            }),
        }
    }

    /// Opens a database that rows are written to, and makes its schema if there is none yet.
    pub(super) async fn open_target(&self) -> Result<Db, KeepError> {
        self.require_schema_to_fill().await?;
        Db::open(&self.options).await.map_err(self.says())
    }

    /// As [`open_target`](Self::open_target); also one with the mark of an unfinished move.
    pub(super) async fn open_to_move_into(&self) -> Result<Db, KeepError> {
        self.require_schema_to_fill().await?;
        Db::open_unfinished(&self.options)
            .await
            .map_err(self.says())
    }

    async fn require_schema_to_fill(&self) -> Result<(), KeepError> {
        match self.schema().await? {
            None | Some(SCHEMA_VERSION) => Ok(()),
            Some(found) => Err(self.other_schema(found)),
        }
    }

    /// The version of the schema that is there; of one with gaps, the last before the first gap.
    async fn schema(&self) -> Result<Option<i64>, KeepError> {
        if self.file().is_some_and(|path| !path.exists()) {
            return Ok(None);
        }
        let plan = Db::migration_plan(&self.options)
            .await
            .map_err(self.says())?;
        let newest = plan.iter().rfind(|step| step.applied);
        let complete = plan.iter().take_while(|step| step.applied).last();
        let newer = newest.filter(|step| step.version > SCHEMA_VERSION);
        Ok(newer.or(complete).map(|step| step.version))
    }

    fn other_schema(&self, found: i64) -> KeepError {
        let (place, known) = (self.name.clone(), SCHEMA_VERSION);
        if found > known {
            KeepError::NewerSchema {
                place,
                found,
                known,
            }
        } else {
            KeepError::OlderSchema {
                place,
                found,
                known,
            }
        }
    }

    /// Fails if instances of Jarvis work on this database, by its own clock.
    pub(super) async fn require_rest(&self, conn: &mut Conn) -> Result<(), KeepError> {
        let text = sql!["SELECT COUNT(*) FROM instances WHERE lease_until > ", now];
        let running = conn.scalar("keep", text, args![]).await;
        match running.map_err(self.says())? {
            0 => Ok(()),
            running => Err(KeepError::InUse {
                place: self.name.clone(),
                running,
            }),
        }
    }

    /// Fails if an answer has not ended: its log is not among the rows.
    pub(super) async fn require_ended_answers(&self, conn: &mut Conn) -> Result<(), KeepError> {
        let text = "SELECT COUNT(*) FROM generations WHERE status IN ('queued', 'running')";
        let unfinished = conn.scalar("keep", text, args![]).await;
        match unfinished.map_err(self.says())? {
            0 => Ok(()),
            answers => Err(KeepError::Unfinished {
                place: self.name.clone(),
                answers,
            }),
        }
    }

    /// Fails if a table of `part` (or any) has a row.
    pub(super) async fn require_empty(
        &self,
        conn: &mut Conn,
        part: Option<Part>,
    ) -> Result<(), KeepError> {
        for table in tables::of(part) {
            let any = conn.scalar("keep", table.any, args![]).await;
            if any.map_err(self.says())? > 0 {
                return Err(KeepError::NotEmpty {
                    place: self.name.clone(),
                    table: table.name,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
