//! The cluster's intent as this node last heard it: networks, services, and which node has which addresses.
//!
//! Pure. What the leader sends is laid over what is known; it is kept on disk with the numbers that this node gives its
//! peers, so that packets flow on through a restart while nobody leads.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::network::Subnet;
use crate::model::plane::{Block, PlaneNetwork, PlaneService, PlaneUpdate};
use crate::model::{NetworkId, NodeId, ServiceId};

/// Peers that can be told apart by the marks of their connections.
pub(super) const MOST_PEERS: u16 = 32_767;

/// What the leader wants of packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Intent {
    /// Networks.
    pub(super) networks: BTreeMap<NetworkId, PlaneNetwork>,
    /// Services that have an address, or publish ports.
    pub(super) services: BTreeMap<ServiceId, PlaneService>,
    /// Who has which addresses of a network.
    pub(super) blocks: BTreeMap<NetworkId, Vec<Block>>,
    /// This node's own numbers for other nodes. Connections carry them, so they stay.
    pub(super) numbers: BTreeMap<NodeId, u16>,
}

impl Intent {
    /// Takes what the leader says.
    pub(super) fn take(&mut self, update: PlaneUpdate) {
        if update.complete {
            self.networks.clear();
            self.services.clear();
            self.blocks.clear();
        }
        for network in update.networks {
            self.networks.insert(network.id, network);
        }
        for service in update.services {
            self.services.insert(service.id, service);
        }
        self.blocks.extend(update.blocks);
        for id in update.gone_networks {
            self.networks.remove(&id);
            self.blocks.remove(&id);
        }
        for id in update.gone_services {
            self.services.remove(&id);
        }
    }

    /// Gives each of these nodes a number, and takes back those of others. True when something has changed.
    pub(super) fn number(&mut self, nodes: &BTreeSet<NodeId>) -> bool {
        let before = self.numbers.len();
        self.numbers.retain(|node, _| nodes.contains(node));
        let mut changed = self.numbers.len() != before;
        let mut taken: BTreeSet<u16> = self.numbers.values().copied().collect();
        let mut free = 1..=MOST_PEERS;
        for node in nodes {
            if self.numbers.contains_key(node) {
                continue;
            }
            if let Some(number) = free.find(|number| taken.insert(*number)) {
                self.numbers.insert(*node, number);
                changed = true;
            }
        }
        changed
    }

    /// The network that carries published ports.
    pub(super) fn ingress(&self) -> Option<NetworkId> {
        let mut networks = self.networks.values();
        networks.find(|it| it.ingress).map(|it| it.id)
    }

    /// Whether a network's address belongs to a node.
    pub(super) fn is_of(&self, network: NetworkId, addr: std::net::IpAddr, node: NodeId) -> bool {
        let blocks = self.blocks.get(&network).into_iter().flatten();
        let around = blocks.filter(|block| block.prefix.has(addr));
        // A single address of another node lies inside of a block.
        let closest = around.max_by_key(|block| block.prefix.bits());
        closest.is_some_and(|block| block.node == node)
    }

    /// Every range of every network.
    pub(super) fn subnets(&self) -> impl Iterator<Item = Subnet> + '_ {
        let networks = self.networks.values();
        networks.flat_map(|network| network.subnets.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn block(prefix: &str, node: u128) -> Block {
        Block {
            network: NetworkId::from_bits(1),
            prefix: subnet(prefix),
            node: NodeId::from_bits(node),
        }
    }

    #[test]
    fn updates_add_up_and_a_complete_one_begins_anew() {
        let network = |number| PlaneNetwork {
            id: NetworkId::from_bits(number),
            subnets: vec![subnet("10.0.1.0/24")],
            ..PlaneNetwork::default()
        };
        let mut intent = Intent::default();
        let first = NetworkId::from_bits(1);
        intent.take(PlaneUpdate {
            complete: true,
            networks: vec![network(1), network(2)],
            blocks: vec![(first, vec![block("10.0.1.16/28", 5)])],
            ..PlaneUpdate::default()
        });
        intent.take(PlaneUpdate {
            gone_networks: vec![first],
            networks: vec![network(3)],
            ..PlaneUpdate::default()
        });
        let known: Vec<u128> = intent.networks.keys().map(|id| id.bits()).collect();
        assert_eq!(known, [2, 3]);
        assert!(intent.blocks.is_empty());
        intent.take(PlaneUpdate {
            complete: true,
            ..PlaneUpdate::default()
        });
        assert_eq!(intent, Intent::default());
    }

    #[test]
    fn numbers_stay_while_others_come_and_go() {
        let nodes = |all: &[u128]| all.iter().map(|n| NodeId::from_bits(*n)).collect();
        let mut intent = Intent::default();
        assert!(intent.number(&nodes(&[7, 8, 9])));
        assert!(!intent.number(&nodes(&[7, 8, 9])));
        let of_nine = intent.numbers[&NodeId::from_bits(9)];
        assert!(intent.number(&nodes(&[4, 8, 9])));
        assert_eq!(intent.numbers[&NodeId::from_bits(9)], of_nine);
        assert_eq!(intent.numbers[&NodeId::from_bits(4)], 1);
    }

    #[test]
    fn the_closest_block_says_whose_an_address_is() {
        let mut intent = Intent::default();
        let network = NetworkId::from_bits(1);
        let blocks = vec![block("10.0.1.16/28", 5), block("10.0.1.19/32", 6)];
        intent.blocks.insert(network, blocks);
        let is_of = |addr: &str, node| {
            intent.is_of(network, addr.parse().unwrap(), NodeId::from_bits(node))
        };
        assert!(is_of("10.0.1.18", 5) && !is_of("10.0.1.18", 6));
        assert!(is_of("10.0.1.19", 6) && !is_of("10.0.1.19", 5));
        assert!(!is_of("10.0.1.40", 5));
    }
}
