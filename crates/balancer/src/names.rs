//! DNS names with several addresses: each address is a node for as long as the name has it.

use crate::{Balancer, NodeSpec, Transport, TransportError};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    num::NonZeroU32,
};
use tokio::{net::lookup_host, time::timeout};

/// A name every address of which is a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    host: String,
    port: u16,
    slots: Option<NonZeroU32>,
    weight: u32,
}

impl NodeName {
    /// How its address begins.
    pub const SCHEME: &str = "dns+";

    /// Of `dns+http://host[:port]`, Ollama's port where none is named; `slots` as in [`NodeSpec`], for each of its nodes.
    ///
    /// # Errors
    /// [`TransportError::Address`].
    pub fn new(address: &str, slots: Option<NonZeroU32>) -> Result<Self, TransportError> {
        let refused = || TransportError::address(address);
        let plain = address.strip_prefix(Self::SCHEME).ok_or_else(refused)?;
        let transport = Transport::http(plain).map_err(|_| refused())?;
        let (host, port) = transport.authority().ok_or_else(refused)?;
        Ok(Self {
            host: host.to_owned(),
            port,
            slots,
            weight: 1,
        })
    }

    /// `weight` as in [`NodeSpec`], for each of its nodes.
    #[must_use]
    pub fn with_weight(self, weight: u32) -> Self {
        Self { weight, ..self }
    }
}

impl Balancer {
    /// Follows a name: looks its addresses up now, and again as often as nodes are looked at. An address that is new becomes a
    /// node called `address:port`, one that is gone is taken out and ends what it has begun. While the name cannot be looked
    /// up, its nodes stay as they are.
    pub async fn follow(&self, name: NodeName) {
        let mut followed = Followed {
            name,
            nodes: BTreeMap::new(),
            lost: false,
        };
        followed.look(self).await;
        let balancer = self.clone();
        self.shared.spawn(async move {
            loop {
                tokio::time::sleep(balancer.shared.options.probe_interval).await;
                followed.look(&balancer).await;
            }
        });
    }
}

/// A name and the nodes that stand for it, by their ids. Others of the same address, added by hand, are not its own.
struct Followed {
    name: NodeName,
    nodes: BTreeMap<SocketAddr, u64>,
    /// The last look found nothing: it is said once.
    lost: bool,
}

impl Followed {
    async fn look(&mut self, balancer: &Balancer) {
        match self.addresses(balancer).await {
            Ok(found) => {
                self.lost = false;
                self.become_those(balancer, &found);
            }
            Err(error) if !self.lost => {
                self.lost = true;
                tracing::warn!(
                    name = self.name.host,
                    "a name of nodes cannot be looked up: {error}"
                );
            }
            Err(_) => {}
        }
    }

    async fn addresses(&self, balancer: &Balancer) -> io::Result<BTreeSet<SocketAddr>> {
        let lookup = lookup_host((self.name.host.as_str(), self.name.port));
        let found = timeout(balancer.shared.options.probe_timeout, lookup).await??;
        Ok(found.collect())
    }

    /// Adds the nodes that are new, takes those out that are gone.
    fn become_those(&mut self, balancer: &Balancer, found: &BTreeSet<SocketAddr>) {
        let host = &self.name.host;
        self.nodes.retain(|address, id| {
            let stays = found.contains(address);
            let name = address.to_string();
            let pool = &balancer.shared.pool;
            // Somebody may have taken it out, and put another in its place.
            if !stays && pool.find(&name).is_some_and(|node| node.id == *id) {
                tracing::info!(name = host, node = name, "an address is gone");
                balancer.remove_node(&name);
            }
            stays
        });
        for new in found {
            if !self.nodes.contains_key(new)
                && let Some(id) = self.add(balancer, *new)
            {
                self.nodes.insert(*new, id);
            }
        }
    }

    /// The new node's id; `None`: there is one of that name.
    fn add(&self, balancer: &Balancer, address: SocketAddr) -> Option<u64> {
        let transport = Transport::http(&format!("http://{address}")).ok()?;
        let spec = NodeSpec {
            slots: self.name.slots,
            weight: self.name.weight,
            ..NodeSpec::new(address.to_string(), transport)
        };
        let added = balancer.watched(spec).ok()?;
        tracing::info!(name = self.name.host, node = %address, "an address is a node");
        Some(added.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    fn balancer(stop: &CancellationToken) -> Balancer {
        Balancer::start(Options::default(), Vec::new(), &TaskTracker::new(), stop).unwrap()
    }

    fn names(balancer: &Balancer) -> Vec<String> {
        let nodes = balancer.shared.pool.nodes();
        nodes.iter().map(|node| node.name.clone()).collect()
    }

    fn addresses(ports: &[u16]) -> BTreeSet<SocketAddr> {
        let local = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
        ports.iter().map(local).collect()
    }

    #[test]
    fn a_name_is_told_from_other_text() {
        let name = NodeName::new("dns+http://models.example", None).unwrap();
        assert_eq!((name.host.as_str(), name.port), ("models.example", 11434));
        for wrong in [
            "http://a:1",
            "dns+a:1",
            "dns+http://",
            "dns+http://a/b",
            "dns+https://a",
        ] {
            let refused = NodeName::new(wrong, None).unwrap_err();
            assert!(refused.to_string().contains(wrong), "{refused}");
        }
    }

    #[tokio::test]
    async fn nodes_come_and_go_with_the_addresses() {
        let stop = CancellationToken::new();
        let _end = stop.clone().drop_guard();
        let balancer = balancer(&stop);
        let by_hand = Transport::http("http://127.0.0.1:2").unwrap();
        balancer
            .add_node(NodeSpec::new("127.0.0.1:2", by_hand))
            .unwrap();
        let mut followed = Followed {
            name: NodeName::new("dns+http://models.example", None).unwrap(),
            nodes: BTreeMap::new(),
            lost: false,
        };
        followed.become_those(&balancer, &addresses(&[1, 2, 3]));
        assert_eq!(
            names(&balancer),
            ["127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:3"]
        );
        followed.become_those(&balancer, &addresses(&[3, 4]));
        assert_eq!(
            names(&balancer),
            ["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"]
        );
        assert!(balancer.remove_node("127.0.0.1:3"));
        let again = Transport::http("http://127.0.0.1:3").unwrap();
        balancer
            .add_node(NodeSpec::new("127.0.0.1:3", again))
            .unwrap();
        followed.become_those(&balancer, &addresses(&[]));
        assert_eq!(
            names(&balancer),
            ["127.0.0.1:2", "127.0.0.1:3"],
            "that is another one now"
        );
    }

    #[tokio::test]
    async fn what_holds_for_a_name_holds_for_its_nodes() {
        let stop = CancellationToken::new();
        let _end = stop.clone().drop_guard();
        let balancer = balancer(&stop);
        let name = NodeName::new("dns+http://models.example", NonZeroU32::new(8)).unwrap();
        let mut followed = Followed {
            name: name.with_weight(3),
            nodes: BTreeMap::new(),
            lost: false,
        };
        followed.become_those(&balancer, &addresses(&[1, 2]));
        for node in balancer.shared.pool.nodes().iter() {
            assert_eq!((node.slots.capacity(), node.weight()), (8, 3));
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_one_that_cannot_be_keeps_its_nodes() {
        let stop = CancellationToken::new();
        let _end = stop.clone().drop_guard();
        let balancer = balancer(&stop);
        balancer
            .follow(NodeName::new("dns+http://localhost:9", None).unwrap())
            .await;
        assert!(
            names(&balancer).contains(&"127.0.0.1:9".to_owned()),
            "{:?}",
            names(&balancer)
        );
        let mut unknown = Followed {
            name: NodeName::new("dns+http://nowhere.invalid", None).unwrap(),
            nodes: addresses(&[7])
                .into_iter()
                .map(|known| (known, 1))
                .collect(),
            lost: false,
        };
        unknown.look(&balancer).await;
        assert!(unknown.lost);
        assert_eq!(unknown.nodes.len(), 1);
    }
}
