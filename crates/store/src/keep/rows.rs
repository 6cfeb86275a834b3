//! Rows as both engines and the archive know them.

use super::{
    tables::{Column, Kind, PAGE, Table},
    tally::Tally,
};
use crate::{
    StoreError,
    sql::{Conn, Row, Value},
};
use serde::{Deserialize, Serialize};

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
}

/// The values of one row, in the order of the table's columns. Its one spelling, which checksums are made of, is a JSON array.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Cells(pub(super) Vec<Cell>);

impl Cells {
    fn read(row: &Row, columns: &[Column]) -> Result<Self, StoreError> {
        let cell = |column: &Column| {
            Ok(match column.kind {
                Kind::Text => row
                    .text_or_null(column.name)?
                    .map_or(Cell::Null, Cell::Text),
                Kind::Integer => row
                    .integer_or_null(column.name)?
                    .map_or(Cell::Null, Cell::Integer),
            })
        };
        columns.iter().map(cell).collect::<Result<_, _>>().map(Self)
    }

    /// The row in its one spelling, without a line break.
    pub(super) fn spelling(&self) -> Vec<u8> {
        // Strings and numbers cannot fail; an empty spelling would show in every checksum.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether these can be the values of `columns`, as far as their kinds tell.
    pub(super) fn fit(&self, columns: &[Column]) -> bool {
        let fits = |(cell, column): (&Cell, &Column)| match cell {
            Cell::Null => true,
            Cell::Integer(_) => column.kind == Kind::Integer,
            Cell::Text(_) => column.kind == Kind::Text,
        };
        self.0.len() == columns.len() && self.0.iter().zip(columns).all(fits)
    }

    /// Puts a value into a column, if the row has it.
    pub(super) fn set(&mut self, table: &Table, column: &str, value: Cell) {
        let place = table.columns.iter().position(|known| known.name == column);
        if let Some(cell) = place.and_then(|place| self.0.get_mut(place)) {
            *cell = value;
        }
    }

    /// The values of the key.
    pub(super) fn key(&self, table: &Table) -> &[Cell] {
        &self.0[..table.keys.min(self.0.len())]
    }

    fn values<'a>(&'a self, columns: &'a [Column]) -> impl Iterator<Item = Value<'a>> {
        let typed = |(cell, column): (&'a Cell, &Column)| match (cell, column.kind) {
            (Cell::Text(text), _) => Value::from(text),
            (Cell::Integer(integer), _) => Value::from(*integer),
            // Also what is not there has a type.
            (Cell::Null, Kind::Text) => Value::Text(None),
            (Cell::Null, Kind::Integer) => Value::Integer(None),
        };
        self.0.iter().zip(columns).map(typed)
    }
}

/// The rows of a table, page by page in the order of its key.
pub(super) struct Pages<'a> {
    table: &'a Table,
    after: Option<Vec<Cell>>,
    last: bool,
}

impl<'a> Pages<'a> {
    /// From the first row, or from the one after a key on.
    pub(super) fn new(table: &'a Table, after: Option<Vec<Cell>>) -> Self {
        Self {
            table,
            after,
            last: false,
        }
    }

    /// The next rows; none after the last.
    pub(super) async fn next(&mut self, conn: &mut Conn) -> Result<Vec<Cells>, StoreError> {
        if self.last {
            return Ok(Vec::new());
        }
        let rows = match &self.after {
            None => conn.fetch_all("keep", self.table.first_page, &[]).await?,
            Some(key) => {
                let values: Vec<_> = key
                    .iter()
                    .map(|cell| match cell {
                        Cell::Text(text) => Value::from(text),
                        Cell::Integer(integer) => Value::from(*integer),
                        Cell::Null => Value::Text(None),
                    })
                    .collect();
                conn.fetch_all("keep", self.table.next_page, &values)
                    .await?
            }
        };
        let page = rows.iter().map(|row| Cells::read(row, &self.table.columns));
        let page: Vec<_> = page.collect::<Result<_, _>>()?;
        self.last = page.len() < PAGE;
        if let Some(row) = page.last() {
            self.after = Some(row.key(self.table).to_vec());
        }
        Ok(page)
    }
}

/// Writes rows that are not there yet.
pub(super) async fn insert(
    conn: &mut Conn,
    table: &Table,
    rows: &[Cells],
) -> Result<(), StoreError> {
    let (pages, rest) = rows.as_chunks::<PAGE>();
    for page in pages {
        insert_with(conn, table, table.insert_page, page).await?;
    }
    for row in rest {
        insert_with(conn, table, table.insert_row, std::slice::from_ref(row)).await?;
    }
    Ok(())
}

async fn insert_with(
    conn: &mut Conn,
    table: &Table,
    statement: &'static str,
    rows: &[Cells],
) -> Result<(), StoreError> {
    let values: Vec<_> = rows
        .iter()
        .flat_map(|row| row.values(&table.columns))
        .collect();
    conn.execute("keep", statement, &values).await.map(drop)
}

/// Counts and sums up all rows of a table, each as `complete` leaves it, telling `seen` how many there were so far.
pub(super) async fn tally(
    conn: &mut Conn,
    table: &Table,
    complete: impl Fn(&mut Cells),
    mut seen: impl FnMut(u64),
) -> Result<Tally, StoreError> {
    let mut tally = Tally::default();
    let mut pages = Pages::new(table, None);
    loop {
        let mut page = pages.next(conn).await?;
        if page.is_empty() {
            return Ok(tally);
        }
        for row in &mut page {
            complete(row);
            tally.add(&row.spelling());
        }
        seen(tally.rows());
    }
}
