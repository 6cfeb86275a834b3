//! Values on their way into a statement.

use crate::StoreError;
use jarvis_domain::{
    ConversationId, GenerationId, InstanceId, InviteId, MessageId, SessionId, Timestamp, UserId,
};
use sqlx::{Arguments, Database, Encode, Type};
use std::borrow::Cow;

/// One value, of one of the types that both engines share; also its absence has a type.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Text(Option<Cow<'a, str>>),
    Integer(Option<i64>),
    Bytes(Option<Cow<'a, [u8]>>),
}

/// The values of a statement, in the order of `$1`, `$2`, …
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        &[$($crate::sql::value::Value::from($value)),*] as &[$crate::sql::value::Value<'_>]
    };
}
pub(crate) use args;

/// An engine's own form of `values`.
///
/// # Errors
/// [`StoreError::Nul`] for a text with a NUL character. PostgreSQL cannot keep one, and what one engine refuses the other must not
/// take: rows move between them.
pub(super) fn arguments<'a, DB>(values: &'a [Value<'_>]) -> Result<DB::Arguments, StoreError>
where
    DB: Database,
    Option<&'a str>: Encode<'a, DB> + Type<DB>,
    Option<&'a [u8]>: Encode<'a, DB> + Type<DB>,
    Option<i64>: Encode<'a, DB> + Type<DB>,
{
    let mut arguments = DB::Arguments::default();
    for value in values {
        match value {
            Value::Text(Some(text)) if text.contains('\0') => return Err(StoreError::Nul),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Integer(integer) => arguments.add(*integer),
            Value::Bytes(bytes) => arguments.add(bytes.as_deref()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Some(text.as_str().into()))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<Option<String>> for Value<'_> {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Some(bytes.into()))
    }
}

impl From<i64> for Value<'_> {
    fn from(integer: i64) -> Self {
        Self::Integer(Some(integer))
    }
}

impl From<u32> for Value<'_> {
    fn from(integer: u32) -> Self {
        Self::Integer(Some(integer.into()))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(integer: Option<i64>) -> Self {
        Self::Integer(integer)
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(moment: Timestamp) -> Self {
        Self::Integer(Some(moment.micros()))
    }
}

impl From<Option<Timestamp>> for Value<'_> {
    fn from(moment: Option<Timestamp>) -> Self {
        Self::Integer(moment.map(Timestamp::micros))
    }
}

macro_rules! ids {
    ($($id:ty),+ $(,)?) => {$(
        impl From<$id> for Value<'_> {
            fn from(id: $id) -> Self {
                Self::Text(Some(id.to_string().into()))
            }
        }

        impl From<Option<$id>> for Value<'_> {
            fn from(id: Option<$id>) -> Self {
                Self::Text(id.map(|id| id.to_string().into()))
            }
        }
    )+};
}

ids![
    ConversationId,
    GenerationId,
    InstanceId,
    InviteId,
    MessageId,
    SessionId,
    UserId,
];
