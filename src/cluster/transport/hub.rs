//! What all tasks of the transport share.
//!
//! Its methods are spread over the files that need them: [`super::register`] for connections that come and go,
//! [`super::dial`], [`super::call`]. Its locks are held for a few instructions, never across an await, and only
//! the one of the dials while another is taken.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ClientConfig, Connection, Endpoint};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dial::Dial;
use super::gate::Gate;
use super::hints::{Hints, Source, plain};
use super::join::JoinStream;
use super::limits::{JOIN_SLOTS, Tuning, kind_limit};
use super::link::Link;
use super::pool::Pool;
use super::socket::Port;
use super::stats::{Counters, TransportStats, WireCounters};
use super::{InboundStream, PeerEvent};
use crate::identity::RemovedNodes;
use crate::model::NodeId;
use crate::wire::StreamKind;
use crate::wire::hello::Hello;

/// Own addresses as seen by peers that were reported; the latest few are remembered.
const OBSERVED: usize = 8;

/// Everything that the transport's tasks share.
pub(super) struct Hub {
    pub(super) own: NodeId,
    pub(super) instance: u64,
    pub(super) tuning: Tuning,
    pub(super) removed: RemovedNodes,
    pub(super) port: Arc<Port>,
    pub(super) local: SocketAddr,
    pub(super) counters: Counters,
    pub(super) wire: Arc<WireCounters>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) streams: mpsc::Sender<InboundStream>,
    pub(super) gossip: mpsc::Sender<(NodeId, Bytes)>,
    pub(super) joins: mpsc::Sender<JoinStream>,
    pub(super) events: broadcast::Sender<PeerEvent>,
    pub(super) join_slots: Arc<Semaphore>,
    pub(super) places: BTreeMap<StreamKind, Arc<Semaphore>>,
    pub(super) next_id: AtomicU64,
    began: Instant,
    /// `None` once the transport is closed, so that nothing keeps the endpoint.
    endpoint: Mutex<Option<Endpoint>>,
    client: Mutex<ClientConfig>,
    advertised: Mutex<Vec<SocketAddr>>,
    pub(super) pool: Mutex<Pool<Arc<Link>>>,
    dials: Mutex<BTreeMap<NodeId, Dial>>,
    gate: Mutex<Gate>,
    handshakes: Mutex<BTreeMap<u64, CancellationToken>>,
    observed: Mutex<VecDeque<SocketAddr>>,
}

/// What the hub is made of.
pub(super) struct HubParts {
    pub(super) own: NodeId,
    pub(super) instance: u64,
    pub(super) tuning: Tuning,
    pub(super) removed: RemovedNodes,
    pub(super) port: Arc<Port>,
    pub(super) local: SocketAddr,
    pub(super) wire: Arc<WireCounters>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) streams: mpsc::Sender<InboundStream>,
    pub(super) gossip: mpsc::Sender<(NodeId, Bytes)>,
    pub(super) joins: mpsc::Sender<JoinStream>,
    pub(super) events: broadcast::Sender<PeerEvent>,
    pub(super) endpoint: Endpoint,
    pub(super) client: ClientConfig,
    pub(super) advertised: Vec<SocketAddr>,
}

/// The content of a mutex, also of one whose holder has panicked: nothing here is left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(parts: HubParts) -> Self {
        let places = StreamKind::ALL.map(|kind| {
            let open = kind_limit(kind).open;
            (kind, Arc::new(Semaphore::new(open)))
        });
        Self {
            own: parts.own,
            instance: parts.instance,
            gate: Mutex::new(Gate::new(parts.tuning.gate)),
            tuning: parts.tuning,
            removed: parts.removed,
            port: parts.port,
            local: parts.local,
            counters: Counters::default(),
            wire: parts.wire,
            tasks: parts.tasks,
            stop: parts.stop,
            streams: parts.streams,
            gossip: parts.gossip,
            joins: parts.joins,
            events: parts.events,
            join_slots: Arc::new(Semaphore::new(JOIN_SLOTS)),
            places: BTreeMap::from(places),
            next_id: AtomicU64::new(1),
            began: Instant::now(),
            endpoint: Mutex::new(Some(parts.endpoint)),
            client: Mutex::new(parts.client),
            advertised: Mutex::new(parts.advertised),
            pool: Mutex::new(Pool::new()),
            dials: Mutex::new(BTreeMap::new()),
            handshakes: Mutex::new(BTreeMap::new()),
            observed: Mutex::new(VecDeque::new()),
        }
    }

    /// The next time of a rhythm that all connections have in common, so that an idle process wakes once for all.
    pub(super) fn next_beat(&self, every: Duration) -> Instant {
        let beats = self.began.elapsed().as_nanos() / every.as_nanos().max(1) + 1;
        let beats = u32::try_from(beats).unwrap_or(u32::MAX);
        let next = every
            .checked_mul(beats)
            .and_then(|span| self.began.checked_add(span));
        next.unwrap_or_else(|| Instant::now() + every)
    }

    /// The endpoint, for as long as the caller needs it. `None` when the transport is closed.
    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        lock(&self.endpoint).clone()
    }

    /// Gives the endpoint up for good.
    pub(super) fn take_endpoint(&self) -> Option<Endpoint> {
        lock(&self.endpoint).take()
    }

    /// The configuration for a dial that begins now.
    pub(super) fn client_config(&self) -> ClientConfig {
        lock(&self.client).clone()
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    /// The signs to give up handshakes under way, by the gate's places.
    pub(super) fn handshakes(&self) -> MutexGuard<'_, BTreeMap<u64, CancellationToken>> {
        lock(&self.handshakes)
    }

    pub(super) fn dials(&self) -> MutexGuard<'_, BTreeMap<NodeId, Dial>> {
        lock(&self.dials)
    }

    pub(super) fn is_removed(&self, node: NodeId) -> bool {
        (self.removed)(node)
    }

    /// What this node says first on a connection.
    pub(super) fn hello(&self, conn: &Connection) -> Hello {
        Hello {
            node: self.own,
            instance: self.instance,
            protocol: self.tuning.protocol,
            addresses: lock(&self.advertised).clone(),
            observed: Some(plain(conn.remote_address())),
        }
    }

    /// Other addresses are advertised from now on; peers that are connected hear of it at once.
    pub(super) fn advertise(&self, addrs: Vec<SocketAddr>) {
        *lock(&self.advertised) = addrs;
        for link in lock(&self.pool).all() {
            link.greet_again.notify_one();
        }
    }

    /// New dials show other credentials; the connections that showed the old ones are used no further.
    pub(super) fn change_client(&self, client: ClientConfig) {
        *lock(&self.client) = client;
        for link in lock(&self.pool).set_all_aside() {
            link.set_spare(true);
        }
    }

    /// The connection to use for a peer.
    pub(super) fn used(&self, node: NodeId) -> Option<Arc<Link>> {
        lock(&self.pool).used(node).cloned()
    }

    /// Every connection to a peer.
    pub(super) fn links(&self, node: NodeId) -> Vec<Arc<Link>> {
        lock(&self.pool).links(node)
    }

    /// A copy of what is known of a peer's addresses.
    pub(super) fn hints(&self, node: NodeId) -> Hints {
        lock(&self.pool).hints(node).cloned().unwrap_or_default()
    }

    /// Changes what is known of a peer's addresses.
    pub(super) fn with_hints(&self, node: NodeId, change: impl FnOnce(&mut Hints)) {
        change(lock(&self.pool).hints_mut(node));
    }

    /// Forgets where a peer was.
    pub(super) fn forget(&self, node: NodeId) {
        lock(&self.pool).forget(node);
    }

    pub(super) fn stats(&self) -> TransportStats {
        let connections = lock(&self.pool).all().count();
        self.counters.read(&self.wire, connections)
    }

    pub(super) fn say(&self, event: PeerEvent) {
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }

    /// Takes note of what a peer's hello says of addresses, its own and ours.
    pub(super) fn note(&self, hello: &Hello) {
        self.with_hints(hello.node, |hints| {
            hints.learn(Source::Peer, &hello.addresses);
        });
        let Some(addr) = hello.observed.map(plain) else {
            return;
        };
        let mut observed = lock(&self.observed);
        if observed.contains(&addr) {
            return;
        }
        observed.push_back(addr);
        if observed.len() > OBSERVED {
            observed.pop_front();
        }
        drop(observed);
        self.say(PeerEvent::Observed { addr });
    }
}
