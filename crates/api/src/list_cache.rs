//! Pages of conversation lists as the bytes that were sent, each good while [`Db::conversations_version`] stands where it
//! stood before the page was read.
//!
//! [`Db::conversations_version`]: jarvis_store::Db::conversations_version

use crate::page::PageQuery;
use axum::http::HeaderValue;
use bytes::Bytes;
use jarvis_domain::UserId;
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

/// Users remembered at once, and pages of each.
const USERS: usize = 4096;
const PAGES: usize = 4;

/// A page as it goes out.
#[derive(Debug, Clone)]
pub(crate) struct CachedPage {
    pub(crate) body: Bytes,
    pub(crate) etag: HeaderValue,
}

#[derive(Debug)]
struct Entry {
    query: PageQuery,
    version: i64,
    page: CachedPage,
}

/// The pages of many users.
#[derive(Debug, Default)]
pub(crate) struct ListCache(RwLock<HashMap<UserId, Vec<Entry>>>);

impl ListCache {
    /// The page, if it was read while the list stood at `version`.
    pub(crate) fn get(&self, user: UserId, query: &PageQuery, version: i64) -> Option<CachedPage> {
        let pages = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pages
            .get(&user)?
            .iter()
            .find(|entry| entry.version == version && entry.query == *query)
            .map(|entry| entry.page.clone())
    }

    /// Keeps a page that was read after the list stood at `version`.
    pub(crate) fn put(&self, user: UserId, query: PageQuery, version: i64, page: CachedPage) {
        let mut pages = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= USERS && !pages.contains_key(&user) {
            pages.clear();
        }
        let entries = pages.entry(user).or_default();
        entries.retain(|entry| entry.version == version && entry.query != query);
        if entries.len() >= PAGES {
            entries.remove(0);
        }
        entries.push(Entry {
            query,
            version,
            page,
        });
    }
}
