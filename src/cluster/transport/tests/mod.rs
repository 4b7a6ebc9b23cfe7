//! The transport over real QUIC on the loopback device: nodes of one cluster in one process.
//!
//! Each test node answers as a small room would, so that calls, sessions and proxied bytes have somebody at the
//! other end. Tests wait on conditions with a deadline, never for a fixed time.

mod bench;
mod crowd;
mod doors;
mod faults;
mod life;
mod pairs;
mod restart;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::Tuning;
use super::{
    Inbound, InboundStream, JoinStream, PeerEvent, StartError, Stream, Transport, TransportConfig,
    start,
};
use crate::identity::{Authority, Credentials, Grant, NodeKey, RemovedNodes};
use crate::model::{ClusterId, NodeId, Standing, Timestamp};
use crate::wire::StreamKind;

/// The longest that any condition of a test may take to come true, on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> Timestamp {
    Timestamp::from_nanos(jiff::Timestamp::now().as_nanosecond())
}

/// A cluster's root, and which of its nodes were removed.
struct House {
    authority: Authority,
    cluster: ClusterId,
    removed: Arc<Mutex<BTreeSet<NodeId>>>,
    instances: AtomicU64,
}

impl House {
    fn new(cluster: u128) -> Self {
        Self {
            authority: Authority::generate(now()).unwrap(),
            cluster: ClusterId::from_bits(cluster),
            removed: Arc::default(),
            instances: AtomicU64::new(1),
        }
    }

    fn credentials(&self, key: &NodeKey) -> Arc<Credentials> {
        self.credentials_as(key, Standing::Eligible)
    }

    fn credentials_as(&self, key: &NodeKey, standing: Standing) -> Arc<Credentials> {
        let grant = Grant {
            cluster: self.cluster,
            standing,
            now: now(),
            validity: Duration::from_secs(3600),
        };
        let issued = self
            .authority
            .issue(&key.csr_der().unwrap(), &grant)
            .unwrap();
        let root = &self.authority.root().cert_pem;
        Arc::new(Credentials::from_pem(&key.to_pem(), &issued.chain_pem, root).unwrap())
    }

    fn removed(&self) -> RemovedNodes {
        let removed = Arc::clone(&self.removed);
        Arc::new(move |node| removed.lock().unwrap().contains(&node))
    }

    fn remove(&self, node: NodeId) {
        self.removed.lock().unwrap().insert(node);
    }

    /// A node whose rooms answer.
    fn node(&self) -> Node {
        self.tuned(Tuning::default())
    }

    fn tuned(&self, tuning: Tuning) -> Node {
        self.node_with(NodeKey::generate().unwrap(), own_address(), tuning)
    }

    /// A pair of nodes of which the first has the smaller ID, each knowing where the other is.
    fn pair(&self) -> (Node, Node) {
        self.pair_tuned(Tuning::default())
    }

    fn pair_tuned(&self, tuning: Tuning) -> (Node, Node) {
        let (a, b) = (self.tuned(tuning), self.tuned(tuning));
        a.knows(&b);
        b.knows(&a);
        if a.id < b.id { (a, b) } else { (b, a) }
    }

    fn node_with(&self, key: NodeKey, listen: SocketAddr, tuning: Tuning) -> Node {
        self.try_node(key, listen, tuning).unwrap()
    }

    fn try_node(
        &self,
        key: NodeKey,
        listen: SocketAddr,
        tuning: Tuning,
    ) -> Result<Node, StartError> {
        let (credentials, watched) = watch::channel(self.credentials(&key));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let config = TransportConfig {
            listen,
            instance: self.instances.fetch_add(1, Ordering::Relaxed),
            advertise: Vec::new(),
        };
        let (transport, inbound) =
            start::start(config, tuning, watched, self.removed(), &tasks, &stop)?;
        let (gossip_in, gossip) = mpsc::channel(1024);
        let (joins_in, joins) = mpsc::channel(64);
        let handled = Arc::new(AtomicU64::new(0));
        let rooms = Rooms {
            tasks: tasks.clone(),
            handled: Arc::clone(&handled),
            gossip: gossip_in,
            joins: joins_in,
        };
        tasks.spawn(rooms.run(inbound));
        Ok(Node {
            id: transport.node(),
            transport,
            key,
            credentials,
            gossip: tokio::sync::Mutex::new(gossip),
            joins: tokio::sync::Mutex::new(joins),
            handled,
            tuning,
            _stop: stop.drop_guard(),
        })
    }
}

/// An address of its own for a node, so that its port is still free when it returns from the dead: no other test and
/// no outgoing socket is given it meanwhile.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [_, _, high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let port = u16::try_from(std::process::id() % 10_000).unwrap() + 20_000;
    SocketAddr::from(([127, 100, high, low], port))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A running node.
struct Node {
    id: NodeId,
    transport: Transport,
    key: NodeKey,
    credentials: watch::Sender<Arc<Credentials>>,
    gossip: tokio::sync::Mutex<mpsc::Receiver<(NodeId, Bytes)>>,
    joins: tokio::sync::Mutex<mpsc::Receiver<JoinStream>>,
    /// Requests that reached the room.
    handled: Arc<AtomicU64>,
    tuning: Tuning,
    _stop: tokio_util::sync::DropGuard,
}

impl Node {
    fn addr(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    fn knows(&self, other: &Self) {
        self.transport.learn(other.id, &[other.addr()]);
    }

    async fn echo(&self, to: NodeId, text: &[u8]) -> Result<Vec<u8>, super::CallError> {
        let deadline = Duration::from_secs(5);
        self.transport
            .call_bytes(to, StreamKind::Control, text.to_vec(), deadline)
            .await
    }

    /// Calls `to` and insists on the right answer.
    async fn reaches(&self, to: &Self) {
        assert_eq!(self.echo(to.id, b"ping").await.unwrap(), b"ping");
    }

    fn connections(&self) -> u64 {
        self.transport.stats().connections
    }

    fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// As `kill -9`: nothing more is sent or received, and nobody is told.
    fn kill(self) -> (NodeKey, SocketAddr, Tuning) {
        self.transport.hub.port.release();
        (self.key, self.transport.local_addr(), self.tuning)
    }
}

/// What answers on a test node: `Control` and `Raft` give requests back, `Session` each frame, `Api` each byte.
struct Rooms {
    tasks: TaskTracker,
    handled: Arc<AtomicU64>,
    gossip: mpsc::Sender<(NodeId, Bytes)>,
    joins: mpsc::Sender<JoinStream>,
}

impl Rooms {
    async fn run(self, mut inbound: Inbound) {
        loop {
            tokio::select! {
                Some(stream) = inbound.streams.recv() => {
                    let handled = Arc::clone(&self.handled);
                    self.tasks.spawn(answer(stream, handled));
                }
                Some(message) = inbound.gossip.recv() => {
                    let _ = self.gossip.try_send(message);
                }
                Some(join) = inbound.joins.recv() => {
                    let _ = self.joins.try_send(join);
                }
                else => return,
            }
        }
    }
}

async fn answer(inbound: InboundStream, handled: Arc<AtomicU64>) {
    let mut stream: Stream = inbound.stream;
    match inbound.kind {
        StreamKind::Raft | StreamKind::Control => {
            let Ok(request) = stream.read_bytes().await else {
                return;
            };
            handled.fetch_add(1, Ordering::Relaxed);
            if request == b"never" {
                std::future::pending::<()>().await;
            }
            let _ = stream.write_bytes(request).await;
            stream.finish();
        }
        StreamKind::Session => {
            let (mut reader, mut writer) = stream.split();
            while let Ok(text) = reader.read_frame::<String>().await {
                if writer.write_frame(&text).await.is_err() {
                    return;
                }
            }
        }
        StreamKind::Api => {
            let mut io = stream.into_io();
            let mut bytes = Vec::new();
            let _ = io.read_to_end(&mut bytes).await;
            let _ = io.write_all(&bytes).await;
            let _ = io.shutdown().await;
        }
        StreamKind::Content | StreamKind::Hello | StreamKind::Gossip => panic!("not for rooms"),
    }
}

/// Waits until `condition` holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Watches that `condition` holds all the time.
async fn holds_for(span: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(condition(), "no longer: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for an event.
async fn event(
    events: &mut tokio::sync::broadcast::Receiver<PeerEvent>,
    mut wanted: impl FnMut(&PeerEvent) -> bool,
) -> PeerEvent {
    within("an event", async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
