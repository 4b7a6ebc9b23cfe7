//! Nodes inside this process that reach each other over the real transport: QUIC with certificates, on loopback.
//!
//! Each has what a measurement needs of a node and no more: a transport, gossip, and a replica when it is given a
//! directory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use skein::cluster::membership::{Membership, MembershipConfig, Peers};
use skein::cluster::store::{Store, StoreConfig};
use skein::cluster::transport::{InboundStream, JoinStream, Transport, TransportConfig};
use skein::identity::{Authority, Credentials, Grant, NodeKey};
use skein::model::{ClusterId, NodeId, Standing};
use skein::node::clock;
use skein::node::links::QuicLink;
use skein::wire::StreamKind;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The cluster of all these nodes.
const CLUSTER: ClusterId = ClusterId::from_bits(1);

/// No single thing that is waited for may take longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// One node.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) transport: Transport,
    pub(crate) membership: Membership,
    pub(crate) store: Option<Store>,
}

/// Nodes that know each other's addresses.
pub(crate) struct House {
    pub(crate) nodes: Vec<Node>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A node that others can reach, and that nobody serves yet.
pub(crate) struct Wired {
    pub(crate) id: NodeId,
    pub(crate) transport: Transport,
    pub(crate) membership: Membership,
    /// What others open.
    pub(crate) streams: mpsc::Receiver<InboundStream>,
    /// Must last as long as the transport.
    pub(crate) kept: Kept,
}

/// The ends of channels that a transport listens to, or tells.
pub(crate) struct Kept {
    _credentials: watch::Sender<Arc<Credentials>>,
    _joins: mpsc::Receiver<JoinStream>,
}

impl Wired {
    /// A node with an identity of its own that listens at `listen`.
    pub(crate) async fn up(
        authority: &Authority,
        listen: SocketAddr,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, String> {
        let credentials = credentials(authority)?;
        let id = credentials.node();
        let config = TransportConfig {
            listen,
            instance: rand::random(),
            advertise: Vec::new(),
        };
        let (sender, credentials) = watch::channel(Arc::new(credentials));
        let nobody = Arc::new(|_| false);
        let child = stop.child_token();
        let started = Transport::start(config, credentials, nobody, tasks, child);
        let (transport, inbound) = started.map_err(words)?;
        let link = QuicLink(transport.clone());
        let config = MembershipConfig {
            node: id,
            cluster: CLUSTER,
            generation: 1,
            seeds: Vec::new(),
        };
        let child = stop.child_token();
        let membership =
            Membership::start(config, link.clone(), inbound.gossip, link, tasks, child);
        Ok(Self {
            id,
            transport,
            membership: membership.await.map_err(words)?,
            streams: inbound.streams,
            kept: Kept {
                _credentials: sender,
                _joins: inbound.joins,
            },
        })
    }
}

/// An error and its causes.
pub(crate) fn words(error: impl std::error::Error + 'static) -> String {
    skein::node::join::reason(&error)
}

impl House {
    /// `size` nodes; with a directory, each has a replica below it.
    pub(crate) async fn up(size: usize, stores: Option<&Path>) -> Result<Self, String> {
        let authority = Authority::generate(clock::now()).map_err(words)?;
        let mut house = Self {
            nodes: Vec::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        for _ in 0..size {
            let node = house.start(&authority, stores).await?;
            house.nodes.push(node);
        }
        let addresses: BTreeMap<_, _> = house
            .nodes
            .iter()
            .map(|node| (node.id, node.transport.local_addr()))
            .collect();
        for node in &house.nodes {
            for (other, address) in addresses.iter().filter(|(other, _)| **other != node.id) {
                node.transport.learn(*other, &[*address]);
            }
        }
        for node in &house.nodes {
            // As members do when they have met: they learn of the rest by gossip.
            node.membership.meet(house.nodes[0].id);
        }
        Ok(house)
    }

    async fn start(&self, authority: &Authority, stores: Option<&Path>) -> Result<Node, String> {
        let (tasks, stop) = (&self.tasks, &self.stop);
        let anywhere = ([127, 0, 0, 1], 0).into();
        let wired = Wired::up(authority, anywhere, tasks, stop).await?;
        let (id, transport, membership) = (wired.id, wired.transport, wired.membership);
        let store = match stores {
            None => None,
            Some(folder) => {
                let config = StoreConfig::new(folder.join(id.to_string()), id);
                let link = QuicLink(transport.clone());
                let store = Store::open(config, Arc::new(link), tasks, stop.child_token());
                Some(store.await.map_err(words)?)
            }
        };
        let (mut streams, kept) = (wired.streams, wired.kept);
        let (tracker, replica) = (tasks.clone(), store.clone());
        let serve = async move {
            let _kept = kept;
            while let Some(stream) = streams.recv().await {
                if let (StreamKind::Raft, Some(store)) = (stream.kind, replica.clone()) {
                    tracker.spawn(answer(store, stream));
                }
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(serve));
        Ok(Node {
            id,
            transport,
            membership,
            store,
        })
    }

    /// Waits until all nodes but those of `except` believe what is wanted.
    pub(crate) async fn until_all(
        &self,
        what: &str,
        wanted: impl Fn(&Peers) -> bool,
    ) -> Result<(), String> {
        let all = self.nodes.iter().map(|node| {
            let mut peers = node.membership.peers();
            let wanted = &wanted;
            async move { peers.wait_for(|peers| wanted(peers)).await.is_ok() }
        });
        match tokio::time::timeout(DEADLINE, join_all(all)).await {
            Ok(outcomes) if outcomes.iter().all(|outcome| *outcome) => Ok(()),
            Ok(_) => Err(format!("{what}: a node ended")),
            Err(_) => Err(format!("{what}: not after {DEADLINE:?}")),
        }
    }

    /// Counts from here on how often a node takes another for dead that was alive.
    pub(crate) fn count_deaths(&self) -> Arc<AtomicUsize> {
        let deaths = Arc::new(AtomicUsize::new(0));
        for node in &self.nodes {
            let (mut peers, deaths) = (node.membership.peers(), Arc::clone(&deaths));
            let count = async move {
                let mut alive = BTreeSet::new();
                while peers.changed().await.is_ok() {
                    let now = peers.borrow_and_update();
                    let now: BTreeSet<NodeId> = now.alive().map(|(node, _)| node).collect();
                    deaths.fetch_add(alive.difference(&now).count(), Ordering::Relaxed);
                    alive = now;
                }
            };
            let stop = self.stop.clone();
            self.tasks.spawn(stop.run_until_cancelled_owned(count));
        }
        deaths
    }

    /// Bytes of UDP payload that all have sent.
    pub(crate) fn bytes_sent(&self) -> u64 {
        let sent = self
            .nodes
            .iter()
            .map(|node| node.transport.stats().bytes_sent);
        sent.sum()
    }

    /// Ends all of it.
    pub(crate) async fn down(self) {
        for node in &self.nodes {
            if let Some(store) = &node.store {
                store.shutdown().await;
            }
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn credentials(authority: &Authority) -> Result<Credentials, String> {
    let key = NodeKey::generate().map_err(words)?;
    let grant = Grant {
        cluster: CLUSTER,
        standing: Standing::Eligible,
        now: clock::now(),
        validity: Duration::from_secs(24 * 3600),
    };
    let request = key.csr_der().map_err(words)?;
    let issued = authority.issue(&request, &grant).map_err(words)?;
    let root = &authority.root().cert_pem;
    Credentials::from_pem(&key.to_pem(), &issued.chain_pem, root).map_err(words)
}

/// A raft request, as the node's own rooms answer it.
async fn answer(store: Store, mut inbound: InboundStream) {
    let Ok(request) = inbound.stream.read_bytes().await else {
        return;
    };
    if let Ok(reply) = store.handle(inbound.peer.node, &request).await
        && inbound.stream.write_bytes(reply).await.is_ok()
    {
        inbound.stream.finish();
    }
}
