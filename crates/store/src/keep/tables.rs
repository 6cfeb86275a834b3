//! Every table whose rows are kept, parents before children, with the statements that read and fill it.
//!
//! A migration that adds a table or a column adds it here; a test compares this list with both engines. Rows of an archive that was
//! made before a column existed get the column's default, so a column needs one, and a migration that fills old rows in another way
//! has to do so for rows that come later, too.

use std::{fmt::Write as _, sync::LazyLock};

/// Rows that are read or written together.
pub(super) const PAGE: usize = 100;

/// Tables that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Accounts, conversations, answers.
    Main,
    /// What was measured; may lie in a database of its own.
    Series,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// A table, or those of its columns that an archive has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) part: Part,
    pub(super) columns: Vec<Column>,
    /// How many of the columns, the first ones, make the primary key.
    pub(super) keys: usize,
    /// The first [`PAGE`] rows in the order of the key.
    pub(super) first_page: &'static str,
    /// The [`PAGE`] rows after a key.
    pub(super) next_page: &'static str,
    pub(super) insert_row: &'static str,
    pub(super) insert_page: &'static str,
    pub(super) count: &'static str,
    /// 1 if there is a row, else 0.
    pub(super) any: &'static str,
}

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Text,
    }
}

const fn integer(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Integer,
    }
}

/// All tables, parents first.
pub(super) static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    use Part::{Main, Series};
    vec![
        Table::new(
            "users",
            Main,
            1,
            vec![
                text("id"),
                text("email"),
                text("password_hash"),
                text("role"),
                integer("created_at"),
                integer("list_version"),
            ],
        ),
        Table::new(
            "invites",
            Main,
            1,
            vec![
                text("id"),
                text("code_hash"),
                text("created_by"),
                integer("created_at"),
                integer("expires_at"),
                text("used_by"),
                integer("used_at"),
            ],
        ),
        Table::new(
            "sessions",
            Main,
            1,
            vec![
                text("id"),
                text("user_id"),
                integer("created_at"),
                integer("revoked_at"),
            ],
        ),
        Table::new(
            "refresh_tokens",
            Main,
            1,
            vec![
                text("token_hash"),
                text("session_id"),
                integer("created_at"),
                integer("expires_at"),
                integer("used_at"),
            ],
        ),
        Table::new(
            "conversations",
            Main,
            1,
            vec![
                text("id"),
                text("user_id"),
                text("title"),
                text("model"),
                text("head_message_id"),
                integer("created_at"),
                integer("updated_at"),
            ],
        ),
        Table::new(
            "messages",
            Main,
            1,
            vec![
                text("id"),
                text("conversation_id"),
                text("parent_id"),
                text("role"),
                text("content"),
                integer("created_at"),
            ],
        ),
        Table::new(
            "generations",
            Main,
            1,
            vec![
                text("id"),
                text("conversation_id"),
                text("message_id"),
                text("user_id"),
                text("model"),
                text("status"),
                integer("epoch"),
                integer("attempts"),
                text("usage"),
                text("error"),
                integer("created_at"),
                integer("finished_at"),
                text("owner"),
                integer("checkpoint"),
                text("bases"),
                text("path"),
                integer("tokens"),
                integer("stop_at"),
            ],
        ),
        Table::new(
            "idempotency_keys",
            Main,
            2,
            vec![
                text("user_id"),
                text("key"),
                text("request"),
                text("generation_id"),
                integer("created_at"),
            ],
        ),
        Table::new(
            "series_answers",
            Series,
            2,
            vec![
                integer("at"),
                text("generation_id"),
                text("user_id"),
                text("model"),
                text("node"),
                text("status"),
                integer("prompt_tokens"),
                integer("completion_tokens"),
                integer("total_time"),
                integer("first_token_time"),
            ],
        ),
        Table::new(
            "series_nodes",
            Series,
            3,
            vec![
                integer("at"),
                text("node"),
                text("observer"),
                integer("up"),
                integer("active"),
                integer("waiting"),
                integer("response_time"),
                integer("error_share"),
                integer("health"),
            ],
        ),
    ]
});

/// The table of this name.
pub(super) fn table(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// The tables of `part`, or all.
pub(super) fn of(part: Option<Part>) -> impl Iterator<Item = &'static Table> {
    TABLES
        .iter()
        .filter(move |table| part.is_none_or(|part| table.part == part))
}

/// How the mark of an unfinished move spells `part`, or all.
pub(super) fn spelling(part: Option<Part>) -> &'static str {
    match part {
        None => "all",
        Some(Part::Main) => "main",
        Some(Part::Series) => "series",
    }
}

impl Table {
    /// The statements are made once for each table and stay for the life of the process.
    fn new(name: &'static str, part: Part, keys: usize, columns: Vec<Column>) -> Self {
        let names: Vec<_> = columns.iter().map(|column| column.name).collect();
        let (all, key) = (names.join(", "), names[..keys].join(", "));
        let insert = format!("INSERT INTO {name} ({all}) VALUES ");
        let after = numbered(1, keys);
        Self {
            first_page: format!("SELECT {all} FROM {name} ORDER BY {key} LIMIT {PAGE}").leak(),
            next_page: format!(
                "SELECT {all} FROM {name} WHERE ({key}) > {after} ORDER BY {key} LIMIT {PAGE}"
            )
            .leak(),
            insert_row: format!("{insert}{}", numbered(1, names.len())).leak(),
            insert_page: format!("{insert}{}", page_of(names.len())).leak(),
            count: format!("SELECT COUNT(*) FROM {name}").leak(),
            any: format!("SELECT COUNT(*) FROM (SELECT 1 FROM {name} LIMIT 1) AS found").leak(),
            name,
            part,
            columns,
            keys,
        }
    }

    /// This table with only the columns that `names` names; `None` if one is unknown, there twice, or a key is missing.
    pub(super) fn narrowed(&'static self, names: &[String]) -> Option<Self> {
        let known = |name: &String| self.columns.iter().find(|column| column.name == name);
        let columns: Vec<_> = names.iter().map_while(known).copied().collect();
        let ordered = columns.iter().enumerate().all(|(at, column)| {
            let of_key = self.columns[..self.keys].get(at);
            of_key.is_none_or(|key| key == column) && !columns[..at].contains(column)
        });
        (columns.len() == names.len() && columns.len() >= self.keys && ordered)
            .then(|| Self::new(self.name, self.part, self.keys, columns))
    }
}

/// `($3, $4)` for two from the third on.
fn numbered(from: usize, count: usize) -> String {
    let mut text = String::from("(");
    for number in from..from + count {
        let comma = if number == from { "" } else { ", " };
        let _ = write!(text, "{comma}${number}");
    }
    text + ")"
}

fn page_of(columns: usize) -> String {
    let rows = (0..PAGE).map(|row| numbered(1 + row * columns, columns));
    rows.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Db, DbOptions, Host, Location, PostgresOptions,
        sql::{Text, args},
    };
    use jarvis_testkit::services::Postgres;
    use std::collections::BTreeMap;

    /// Tables that hold nothing to keep: the schema's own, and what is true of running processes only.
    const NOT_KEPT: [&str; 4] = ["_sqlx_migrations", "instances", "moves", "schema_floor"];

    /// Every column of every table, with its type in capitals.
    const COLUMNS: Text = Text {
        sqlite: "SELECT t.name AS table_name, c.name AS column_name, UPPER(c.type) AS kind, c.pk AS key_place
            FROM sqlite_master t JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
        postgres: "SELECT c.table_name::TEXT, c.column_name::TEXT, UPPER(c.data_type)::TEXT AS kind, COALESCE(k.ordinal_position::BIGINT, 0) AS key_place
            FROM information_schema.columns c
            JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE'
            LEFT JOIN information_schema.key_column_usage k ON k.table_schema = c.table_schema AND k.table_name = c.table_name
                AND k.column_name = c.column_name AND k.constraint_name = c.table_name || '_pkey'
            WHERE c.table_schema = 'public'",
    };

    /// What a schema says of a table: each column with its type, and the columns of the key.
    type Described = (BTreeMap<String, String>, BTreeMap<i64, String>);

    async fn described(options: &DbOptions) -> BTreeMap<String, Described> {
        let db = Db::open(options).await.unwrap();
        let mut conn = db.reader().await.unwrap();
        let rows = conn.fetch_all("test", COLUMNS, args![]).await.unwrap();
        let mut tables = BTreeMap::<_, Described>::new();
        for row in rows {
            let table = row.text("table_name").unwrap();
            if NOT_KEPT.contains(&&*table) {
                continue;
            }
            let (columns, key) = tables.entry(table).or_default();
            let column = row.text("column_name").unwrap();
            let place = row.integer("key_place").unwrap();
            if place > 0 {
                key.insert(place, column.clone());
            }
            columns.insert(column, row.text("kind").unwrap());
        }
        drop(conn);
        db.close().await;
        tables
    }

    fn listed() -> BTreeMap<String, Described> {
        let name = |column: &Column| column.name.to_owned();
        let of = |table: &Table| {
            let kind = |column: &Column| match column.kind {
                Kind::Text => "TEXT",
                Kind::Integer => "BIGINT",
            };
            let columns = table
                .columns
                .iter()
                .map(|column| (name(column), kind(column).to_owned()));
            let key = (1..).zip(table.columns[..table.keys].iter().map(name));
            (table.name.to_owned(), (columns.collect(), key.collect()))
        };
        TABLES.iter().map(of).collect()
    }

    #[tokio::test]
    async fn every_table_and_column_of_sqlite_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let options = DbOptions::file(directory.path().join("jarvis.db"));
        assert_eq!(described(&options).await, listed());
    }

    #[tokio::test]
    async fn every_table_and_column_of_postgres_is_kept() {
        let server = Postgres::start();
        let options = DbOptions::new(Location::Postgres(PostgresOptions {
            hosts: vec![Host {
                name: "127.0.0.1".into(),
                port: server.port(),
            }],
            user: Postgres::USER.into(),
            password: Some(Postgres::PASSWORD.into()),
            database: server.create_database(),
            connections: 2,
        }));
        assert_eq!(described(&options).await, listed());
    }

    #[test]
    fn a_table_can_be_narrowed_to_columns_that_it_has() {
        let users = table("users").unwrap();
        let narrowed = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            users.narrowed(&names)
        };
        let fewer = narrowed(&["id", "role", "email"]).unwrap();
        assert_eq!(
            fewer.insert_row,
            "INSERT INTO users (id, role, email) VALUES ($1, $2, $3)"
        );
        for wrong in [
            &["email"] as &[_],
            &["email", "id"],
            &["id", "email", "email"],
            &["id", "id"],
            &["id", "shoe_size"],
            &["id", "email; DROP TABLE users"],
            &[],
        ] {
            assert_eq!(narrowed(wrong), None, "{wrong:?}");
        }
    }
}
