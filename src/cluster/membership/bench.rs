//! Measures gossip among many nodes in one process, over the network in memory or over QUIC.
//!
//! For the benchmark and for choosing the numbers in `interval`; nothing at work calls it. Each node is whole, with
//! chitchat and the loopback taps. Figures are of this machine, in real time.

mod quic;

use std::time::Duration;

use bytes::Bytes;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use quic::OverQuic;

use super::memory::{MemoryLink, MemoryNetwork, Traffic};
use super::{GossipLink, Membership, MembershipConfig, Peers, Probe, StartError, facts};
use crate::model::facts::{LeaderHint, Phase, key};
use crate::model::{ClusterId, NodeDescription, NodeFacts, NodeId, Standing};

/// No single thing that is waited for may take longer.
const DEADLINE: Duration = Duration::from_secs(900);

/// Sockets of one node, with room.
const FILES_A_NODE: u64 = 14;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A node did not start.
    #[error("a node did not start")]
    Start(#[source] StartError),
    /// A node's end of the transport did not come up.
    #[error("a node's transport did not start")]
    Carrier(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// More open files are needed than are allowed.
    #[error("{0} open files are needed: raise the limit (ulimit -n)")]
    Files(u64),
    /// Something that was to happen did not.
    #[error("waited a quarter of an hour in vain for {0}")]
    Never(&'static str),
}

/// How long something took, over many tries.
#[derive(Clone, Copy, Debug)]
pub struct Spans {
    /// Half took no longer.
    pub p50: Duration,
    /// 99 in 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

impl Spans {
    /// `None` of no tries.
    pub fn of(mut spans: Vec<Duration>) -> Option<Self> {
        spans.sort_unstable();
        let at = |share: f64| {
            let rank = (spans.len() as f64 * share).ceil() as usize;
            spans.get(rank.saturating_sub(1)).copied()
        };
        Some(Self {
            p50: at(0.5)?,
            p99: at(0.99)?,
            max: at(1.0)?,
        })
    }
}

/// What a quiet cluster costs.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Processor time of one node, in seconds a second.
    pub cpu: f64,
    /// Gossip bytes that one node sends in a second; it receives as many.
    pub bytes: f64,
    /// Gossip messages that one node sends in a second.
    pub messages: f64,
}

/// What carries the messages of the nodes that are measured.
pub trait Carrier: Send + Sync {
    /// A node's end of it.
    type Link: GossipLink + Probe;

    /// The place of the node with this number, in its first or a later life. It can reach all others, and they it.
    fn seat(
        &mut self,
        index: usize,
        generation: u64,
    ) -> impl Future<Output = Result<Seat<Self::Link>, BenchError>> + Send;

    /// The node falls silent.
    fn kill(&mut self, index: usize) -> impl Future<Output = ()> + Send;

    /// What all nodes have sent so far.
    fn traffic(&self) -> Traffic;
}

/// One node's place.
#[derive(Debug)]
pub struct Seat<L> {
    /// The node.
    pub node: NodeId,
    /// How it sends and asks.
    pub link: L,
    /// What it receives.
    pub incoming: mpsc::Receiver<(NodeId, Bytes)>,
}

/// The network in memory.
#[derive(Debug)]
pub struct InMemory(MemoryNetwork);

impl Default for InMemory {
    fn default() -> Self {
        Self(MemoryNetwork::new(1))
    }
}

impl Carrier for InMemory {
    type Link = MemoryLink;

    async fn seat(
        &mut self,
        index: usize,
        _generation: u64,
    ) -> Result<Seat<MemoryLink>, BenchError> {
        let node = spread_id(index);
        let (link, incoming) = self.0.join(node);
        Ok(Seat {
            node,
            link,
            incoming,
        })
    }

    async fn kill(&mut self, index: usize) {
        self.0.kill(spread_id(index));
    }

    fn traffic(&self) -> Traffic {
        self.0.traffic()
    }
}

/// Nodes that gossip with each other in this process.
#[derive(Debug)]
pub struct Cluster<C> {
    carrier: C,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    generation: u64,
    membership: Membership,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl<C: Carrier> Cluster<C> {
    /// Starts `size` nodes that know up to three others each, and waits until each knows all. Returns how long that
    /// took.
    pub async fn start(carrier: C, size: usize) -> Result<(Self, Duration), BenchError> {
        allow_files(size as u64 * FILES_A_NODE + 100)?;
        let mut cluster = Self {
            carrier,
            nodes: Vec::new(),
        };
        let begin = Instant::now();
        for index in 0..size {
            let node = cluster.launch(index, 1).await?;
            cluster.nodes.push(node);
        }
        cluster
            .until("all nodes to know all", |peers| {
                peers.alive().count() == size && is_told(peers)
            })
            .await?;
        Ok((cluster, begin.elapsed()))
    }

    async fn launch(&mut self, index: usize, generation: u64) -> Result<Node, BenchError> {
        let Seat {
            node: id,
            link,
            incoming,
        } = self.carrier.seat(index, generation).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let known = [0, index / 2, index.saturating_sub(1)];
        let config = MembershipConfig {
            node: id,
            cluster: ClusterId::from_bits(1),
            generation,
            seeds: known
                .into_iter()
                .filter_map(|at| self.nodes.get(at))
                .map(|node| node.id)
                .collect(),
        };
        let probe = link.clone();
        let membership = Membership::start(config, link, incoming, probe, &tasks, stop.clone())
            .await
            .map_err(BenchError::Start)?;
        membership.publish_facts(&typical_facts(index)).await;
        Ok(Node {
            id,
            generation,
            membership,
            tasks,
            stop,
        })
    }

    /// Changes one key of one node after another, and measures how long each takes to be seen by all.
    pub async fn spread(&self, changes: usize) -> Result<Spans, BenchError> {
        Spans::of(self.spread_each(changes).await?).ok_or(BenchError::Never("a change"))
    }

    /// The same, each by itself.
    pub async fn spread_each(&self, changes: usize) -> Result<Vec<Duration>, BenchError> {
        let mut spans = Vec::new();
        for term in 1..=changes as u64 {
            let teller = &self.nodes[term as usize % self.nodes.len()];
            let hint = LeaderHint {
                term,
                leader: teller.id,
            };
            let begin = Instant::now();
            teller
                .membership
                .publish(key::LEADER, facts::json(&hint))
                .await;
            teller.membership.push().await;
            self.until("a change to be seen by all", |peers| {
                peers.leader() == Some(hint)
            })
            .await?;
            spans.push(begin.elapsed());
            // Changes that follow at once share their pushes; one at a time is what is asked.
            tokio::time::sleep(Duration::from_millis(300 + term % 7 * 40)).await;
        }
        Ok(spans)
    }

    /// Kills one node after another, each started again before the next, and measures how long it takes until all
    /// others hold it for dead.
    pub async fn deaths(&mut self, kills: usize) -> Result<Spans, BenchError> {
        let mut spans = Vec::new();
        for kill in 0..kills {
            let index = kill % self.nodes.len();
            let Node { id, generation, .. } = self.nodes[index];
            let others = |cluster: &Self| cluster.nodes.len() - 1;
            let begin = Instant::now();
            self.carrier.kill(index).await;
            self.nodes[index].stop.cancel();
            self.until_of(index, "a death to be known", |peers| !peers.is_alive(id))
                .await?;
            spans.push(begin.elapsed());
            self.nodes[index] = self.launch(index, generation + 1).await?;
            let all = others(self) + 1;
            self.until("all to be alive again", |peers| {
                peers.alive().count() == all
            })
            .await?;
            tokio::time::sleep(Duration::from_millis(500 + kill as u64 % 11 * 50)).await;
        }
        Spans::of(spans).ok_or(BenchError::Never("a death"))
    }

    /// What it costs to do nothing for this long.
    pub async fn idle(&self, span: Duration) -> Idle {
        let (cpu, traffic, begin) = (cpu_time(), self.carrier.traffic(), Instant::now());
        tokio::time::sleep(span).await;
        let share = begin.elapsed().as_secs_f64() * self.nodes.len() as f64;
        let now = self.carrier.traffic();
        Idle {
            cpu: (cpu_time() - cpu).as_secs_f64() / share,
            bytes: (now.bytes - traffic.bytes) as f64 / share,
            messages: (now.messages - traffic.messages) as f64 / share,
        }
    }

    /// Ends all nodes.
    pub async fn stop(self) {
        for node in &self.nodes {
            node.stop.cancel();
            node.tasks.close();
        }
        for node in &self.nodes {
            node.tasks.wait().await;
        }
    }

    async fn until(
        &self,
        what: &'static str,
        wanted: impl Fn(&Peers) -> bool,
    ) -> Result<(), BenchError> {
        self.until_of(usize::MAX, what, wanted).await
    }

    /// Waits until all but one believe what is wanted.
    async fn until_of(
        &self,
        but: usize,
        what: &'static str,
        wanted: impl Fn(&Peers) -> bool,
    ) -> Result<(), BenchError> {
        let all = async {
            for (index, node) in self.nodes.iter().enumerate() {
                if index != but {
                    let mut peers = node.membership.peers();
                    if peers.wait_for(|peers| wanted(peers)).await.is_err() {
                        return Err(BenchError::Never(what));
                    }
                }
            }
            Ok(())
        };
        timeout(DEADLINE, all)
            .await
            .map_err(|_late| BenchError::Never(what))?
    }
}

/// Identities are hashes: spread over all of their range.
pub(super) fn spread_id(index: usize) -> NodeId {
    NodeId::from_bits((index as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

pub(super) fn typical_facts(index: usize) -> NodeFacts {
    NodeFacts {
        addresses: vec![([192, 0, 2, 1], 1024 + index as u16).into()],
        description: Some(NodeDescription {
            hostname: format!("host-{index}.example.net"),
            engine_version: "0.1.0".into(),
            protocol: (1, 1),
            ..NodeDescription::default()
        }),
        standing: Standing::Eligible,
        leader: None,
        last_log: Some((1, 1)),
        phase: Phase::Up,
        endpoints: None,
    }
}

fn is_told(peers: &Peers) -> bool {
    peers
        .nodes
        .values()
        .all(|peer| peer.facts.last_log.is_some())
}

fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

fn allow_files(files: u64) -> Result<(), BenchError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|_| BenchError::Files(files))?;
    if soft >= files {
        return Ok(());
    }
    if hard < files {
        return Err(BenchError::Files(files));
    }
    setrlimit(Resource::RLIMIT_NOFILE, files, hard).map_err(|_| BenchError::Files(files))
}
