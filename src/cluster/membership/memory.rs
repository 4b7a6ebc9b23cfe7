//! A network in memory that carries gossip: for tests, simulations and measurements.
//!
//! It can lose messages at random, cut pairs of nodes apart and stop nodes, as a real one would. It never delays:
//! what is sent is in the receiver's queue at once, or nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

use super::{GossipLink, Probe};
use crate::model::NodeId;

/// Messages that wait for one node; more are dropped, as a socket would.
const QUEUE: usize = 256;

#[derive(Debug)]
struct State {
    /// More than one of a node whose data directory was copied.
    seats: BTreeMap<NodeId, Vec<mpsc::Sender<(NodeId, Bytes)>>>,
    /// Pairs that cannot hear each other, the smaller first.
    cut: BTreeSet<(NodeId, NodeId)>,
    loss: f64,
    rng: StdRng,
    traffic: Traffic,
}

/// What all nodes together have sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages, lost ones included.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The network; clones are the same one.
#[derive(Clone, Debug)]
pub struct MemoryNetwork(Arc<Mutex<State>>);

/// One node's place in the network: a [`GossipLink`] and a [`Probe`].
#[derive(Clone, Debug)]
pub struct MemoryLink {
    network: MemoryNetwork,
    node: NodeId,
}

impl MemoryNetwork {
    /// An empty network whose losses follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            seats: BTreeMap::new(),
            cut: BTreeSet::new(),
            loss: 0.0,
            rng: StdRng::seed_from_u64(seed),
            traffic: Traffic::default(),
        })))
    }

    /// A place for this node, and what arrives there. A node that joins again leaves its former place.
    pub fn join(&self, node: NodeId) -> (MemoryLink, mpsc::Receiver<(NodeId, Bytes)>) {
        self.state().seats.remove(&node);
        self.join_as_twin(node)
    }

    /// A second place under the same identity, as a copied data directory makes one. Both are sent everything.
    pub fn join_as_twin(&self, node: NodeId) -> (MemoryLink, mpsc::Receiver<(NodeId, Bytes)>) {
        let (seat, incoming) = mpsc::channel(QUEUE);
        self.state().seats.entry(node).or_default().push(seat);
        let network = self.clone();
        (MemoryLink { network, node }, incoming)
    }

    /// The node falls silent at once, as one that was killed.
    pub fn kill(&self, node: NodeId) {
        self.state().seats.remove(&node);
    }

    /// These two cannot hear each other until healed.
    pub fn cut(&self, one: NodeId, other: NodeId) {
        self.state().cut.insert(pair(one, other));
    }

    /// They can again.
    pub fn heal(&self, one: NodeId, other: NodeId) {
        self.state().cut.remove(&pair(one, other));
    }

    /// The share of messages that are lost from here on, 0 to 1.
    pub fn lose(&self, share: f64) {
        self.state().loss = share;
    }

    /// What has been sent so far.
    pub fn traffic(&self) -> Traffic {
        self.state().traffic
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("nothing panics while it holds the network")
    }
}

impl GossipLink for MemoryLink {
    fn send(&self, to: NodeId, message: Bytes) {
        let mut state = self.network.state();
        state.traffic.messages += 1;
        state.traffic.bytes += message.len() as u64;
        let loss = state.loss;
        let lost = loss > 0.0 && state.rng.random::<f64>() < loss;
        if lost || !state.reach(self.node, to) {
            return;
        }
        for seat in state.seats.get(&to).into_iter().flatten() {
            // A full queue loses the message.
            let _ = seat.try_send((self.node, message.clone()));
        }
    }
}

impl Probe for MemoryLink {
    async fn probe(&self, node: NodeId) -> bool {
        let reached = self.network.state().reach(self.node, node);
        if !reached {
            std::future::pending::<()>().await;
        }
        true
    }
}

impl State {
    /// Whether both are there and nothing is between them.
    fn reach(&self, from: NodeId, to: NodeId) -> bool {
        self.seats.contains_key(&from)
            && self.seats.contains_key(&to)
            && !self.cut.contains(&pair(from, to))
    }
}

fn pair(one: NodeId, other: NodeId) -> (NodeId, NodeId) {
    (one.min(other), one.max(other))
}
