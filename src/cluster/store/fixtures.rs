//! Objects and clusters of stores for the tests of this room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::memory::MemoryNetwork;
use super::memory_disk::MemoryDisk;
use super::{Disk, Pace, Store, StoreConfig};
use crate::model::dependency::Payload;
use crate::model::{
    Change, Cluster, ClusterId, ClusterSpec, Dependency, DependencyId, DependencyKind,
    DependencySpec, Expect, JoinSecrets, Network, NetworkId, NetworkSpec, Node, NodeDescription,
    NodeId, NodeSpec, Proposal, Rejection, RootCa, Standing, Timestamp,
};

/// How long a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::from_bits(u128::from(number) << 64 | u128::from(number))
}

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::from_bits(42),
        meta: Default::default(),
        spec: ClusterSpec::default(),
        root: RootCa::default(),
        rotation: None,
        join: JoinSecrets::default(),
        unlock_key: Default::default(),
        address_pools: Vec::new(),
        subnet_size: 24,
        data_path_port: 4789,
    }
}

pub(crate) fn node(number: u64) -> Node {
    Node {
        id: id(number),
        meta: Default::default(),
        spec: NodeSpec::default(),
        standing: Standing::Eligible,
        role: Default::default(),
        pinned: None,
        description: NodeDescription {
            hostname: format!("host-{number}"),
            ..NodeDescription::default()
        },
        addresses: Vec::new(),
        certificate: Default::default(),
    }
}

/// A secret, by its number.
pub(crate) fn secret(number: u64) -> Dependency {
    Dependency {
        id: DependencyId::from_bits(number.into()),
        kind: DependencyKind::Secret,
        meta: Default::default(),
        spec: DependencySpec {
            name: format!("secret-{number}"),
            data: Payload::new(vec![number as u8; 3]),
            ..DependencySpec::default()
        },
    }
}

/// A network of the cluster, by its number.
pub(crate) fn mesh(number: u64) -> Network {
    Network {
        id: NetworkId::from_bits(number.into()),
        spec: NetworkSpec {
            name: format!("network-{number}"),
            driver: "overlay".into(),
            ..NetworkSpec::default()
        },
        ..Network::default()
    }
}

pub(crate) fn at(secs: i128) -> Timestamp {
    Timestamp::from_nanos(secs * 1_000_000_000)
}

pub(crate) fn proposal(changes: impl IntoIterator<Item = Change>) -> Proposal {
    Proposal {
        at: at(1),
        changes: changes.into_iter().collect(),
    }
}

pub(crate) fn first() -> Proposal {
    proposal([Change::PutCluster(Expect::Absent, Box::new(cluster()))])
}

/// Creates the node of this number.
pub(crate) fn put(number: u64) -> Proposal {
    proposal([Change::PutNode(Expect::Absent, Box::new(node(number)))])
}

/// The bytes with which a node asks for a vote.
pub(crate) fn vote_request(number: u64) -> Vec<u8> {
    let candidacy = super::rpc::Candidacy {
        ballot: super::types::Ballot {
            term: 9,
            node: id(number),
            committed: false,
        },
        last: None,
        transfer: false,
    };
    let request = super::rpc::Request {
        epoch: Default::default(),
        ask: super::rpc::Ask::Vote(candidacy),
    };
    request.encode().unwrap()
}

/// Waits until `condition` holds, and fails with `what` when it does not in time.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}: not within {PATIENCE:?}");
}

/// Lets time pass under a paused clock, with all that happens meanwhile.
pub(crate) async fn pass(time: Duration) {
    let never = std::future::pending::<()>();
    assert!(timeout(time, never).await.is_err());
}

/// Stores that reach each other in memory, on disks in memory or in directories.
pub(crate) struct Stores {
    pub(crate) network: MemoryNetwork,
    pub(crate) stores: BTreeMap<NodeId, Store>,
    pub(crate) disks: BTreeMap<NodeId, MemoryDisk>,
    pub(crate) snapshot_every: u64,
    pub(crate) pace: Pace,
    tasks: BTreeMap<NodeId, (TaskTracker, CancellationToken)>,
}

impl Stores {
    pub(crate) fn new() -> Self {
        Self {
            network: MemoryNetwork::default(),
            stores: BTreeMap::new(),
            disks: BTreeMap::new(),
            snapshot_every: StoreConfig::SNAPSHOT_EVERY,
            pace: Pace::Threaded,
            tasks: BTreeMap::new(),
        }
    }

    /// `count` voters, the first of which was bootstrapped.
    pub(crate) async fn voters(count: u64) -> Self {
        let mut stores = Self::new();
        stores.grow(count).await;
        stores
    }

    pub(crate) async fn grow(&mut self, count: u64) {
        for number in 1..=count {
            self.start(id(number)).await;
        }
        self.store(1).bootstrap(first()).await.unwrap();
        for number in 2..=count {
            self.store(1).add_learner(id(number)).await.unwrap();
        }
        let voters = (1..=count).map(id).collect();
        self.store(1).set_voters(voters, false).await.unwrap();
        assert_eq!(self.leader().await, id(1));
    }

    pub(crate) fn config(&self, node: NodeId) -> StoreConfig {
        StoreConfig {
            snapshot_every: self.snapshot_every,
            ..StoreConfig::new("memory".into(), node)
        }
    }

    pub(crate) async fn start(&mut self, node: NodeId) {
        let disk = self.disks.entry(node).or_default().clone();
        self.start_on(node, Arc::new(disk)).await;
    }

    pub(crate) async fn start_on(&mut self, node: NodeId, disk: Arc<dyn Disk>) {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let store = Store::open_on(
            self.config(node),
            disk,
            self.pace,
            self.network.link(node),
            &tasks,
            stop.clone(),
        )
        .await
        .unwrap();
        self.network.attach(node, store.clone());
        self.stores.insert(node, store);
        self.tasks.insert(node, (tasks, stop));
    }

    pub(crate) fn store(&self, number: u64) -> &Store {
        &self.stores[&id(number)]
    }

    /// Cuts a node off and ends it.
    pub(crate) async fn kill(&mut self, node: NodeId) {
        self.network.detach(node);
        if let Some(store) = self.stores.remove(&node) {
            store.shutdown().await;
        }
        if let Some((tasks, _)) = self.tasks.remove(&node) {
            tasks.close();
            timeout(PATIENCE, tasks.wait()).await.unwrap();
        }
    }

    /// A node dies with what its disk had not synced.
    pub(crate) async fn crash(&mut self, node: NodeId) {
        self.network.detach(node);
        self.disks[&node].crash(|| false);
        self.kill(node).await;
    }

    /// Waits for a leader that can serve, among those that run.
    pub(crate) async fn leader(&self) -> NodeId {
        let mut leader = None;
        eventually("there is a leader", async || {
            let mut stores = self.stores.iter();
            let leading = stores.find(|(_, store)| store.leadership().borrow().me);
            leader = leading.map(|(node, _)| *node);
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    /// Writes on whichever store leads, as the rest of a node does: again when the leader changes.
    pub(crate) async fn write(&self, number: u64) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            match self.stores[&leader].propose(put(number)).await {
                Ok(version) => return version,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    /// As [`Self::write`], for when an attempt may have worked without being confirmed.
    pub(crate) async fn write_once(&self, number: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            match self.stores[&leader].propose(put(number)).await {
                Ok(_) | Err(super::ProposeError::Rejected(Rejection::Exists)) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        }
    }

    pub(crate) fn numbers_on(&self, number: u64) -> BTreeSet<u64> {
        let state = self.store(number).watch().borrow().clone();
        state.nodes.keys().map(|id| id.bits() as u64).collect()
    }

    pub(crate) async fn end(mut self) {
        let nodes: Vec<NodeId> = self.stores.keys().copied().collect();
        for node in nodes {
            self.kill(node).await;
        }
    }
}
