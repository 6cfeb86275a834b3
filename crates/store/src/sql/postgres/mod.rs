//! PostgreSQL: the servers of one database, of which one is the primary.

mod connect;
mod pool;

pub(crate) use connect::Role;
pub(crate) use pool::{Lease, Pool};

use crate::{DbOptions, PostgresOptions, StoreError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// The servers, and which of them writes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    hosts: Arc<[Arc<Pool>]>,
    /// The pool of the primary, as far as is known. Who probes the servers sets it.
    writer: Arc<watch::Sender<Option<Arc<Pool>>>>,
    /// The pools of the standbys that may be read.
    standbys: Arc<watch::Sender<Vec<Arc<Pool>>>>,
    turn: Arc<AtomicUsize>,
    deadline: Duration,
}

impl Cluster {
    /// Looks for the primary, in the order of the list.
    pub(crate) async fn open(
        options: &PostgresOptions,
        limits: &DbOptions,
    ) -> Result<Self, StoreError> {
        let hosts: Arc<[_]> = options
            .hosts
            .iter()
            .map(|host| Pool::new(host, options, limits))
            .collect();
        let writer = find_writer(&hosts).await?;
        Ok(Self {
            hosts,
            writer: Arc::new(watch::Sender::new(Some(writer))),
            standbys: Arc::default(),
            turn: Arc::default(),
            deadline: limits.deadline,
        })
    }

    /// Every server's pool, in the order of the list.
    #[cfg_attr(not(test), expect(dead_code, reason = "for who probes the servers"))]
    pub(crate) fn hosts(&self) -> &[Arc<Pool>] {
        &self.hosts
    }

    /// Names the pool of the primary; `None` while there is none. Who waits for one is told at once.
    #[cfg_attr(not(test), expect(dead_code, reason = "for who probes the servers"))]
    pub(crate) fn set_writer(&self, writer: Option<Arc<Pool>>) {
        self.writer.send_replace(writer);
    }

    /// Names the pools of the standbys that follow the primary closely enough to be read.
    #[cfg_attr(not(test), expect(dead_code, reason = "for who probes the servers"))]
    pub(crate) fn set_standbys(&self, standbys: Vec<Arc<Pool>>) {
        self.standbys.send_replace(standbys);
    }

    /// A standby to read from, each in its turn.
    pub(crate) fn standby(&self) -> Option<Arc<Pool>> {
        let standbys = self.standbys.borrow();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(standbys.len())?;
        standbys.get(index).cloned()
    }

    /// A connection to the primary, waited for within the deadline.
    pub(crate) async fn writer(&self) -> Result<Lease, StoreError> {
        let now = self.writer.borrow().clone();
        let pool = match now {
            Some(pool) => pool,
            None => self.coming_writer().await.ok_or(StoreError::NoPrimary)?,
        };
        pool.acquire(Role::Writer).await
    }

    async fn coming_writer(&self) -> Option<Arc<Pool>> {
        let mut known = self.writer.subscribe();
        let coming = timeout(self.deadline, known.wait_for(Option::is_some)).await;
        coming.ok()?.ok()?.clone()
    }

    /// Closes every connection that is not lent out.
    pub(crate) async fn close(&self) {
        for pool in &*self.hosts {
            pool.close().await;
        }
    }
}

/// The first server that writes; if there is none, what the first one that could not be used said, or that all are standbys.
async fn find_writer(hosts: &[Arc<Pool>]) -> Result<Arc<Pool>, StoreError> {
    let mut complaint = None;
    for pool in hosts {
        match pool.acquire(Role::Writer).await {
            Ok(_) => return Ok(Arc::clone(pool)),
            Err(StoreError::NotPrimary { .. }) => {}
            Err(error) => {
                complaint.get_or_insert(error);
            }
        }
    }
    Err(complaint.unwrap_or(StoreError::NoPrimary))
}
