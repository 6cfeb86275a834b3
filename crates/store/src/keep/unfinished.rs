//! Answers in the making, where their text lies in files beside the database (`answers/`): what a backup adds to their rows.
//!
//! The files change with every word while Jarvis runs, and a database snapshot stands still. They go together all the same: of
//! an answer that the snapshot shows unfinished, the file holds a beginning, as long as the answer has not ended and been
//! removed from there; then SQL had all of it first, and a new snapshot shows that.

use super::{
    error::KeepError,
    place::Place,
    rows::{Cell, Cells},
    tables::Table,
};
use crate::{
    Db, LogError,
    answers::Files,
    sql::{Conn, Row, args},
};
use jarvis_domain::{GenerationId, Status, Timestamp, durable::Logged, sentence};
use serde::Serialize;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

/// What the files hold of the answers that a snapshot shows unfinished.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// By the message that holds the answer.
    texts: HashMap<String, String>,
    /// By the generation.
    states: HashMap<String, State>,
}

#[derive(Debug)]
struct State {
    tokens: i64,
    end: Option<End>,
}

/// How it ended, though SQL does not know yet; as the columns have it.
#[derive(Debug)]
struct End {
    status: Status,
    usage: Option<String>,
    error: Option<String>,
}

impl Unfinished {
    /// Reads the files in `directory` of the answers that `snapshot` shows unfinished; `None` if one of them has ended since,
    /// so that another snapshot is needed.
    pub(super) async fn read(
        directory: &Path,
        place: &Place,
        db: &Db,
        snapshot: &mut Conn,
    ) -> Result<Option<Self>, KeepError> {
        let text = "SELECT g.id, g.message_id, m.content FROM generations g JOIN messages m ON m.id = g.message_id
             WHERE g.status IN ('queued', 'running')";
        let rows = snapshot.fetch_all("keep", text, args![]).await;
        let files = Files::at(directory);
        let mut found = Self::default();
        for row in rows.map_err(place.says())? {
            let id: GenerationId = row.parsed("id").map_err(place.says())?;
            let logged = files
                .peek(id)
                .map_err(|error| unreadable(directory, error))?;
            match logged {
                Some(logged) => found.add(&row, logged).map_err(place.says())?,
                // Nobody has been shown any of it, unless it has ended.
                None if is_unfinished(db, id).await.map_err(place.says())? => {}
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    fn add(&mut self, row: &Row, logged: Logged) -> Result<(), crate::StoreError> {
        // Where SQL is told from time to time, it has a beginning of the same text.
        if logged.text.len() < row.text("content")?.len() {
            return Ok(());
        }
        let end = logged.end.map(|end| End {
            status: end.status,
            usage: json(end.usage.as_ref()),
            error: json(end.error.as_ref()),
        });
        let tokens = i64::try_from(logged.tokens).unwrap_or(i64::MAX);
        self.states.insert(row.text("id")?, State { tokens, end });
        self.texts.insert(row.text("message_id")?, logged.text);
        Ok(())
    }

    /// Adds to a row of `table` what the files have of it; an answer that has ended in them ends at `now`.
    pub(super) fn complete(&self, table: &Table, row: &mut Cells, now: Option<Timestamp>) {
        let Some(Cell::Text(key)) = row.0.first() else {
            return;
        };
        match table.name {
            "messages" => {
                if let Some(text) = self.texts.get(key) {
                    row.set(table, "content", Cell::Text(text.clone()));
                }
            }
            "generations" => {
                if let Some(state) = self.states.get(key) {
                    state.write(table, row, now);
                }
            }
            _ => {}
        }
    }
}

impl State {
    fn write(&self, table: &Table, row: &mut Cells, now: Option<Timestamp>) {
        let status = self.end.as_ref().map_or(Status::Running, |end| end.status);
        row.set(table, "status", Cell::Text(status.as_str().to_owned()));
        row.set(table, "tokens", Cell::Integer(self.tokens));
        if let Some(end) = &self.end {
            row.set(table, "usage", text_or_null(end.usage.as_ref()));
            row.set(table, "error", text_or_null(end.error.as_ref()));
            let ended = now.map_or(Cell::Null, |now| Cell::Integer(now.micros()));
            row.set(table, "finished_at", ended);
        }
    }
}

async fn is_unfinished(db: &Db, id: GenerationId) -> Result<bool, crate::StoreError> {
    let text = "SELECT COUNT(*) FROM generations WHERE id = $1 AND status IN ('queued', 'running')";
    let mut conn = db.reader().await?;
    Ok(conn.scalar("keep", text, args![id]).await? > 0)
}

fn json<T: Serialize>(value: Option<&T>) -> Option<String> {
    value.and_then(|value| serde_json::to_string(value).ok())
}

fn text_or_null(text: Option<&String>) -> Cell {
    text.map_or(Cell::Null, |text| Cell::Text(text.clone()))
}

fn unreadable(directory: &Path, error: LogError) -> KeepError {
    let path = PathBuf::from(directory);
    let source = match error {
        LogError::Full(source) | LogError::Io(source) => source,
        other => io::Error::other(sentence(&other)),
    };
    KeepError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnswerLog, Begin, Begun, DbOptions, Grant, NewUser, Outcome, Registered, Start};
    use jarvis_domain::{InstanceId, UserId};

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    #[tokio::test]
    async fn an_answer_that_ends_while_its_file_is_looked_for_asks_for_another_snapshot() {
        let home = tempfile::tempdir().unwrap();
        let options = DbOptions::file(home.path().join("jarvis.db"));
        let answers = home.path().join("answers");
        let place = Place::new("here".into(), options.clone());
        let db = Db::open(&options).await.unwrap();
        let log = AnswerLog::open(&answers, false).unwrap();
        let new = NewUser {
            id: UserId::new(),
            email: "ana@example.org".parse().unwrap(),
            password_hash: "$argon2id$".into(),
            created_at: NOW,
        };
        let Registered::Made(ana) = db.register(new, Grant::Open).await.unwrap() else {
            panic!("she is new");
        };
        let begin = Begin {
            id: GenerationId::new(),
            owner: InstanceId::new(),
            user: ana.id,
            idempotency_key: None,
            start: Start::NewConversation {
                title: "t".into(),
                content: "q".into(),
            },
            model: "m".into(),
            now: NOW,
        };
        let Begun::New { generation, .. } = db.begin(begin).await.unwrap() else {
            panic!("it is new");
        };
        let key = generation.message_id.to_string();
        let read = async |snapshot: &mut Conn| {
            let read = Unfinished::read(&answers, &place, &db, snapshot).await;
            read.unwrap().map(|found| found.texts.get(&key).cloned())
        };
        let mut early = db.begin_snapshot().await.unwrap();
        assert_eq!(read(&mut early).await, Some(None), "no file yet");
        let hold = log.take_up(generation.id, 1).await.unwrap();
        let mut writer = hold.go_on().unwrap();
        writer.append("so far", 2).await.unwrap();
        let text = Some(Some("so far".to_owned()));
        assert_eq!(read(&mut early).await, text, "the snapshot shows it still");
        let done = Outcome {
            status: Status::Done,
            usage: None,
            error: None,
        };
        writer.decide(&done).await.unwrap();
        db.finish(&generation, "so far", &done, NOW).await.unwrap();
        assert_eq!(read(&mut early).await, text, "the file is there still");
        writer.finish(done).await.unwrap();
        assert_eq!(read(&mut early).await, None);
        early.rollback().await.unwrap();
        let mut late = db.begin_snapshot().await.unwrap();
        assert_eq!(read(&mut late).await, Some(None), "SQL has all of it");
        late.rollback().await.unwrap();
        db.close().await;
    }
}
