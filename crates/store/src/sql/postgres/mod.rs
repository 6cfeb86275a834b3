//! PostgreSQL: the servers of one database, of which one is the primary.

mod connect;
mod hosts;
mod pool;

pub(crate) use connect::Role;
pub use hosts::HostState;
pub(crate) use pool::{Lease, Pool};

use crate::{DbOptions, Host, PostgresOptions, StoreError};
use hosts::{Hosts, Topology};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The servers, and which of them writes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// One for each server, in the order of the list.
    pools: Arc<[Arc<Pool>]>,
    hosts: Arc<Hosts>,
    turn: Arc<AtomicUsize>,
    deadline: Duration,
}

impl Cluster {
    /// Looks for a server that can be used, in the order of the list, and begins to watch them all.
    pub(crate) async fn open(
        options: &PostgresOptions,
        limits: &DbOptions,
    ) -> Result<Self, StoreError> {
        let pools: Arc<[_]> = options
            .hosts
            .iter()
            .map(|host| Pool::new(host, options, limits))
            .collect();
        find_writer(&pools).await?;
        Ok(Self {
            pools,
            hosts: Arc::new(Hosts::watch(options)),
            turn: Arc::default(),
            deadline: limits.statement_deadline(),
        })
    }

    /// The connections to every server, in the order of the list.
    pub(crate) fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// The servers as they were when last asked.
    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.hosts.now()
    }

    /// Every server and what is known of it, in the order of the list.
    pub(crate) fn servers(&self) -> Vec<(Host, HostState)> {
        let names = self.pools().iter().map(|pool| pool.host().clone());
        names.zip(self.hosts.now().hosts.iter().cloned()).collect()
    }

    /// A standby to read from, each in its turn.
    pub(crate) fn standby(&self) -> Option<Arc<Pool>> {
        let topology = self.hosts.now();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(topology.replicas.len())?;
        self.pools.get(topology.replicas.get(index)?.host).cloned()
    }

    /// A connection to the primary, waited for within the deadline.
    pub(crate) async fn writer(&self) -> Result<Lease, StoreError> {
        let host = self.hosts.writer(self.deadline).await;
        let pool = host.and_then(|host| self.pools.get(host));
        let pool = pool.ok_or(StoreError::NoPrimary)?;
        pool.acquire(Role::Writer).await
    }

    /// The same, with a transaction begun on it.
    pub(crate) async fn begin(&self) -> Result<Lease, StoreError> {
        let mut lease = self.writer().await?;
        lease.begin().await?;
        Ok(lease)
    }

    /// Closes every connection that is not lent out.
    pub(crate) async fn close(&self) {
        self.hosts.stop();
        for pool in &*self.pools {
            pool.close().await;
        }
    }
}

/// Passes if a server writes; if there is none, what the first one that refused us said, else the first one that could not be
/// reached, else that all are standbys.
async fn find_writer(pools: &[Arc<Pool>]) -> Result<(), StoreError> {
    let mut complaint: Option<StoreError> = None;
    for pool in pools {
        match pool.acquire(Role::Writer).await {
            Ok(_) => return Ok(()),
            Err(StoreError::NotPrimary { .. }) => {}
            Err(error) => {
                let graver = |known: &StoreError| known.is_outage() && !error.is_outage();
                if complaint.as_ref().is_none_or(graver) {
                    complaint = Some(error);
                }
            }
        }
    }
    Err(complaint.unwrap_or(StoreError::NoPrimary))
}
