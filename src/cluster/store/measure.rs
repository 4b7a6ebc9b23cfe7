//! Measures the store itself: committed writes, and how long a cluster is without a leader.
//!
//! Several stores run in this process, on real files with real syncs, and reach each other in memory:
//! the figures hold what raft and the disk cost, and nothing of the network. The benchmark calls these
//! functions; nothing else does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::memory::MemoryNetwork;
use super::{BootstrapError, ChangeError, OpenError, ProposeError, Store, StoreConfig, Timings};
use crate::model::{
    Change, Cluster, ClusterId, Expect, Node, NodeId, Proposal, Standing, Timestamp,
};

/// How long anything may take before a measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// A store cannot be opened.
    #[error("a store cannot be opened")]
    Open(#[from] OpenError),
    /// The cluster cannot be begun.
    #[error("the cluster cannot be begun")]
    Bootstrap(#[from] BootstrapError),
    /// The voters cannot be set.
    #[error("the voters cannot be set")]
    Change(#[from] ChangeError),
    /// A write failed.
    #[error("a write failed")]
    Write(#[from] ProposeError),
    /// The cluster had no leader for a minute.
    #[error("there was no leader for a minute")]
    NoLeader,
}

/// How long each of some events took, in order of length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Sorts what was measured.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort();
        Self(samples)
    }

    /// The sample below which `percent` of them lie; zero when there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at.min(last)).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Each of them, in order of length.
    pub fn each(&self) -> &[Duration] {
        &self.0
    }
}

/// What clients saw who wrote as fast as they could.
#[derive(Clone, Debug)]
pub struct WriteFigures {
    /// Acknowledged writes in a second, over all clients.
    pub per_second: f64,
    /// How long each took.
    pub latencies: Samples,
}

/// Stores in one process, each with a directory of its own.
struct Bed {
    dir: PathBuf,
    timings: Timings,
    network: MemoryNetwork,
    stores: BTreeMap<NodeId, (Store, TaskTracker)>,
}

impl Bed {
    async fn up(dir: &Path, voters: u64, timings: Timings) -> Result<Self, MeasureError> {
        let mut bed = Self {
            dir: dir.to_owned(),
            timings,
            network: MemoryNetwork::default(),
            stores: BTreeMap::new(),
        };
        let nodes: Vec<NodeId> = (1..=voters).map(|n| NodeId::from_bits(n.into())).collect();
        for node in &nodes {
            bed.start(*node).await?;
        }
        let first = nodes[0];
        let store = bed.stores[&first].0.clone();
        store.bootstrap(first_proposal()).await?;
        for node in &nodes[1..] {
            store.add_learner(*node).await?;
        }
        store
            .set_voters(nodes.iter().copied().collect(), false)
            .await?;
        Ok(bed)
    }

    async fn start(&mut self, node: NodeId) -> Result<(), MeasureError> {
        let tasks = TaskTracker::new();
        let config = StoreConfig {
            timings: self.timings,
            ..StoreConfig::new(self.dir.join(node.to_string()), node)
        };
        let link = self.network.link(node);
        let store = Store::open(config, link, &tasks, CancellationToken::new()).await?;
        self.network.attach(node, store.clone());
        self.stores.insert(node, (store, tasks));
        Ok(())
    }

    async fn stop(&mut self, node: NodeId) {
        if let Some((store, tasks)) = self.stores.remove(&node) {
            store.shutdown().await;
            tasks.close();
        }
    }

    async fn leader(&self) -> Result<(NodeId, Store), MeasureError> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            for (node, (store, _)) in &self.stores {
                if store.leadership().borrow().me {
                    return Ok((*node, store.clone()));
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
        Err(MeasureError::NoLeader)
    }

    async fn down(mut self) {
        let nodes: Vec<NodeId> = self.stores.keys().copied().collect();
        for node in nodes {
            self.stop(node).await;
        }
    }
}

/// Lets `clients` write to `voters` stores in `dir` for `duration`, each one write after the other.
pub async fn committed_writes(
    dir: &Path,
    voters: u64,
    clients: u64,
    duration: Duration,
) -> Result<WriteFigures, MeasureError> {
    let bed = Bed::up(dir, voters, Timings::default()).await?;
    let (_, leader) = bed.leader().await?;
    let figures = writes_to(&leader, 0, clients, duration).await?;
    bed.down().await;
    Ok(figures)
}

/// Lets `clients` write to the cluster of `leader` for `duration`, each one write after the other, to an object of
/// its own. `run` tells the objects of one call from those of the next.
pub async fn writes_to(
    leader: &Store,
    run: u64,
    clients: u64,
    duration: Duration,
) -> Result<WriteFigures, MeasureError> {
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for client in 0..clients {
        let leader = leader.clone();
        writers.spawn(async move {
            let mut latencies = Vec::new();
            let mut version = None;
            while started.elapsed() < duration {
                let begun = Instant::now();
                let number = 1000 + (run << 32) + client;
                version = Some(leader.propose(write(number, version)).await?);
                latencies.push(begun.elapsed());
            }
            Ok::<_, ProposeError>(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(written) = writers.join_next().await {
        match written {
            Ok(written) => latencies.extend(written?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let elapsed = started.elapsed();
    Ok(WriteFigures {
        per_second: latencies.len() as f64 / elapsed.as_secs_f64(),
        latencies: Samples::new(latencies),
    })
}

/// Kills the leader of `voters` stores `kills` times, silently, and measures each time how long it takes
/// until another acknowledges a write. The killed store comes back before the next.
pub async fn failover(
    dir: &Path,
    voters: u64,
    kills: usize,
    timings: Timings,
) -> Result<Samples, MeasureError> {
    let mut bed = Bed::up(dir, voters, timings).await?;
    let mut samples = Vec::new();
    let mut version = bed.leader().await?.1.propose(write(1000, None)).await?;
    for _ in 0..kills {
        // Heartbeats are at a random point of their interval when the leader dies.
        let pause = rand::random_range(500..750);
        sleep(Duration::from_millis(pause)).await;
        let (dead, _) = bed.leader().await?;
        let killed = Instant::now();
        bed.network.silence(dead);
        let corpse = bed.stores.remove(&dead);
        version = timeout(PATIENCE, next_write(&bed, version))
            .await
            .map_err(|_| MeasureError::NoLeader)??;
        samples.push(killed.elapsed());
        if let Some((store, tasks)) = corpse {
            store.shutdown().await;
            tasks.close();
        }
        bed.network.unsilence(dead);
        bed.start(dead).await?;
    }
    bed.down().await;
    Ok(Samples::new(samples))
}

async fn next_write(bed: &Bed, version: u64) -> Result<u64, MeasureError> {
    loop {
        let (_, leader) = bed.leader().await?;
        match leader.propose(write(1000, Some(version))).await {
            Ok(version) => return Ok(version),
            Err(ProposeError::NotLeader(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The first entry of a cluster in which nothing else is of interest.
pub fn first_proposal() -> Proposal {
    let cluster = Cluster {
        id: ClusterId::from_bits(1),
        meta: Default::default(),
        spec: Default::default(),
        root: Default::default(),
        rotation: None,
        join: Default::default(),
        unlock_key: Default::default(),
        address_pools: Vec::new(),
        subnet_size: crate::model::cluster::default_subnet_size(),
        data_path_port: crate::model::cluster::default_data_path_port(),
    };
    Proposal {
        at: Timestamp::default(),
        changes: vec![Change::PutCluster(Expect::Absent, Box::new(cluster))],
    }
}

/// A write of a node of the usual size.
fn write(number: u64, version: Option<u64>) -> Proposal {
    let node = Node {
        id: NodeId::from_bits(number.into()),
        meta: Default::default(),
        spec: Default::default(),
        standing: Standing::Eligible,
        role: Default::default(),
        pinned: None,
        description: Default::default(),
        addresses: Vec::new(),
        certificate: Default::default(),
    };
    let expect = version.map_or(Expect::Absent, Expect::Version);
    Proposal {
        at: Timestamp::default(),
        changes: vec![Change::PutNode(expect, Box::new(node))],
    }
}
