//! Who is there: gossip among all members, and the verdict on who is alive.
//!
//! The composition root starts one [`Membership`] and gives it a way to send bytes to a member ([`GossipLink`]),
//! the bytes that members send, and a way to ask a member for an answer ([`Probe`]). Everyone else watches
//! [`Peers`]. Gossip informs and never authorises: it is not signed, and any member could write anything into it.
//!
//! chitchat does the exchange of states and keeps the phi windows. This room decides the rest: whom to gossip with
//! ([`rounds`]) and how often ([`interval`]), what may be let in ([`guard`]), and who is dead ([`detector`]).
//!
//! | file | decides |
//! |---|---|
//! | `interval` | rhythm by the size of the cluster |
//! | `rounds` | with whom to gossip next, whom news is pushed to |
//! | `detector` | who is alive, who is dead, whom to probe |
//! | `doubts` | which doubts about members to share |
//! | `guard` | which messages chitchat may see |
//! | `twin` | whether another process has this node's identity |
//! | `facts`, `peers`, `book` | what is said of a node, what is believed of it, and which life of it counts |
//! | `task`, `scan`, `desk` | nothing: the loop that feeds all of these, what it reads, and where from |
//! | `seam`, `taps` | nothing: chitchat's transport, over any link |
//! | `cache` | what of all this is on disk: known peers' addresses |

pub mod bench;
mod book;
mod cache;
mod desk;
pub mod detector;
mod doubts;
pub mod facts;
mod guard;
mod interval;
pub mod memory;
mod peers;
mod rounds;
mod scan;
mod seam;
mod taps;
mod task;
mod twin;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chitchat::transport::Transport;
use chitchat::{Chitchat, ChitchatConfig, ChitchatId, ProtocolVersion, spawn_chitchat};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use cache::{CacheError, KnownPeers};
pub use interval::{MAX_MEMBERS, Pace, pace};
pub use peers::{Liveness, PeerView, Peers};
pub use twin::Twin;

use crate::model::facts::{Phase, key};
use crate::model::{ClusterId, NodeFacts, NodeId};

/// How long an implementation of [`Probe`] should wait for an answer, dialling included. Long enough that a member
/// which is stopped for a second answers the same probe when it runs again.
pub const PROBE_DEADLINE: Duration = Duration::from_millis(1_500);

/// How long [`Membership::announce`] waits for others to take notice.
const ANNOUNCE_DEADLINE: Duration = Duration::from_millis(500);

/// Members that must have taken notice of an announcement before it counts as made; they tell the rest.
const ANNOUNCE_TO: usize = 3;

/// Members that are told by this node itself what concerns all; they tell the rest within a round.
const TELL_ALL: usize = 8;

/// How long a deleted key is remembered. This room deletes none; a later version may.
const TOMBSTONES: Duration = Duration::from_secs(3600);

/// Carries gossip messages to members.
pub trait GossipLink: Clone + Send + Sync + 'static {
    /// Puts a message of at most 65,507 bytes on its way and returns at once. It may be lost; dialling, if it needs
    /// any, happens elsewhere.
    fn send(&self, to: NodeId, message: Bytes);
}

/// Asks a member for an answer on the path that matters.
pub trait Probe: Clone + Send + Sync + 'static {
    /// Whether the member answered, within [`PROBE_DEADLINE`].
    fn probe(&self, node: NodeId) -> impl Future<Output = bool> + Send;
}

/// Who this node is, and whom it knows from elsewhere.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// This node.
    pub node: NodeId,
    /// Its cluster; gossip of another is not taken.
    pub cluster: ClusterId,
    /// Must be higher at each start of this node's process, and at least 1.
    pub generation: u64,
    /// Members to begin with; the link knows how to reach them.
    pub seeds: Vec<NodeId>,
}

/// Why gossip could not start. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Generation zero.
    #[error("the generation of a node counts from 1")]
    Generation,
    /// Packets to 127.0.0.1 do not arrive.
    #[error(
        "gossip needs the loopback interface, and it carries no packets here: \
         bring it up (ip link set lo up) and let no firewall block 127.0.0.1"
    )]
    Loopback(#[source] std::io::Error),
    /// No sockets or memory to be had.
    #[error("gossip cannot have the sockets or the memory that it needs")]
    Resources(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What makes gossip useless or dangerous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another process gossips under this node's identity. Not proven: gossip is not signed.
    Twin(Twin),
    /// Gossip has ended; the reason in words. Nothing more will be learned.
    Ended(String),
}

/// This node's part in the gossip. Clones are handles on the same.
#[derive(Clone)]
pub struct Membership {
    chitchat: Arc<Mutex<Chitchat>>,
    desk: desk::Desk,
    peers: watch::Receiver<Arc<Peers>>,
    trouble: watch::Receiver<Option<Trouble>>,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// Starts to gossip; the work is done on `tasks` until `stop`.
    pub async fn start<L: GossipLink, P: Probe>(
        config: MembershipConfig,
        link: L,
        incoming: mpsc::Receiver<(NodeId, Bytes)>,
        probe: P,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        taps::check_loopback().await.map_err(StartError::Loopback)?;
        let desk = desk::Desk::default();
        let guard = guard::Guard::new(config.node, config.generation)
            .map_err(|error| StartError::Resources(error.into()))?;
        let transport = taps::TapTransport::new(link, incoming, guard, desk.clone());
        Self::start_on(config, desk, transport, probe, tasks, stop).await
    }

    async fn start_on<T: Transport, P: Probe>(
        config: MembershipConfig,
        desk: desk::Desk,
        transport: T,
        probe: P,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        if config.generation == 0 {
            return Err(StartError::Generation);
        }
        let transport = seam::Seam {
            transport,
            desk: desk.clone(),
        };
        let first_words = vec![(key::PHASE.to_owned(), facts::json(&Phase::Up))];
        let handle = spawn_chitchat(chitchat_config(&config), first_words, &transport)
            .await
            .map_err(|error| StartError::Resources(error.into()))?;
        let chitchat = handle.chitchat();
        let now = Instant::now();
        let (book, peers) = book::Book::new(config.node, config.generation, now);
        let (trouble_out, trouble) = watch::channel(None);
        let gossip = task::Gossip::new(config, handle, desk.clone(), probe, book, trouble_out, now);
        tasks.spawn(gossip.run(stop));
        Ok(Self {
            chitchat,
            desk,
            peers,
            trouble,
        })
    }

    /// What is believed of all members. Changes that come together are seen together.
    pub fn peers(&self) -> watch::Receiver<Arc<Peers>> {
        self.peers.clone()
    }

    /// What has gone wrong, if anything has.
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.clone()
    }

    /// Says something of this node: a key of [`key`] and a value of at most [`facts::MAX_VALUE`] bytes; a longer one
    /// is not published. Others hear of it in the course of the next rounds, or at once after [`push`](Self::push).
    pub async fn publish(&self, key: &'static str, value: String) {
        if value.len() > facts::MAX_VALUE {
            tracing::error!(
                key,
                bytes = value.len(),
                "gossip value too long, not published"
            );
            return;
        }
        self.chitchat.lock().await.self_node_state().set(key, value);
        self.desk.leave(|_| ());
    }

    /// Says everything that `facts` say of this node.
    pub async fn publish_facts(&self, facts: &NodeFacts) {
        for (key, value) in facts::encode(facts) {
            self.publish(key, value).await;
        }
    }

    /// Gossips at once, rather than in the next round, with as many members as it takes for all to hear
    /// what was published; they pass it on.
    #[expect(
        clippy::unused_async,
        reason = "callers need not know that it only leaves a note"
    )]
    pub async fn push(&self) {
        self.desk.leave(|slips| slips.push = true);
    }

    /// Gossips with this member at once, and counts on it from here on: a new member, or a new connection.
    pub fn meet(&self, node: NodeId) {
        self.desk.leave(|slips| {
            if slips.met.len() < MAX_MEMBERS {
                slips.met.insert(node);
            }
        });
    }

    /// This node was removed from the cluster: nothing is sent to it, taken from it or shown of it any more.
    pub fn forget(&self, node: NodeId) {
        self.desk.leave(|slips| {
            slips.removed.insert(node);
            slips.forgotten.insert(node);
        });
    }

    /// Gossips at once, and returns when all members that are alive have been sent what was published, or enough of a
    /// large cluster for the rest to hear it from them; or after half a second.
    pub async fn tell_all(&self) -> bool {
        self.inform(TELL_ALL).await
    }

    /// Whether as many as this, or all, were told in time.
    async fn inform(&self, enough: usize) -> bool {
        self.desk.slips().informed.clear();
        self.push().await;
        let told = async {
            loop {
                let more = self.desk.informed.notified();
                {
                    let slips = self.desk.slips();
                    let told = slips.informed.intersection(&slips.live).count();
                    if told >= slips.live.len().min(enough) {
                        return;
                    }
                }
                more.await;
            }
        };
        tokio::time::timeout(ANNOUNCE_DEADLINE, told).await.is_ok()
    }

    /// Tells others where this node is in its life, and returns when some of them have been told, or after half a
    /// second. To be called before the process ends, and before the link does.
    pub async fn announce(&self, phase: Phase) {
        self.publish(key::PHASE, facts::json(&phase)).await;
        if !self.inform(ANNOUNCE_TO).await {
            tracing::warn!(
                ?phase,
                "not all members that should have heard of this node's phase did"
            );
        }
    }
}

fn chitchat_config(config: &MembershipConfig) -> ChitchatConfig {
    let address = config.node.gossip_addr();
    ChitchatConfig {
        // The address is the identity; a name beside it would only make every digest longer.
        chitchat_id: ChitchatId::new("", config.generation, address),
        cluster_id: config.cluster.to_string(),
        gossip_interval: interval::HOUSEKEEPING,
        listen_addr: address,
        seed_nodes: Vec::new(),
        failure_detector_config: interval::failure_detector(),
        marked_for_deletion_grace_period: TOMBSTONES,
        catchup_callback: None,
        // Nobody watches chitchat's own list of live nodes, so it need not be copied at each change.
        extra_liveness_predicate: Some(Box::new(|_| false)),
        protocol_version: ProtocolVersion::V1,
    }
}

#[cfg(test)]
mod tests;
