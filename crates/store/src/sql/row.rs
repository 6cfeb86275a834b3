//! Reading columns into domain types.

use crate::StoreError;
use jarvis_domain::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::{Row as _, sqlite::SqliteRow};
use std::{fmt::Display, str::FromStr};

/// A row whose columns are read by name into domain types.
pub(super) trait Columns {
    fn text(&self, column: &'static str) -> Result<String, StoreError>;
    fn parsed<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T, StoreError>;
    fn parsed_or_null<T: FromStr<Err: Display>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError>;
    fn text_or_null(&self, column: &'static str) -> Result<Option<String>, StoreError>;
    fn moment(&self, column: &'static str) -> Result<Timestamp, StoreError>;
    fn moment_or_null(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError>;
    fn count(&self, column: &'static str) -> Result<u32, StoreError>;
    fn json_or_null<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError>;
}

impl Columns for SqliteRow {
    fn text(&self, column: &'static str) -> Result<String, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn parsed<T: FromStr<Err: Display>>(&self, column: &'static str) -> Result<T, StoreError> {
        parse(column, self.try_get(column)?)
    }

    fn parsed_or_null<T: FromStr<Err: Display>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        self.try_get::<Option<&str>, _>(column)?
            .map(|text| parse(column, text))
            .transpose()
    }

    fn text_or_null(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.try_get(column)?)
    }

    fn moment(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_micros(self.try_get(column)?))
    }

    fn moment_or_null(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self
            .try_get::<Option<i64>, _>(column)?
            .map(Timestamp::from_micros))
    }

    fn count(&self, column: &'static str) -> Result<u32, StoreError> {
        let value: i64 = self.try_get(column)?;
        u32::try_from(value).map_err(|error| StoreError::Unreadable {
            column,
            reason: error.to_string(),
        })
    }

    fn json_or_null<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let text: Option<&str> = self.try_get(column)?;
        text.map(serde_json::from_str)
            .transpose()
            .map_err(|error| StoreError::Unreadable {
                column,
                reason: error.to_string(),
            })
    }
}

fn parse<T: FromStr<Err: Display>>(column: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse()
        .map_err(|error: T::Err| StoreError::Unreadable {
            column,
            reason: error.to_string(),
        })
}
