//! What this node believes of every member: the value that the other rooms watch.
//!
//! Made by the gossip loop, read by whoever routes or decides. It informs and never authorises: any
//! member can write anything into gossip. A node that is absent has not been heard of enough to be judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::model::facts::LeaderHint;
use crate::model::{NodeFacts, NodeId};

/// Whether a member answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It gossips, or answered a probe.
    Alive,
    /// Gossip has heard nothing of it for long, and it does not answer a probe either.
    Dead,
}

/// One member as seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// What it last said of itself. Of a dead node, its last words. Shared, since a new view of all members is made
    /// whenever one of them changes.
    pub facts: Arc<NodeFacts>,
    /// Rises with each start of the node's process.
    pub generation: u64,
    /// Whether it answers.
    pub liveness: Liveness,
    /// Since when it is so, in this generation.
    pub since: Instant,
}

/// All members that were heard of, this node included, which is always alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Each member under its identity.
    pub nodes: BTreeMap<NodeId, PeerView>,
}

impl Peers {
    /// Who leads, by the hint of the highest term that any member gives.
    ///
    /// A dead member's hint counts too: terms only rise, so the highest is the newest, and whether the
    /// node that it names is alive is another question.
    pub fn leader(&self) -> Option<LeaderHint> {
        self.nodes
            .values()
            .filter_map(|peer| peer.facts.leader)
            .max()
    }

    /// Whether this member answers. A node never heard of does not.
    pub fn is_alive(&self, node: NodeId) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|peer| peer.liveness == Liveness::Alive)
    }

    /// The members that answer, this node included, in order of their identity.
    pub fn alive(&self) -> impl Iterator<Item = (NodeId, &PeerView)> {
        self.nodes
            .iter()
            .filter(|(_, peer)| peer.liveness == Liveness::Alive)
            .map(|(node, peer)| (*node, peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(liveness: Liveness, leader: Option<(u64, u128)>) -> PeerView {
        PeerView {
            facts: Arc::new(NodeFacts {
                leader: leader.map(|(term, bits)| LeaderHint {
                    term,
                    leader: NodeId::from_bits(bits),
                }),
                ..NodeFacts::default()
            }),
            generation: 1,
            liveness,
            since: Instant::now(),
        }
    }

    #[test]
    fn the_highest_term_names_the_leader() {
        let id = NodeId::from_bits;
        let mut peers = Peers::default();
        assert_eq!(peers.leader(), None);
        peers
            .nodes
            .insert(id(1), peer(Liveness::Alive, Some((4, 1))));
        peers
            .nodes
            .insert(id(2), peer(Liveness::Dead, Some((5, 2))));
        peers.nodes.insert(id(3), peer(Liveness::Alive, None));
        let hint = peers.leader().unwrap();
        assert_eq!((hint.term, hint.leader), (5, id(2)));
        assert!(!peers.is_alive(hint.leader));
        assert!(peers.is_alive(id(3)));
        assert!(!peers.is_alive(id(9)), "never heard of");
        assert_eq!(
            peers.alive().map(|(node, _)| node).collect::<Vec<_>>(),
            [id(1), id(3)]
        );
    }
}
