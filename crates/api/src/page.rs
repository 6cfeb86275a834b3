//! Pages of a list: `limit` and an opaque `cursor`.

use crate::problem::Problem;
use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use jarvis_domain::{ConversationId, MessageId, Timestamp};

/// How many items a page has unless asked otherwise, and at most.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageQuery {
    /// Items on it, 1 to 200.
    pub(crate) limit: u32,
    /// Where it begins; the text of an earlier page's `next_cursor`.
    pub(crate) cursor: Option<String>,
}

impl PageQuery {
    fn parse(query: &str) -> Result<Self, Problem> {
        let (mut limit, mut cursor) = (None, None);
        for pair in query.split('&') {
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let before = match name {
                "limit" => limit.replace(value),
                "cursor" => cursor.replace(value),
                _ => None,
            };
            if before.is_some() {
                return Err(bad(format!("`{name}` is given twice")));
            }
        }
        Ok(Self {
            limit: limit.map_or(Ok(DEFAULT_LIMIT), read_limit)?,
            cursor: cursor.filter(|text| !text.is_empty()).map(str::to_owned),
        })
    }

    /// The cursor's meaning, if there is a cursor.
    pub(crate) fn after<C: Cursor>(&self) -> Result<Option<C>, Problem> {
        self.cursor
            .as_deref()
            .map(|text| C::read(text).ok_or_else(|| bad("the cursor is not one of this list's")))
            .transpose()
    }
}

fn read_limit(value: &str) -> Result<u32, Problem> {
    match value.parse() {
        Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
        _ => Err(bad(format!(
            "`limit` must be a number from 1 to {MAX_LIMIT}"
        ))),
    }
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// A place between two items of a list.
pub(crate) trait Cursor: Sized {
    fn read(text: &str) -> Option<Self>;
    fn write(&self) -> String;
}

impl Cursor for (Timestamp, ConversationId) {
    fn read(text: &str) -> Option<Self> {
        let (moment, id) = text.split_once('.')?;
        Some((
            Timestamp::from_micros(moment.parse().ok()?),
            id.parse().ok()?,
        ))
    }

    fn write(&self) -> String {
        format!("{}.{}", self.0.micros(), self.1)
    }
}

impl Cursor for MessageId {
    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// Cuts `items`, read one beyond the limit, to a page: the items, and the cursor of the next page if there is one.
pub(crate) fn cut<T, C: Cursor>(
    mut items: Vec<T>,
    limit: u32,
    place: impl Fn(&T) -> C,
) -> (Vec<T>, Option<String>) {
    let limit = limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items
        .last()
        .filter(|_| more)
        .map(|last| place(last).write());
    (items, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded_and_cursors_survive() {
        assert_eq!(PageQuery::parse("").unwrap().limit, 50);
        assert_eq!(PageQuery::parse("x=1&limit=7").unwrap().limit, 7);
        for bad in ["limit=0", "limit=201", "limit=-1", "limit=", "limit=1e3"] {
            assert_eq!(PageQuery::parse(bad).unwrap_err().status(), 400, "{bad}");
        }
        for (twice, name) in [
            ("limit=1&limit=1", "limit"),
            ("cursor=&x=&cursor=a", "cursor"),
        ] {
            let problem = PageQuery::parse(twice).unwrap_err();
            assert_eq!(problem.status(), 400, "{twice}");
            assert!(problem.detail().contains(name), "{}", problem.detail());
        }
        assert_eq!(PageQuery::parse("x=1&x=2&cursor=").unwrap().cursor, None);
        let place = (Timestamp::from_micros(-5), ConversationId::new());
        assert_eq!(Cursor::read(&place.write()), Some(place));
        assert_eq!(<(Timestamp, ConversationId)>::read("5.x"), None);
    }

    #[test]
    fn a_page_has_a_next_one_only_if_something_follows() {
        let ids: Vec<_> = (0..3).map(|_| MessageId::new()).collect();
        assert_eq!(cut(ids.clone(), 3, |id| *id), (ids.clone(), None));
        let (items, next) = cut(ids.clone(), 2, |id| *id);
        assert_eq!((items.len(), next), (2, Some(ids[1].to_string())));
    }
}
