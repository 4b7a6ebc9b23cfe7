//! The real transport as a bed for gossip: QUIC with certificates, on the loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::conformance::{Bed, Seat};
use super::*;
use crate::cluster::transport::{Transport as Quic, TransportConfig};
use crate::identity::{Authority, Credentials, Grant, NodeKey};
use crate::model::{Standing, Timestamp};

/// A node's end of the transport.
#[derive(Clone)]
pub(super) struct QuicLink(pub(super) Quic);

impl GossipLink for QuicLink {
    fn send(&self, to: NodeId, message: Bytes) {
        self.0.gossip(to, message);
    }
}

impl Probe for QuicLink {
    async fn probe(&self, node: NodeId) -> bool {
        self.0.probe(node, PROBE_DEADLINE).await
    }
}

/// A cluster's root, and the nodes that run.
pub(super) struct QuicBed {
    authority: Authority,
    keys: BTreeMap<NodeId, NodeKey>,
    running: BTreeMap<NodeId, (Quic, CancellationToken)>,
    instance: u64,
    tasks: TaskTracker,
}

pub(super) fn now() -> Timestamp {
    Timestamp::from_nanos(jiff::Timestamp::now().as_nanosecond())
}

impl QuicBed {
    pub(super) fn new() -> Self {
        Self {
            authority: Authority::generate(now()).unwrap(),
            keys: BTreeMap::new(),
            running: BTreeMap::new(),
            instance: 0,
            tasks: TaskTracker::new(),
        }
    }

    fn credentials(&self, key: &NodeKey) -> Arc<Credentials> {
        let grant = Grant {
            cluster: CLUSTER,
            standing: Standing::Eligible,
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
}

impl Bed for QuicBed {
    type Link = QuicLink;

    async fn seat(&mut self, former: Option<NodeId>) -> Seat<QuicLink> {
        let key = former.and_then(|node| self.keys.remove(&node));
        let key = key.unwrap_or_else(|| NodeKey::generate().unwrap());
        let node = key.node_id();
        self.instance += 1;
        let config = TransportConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            instance: self.instance,
            advertise: Vec::new(),
        };
        let (_, credentials) = watch::channel(self.credentials(&key));
        let stop = CancellationToken::new();
        let removed: crate::identity::RemovedNodes = Arc::new(|_| false);
        let (quic, inbound) =
            Quic::start(config, credentials, removed, &self.tasks, stop.clone()).unwrap();
        for (other, (theirs, _)) in &self.running {
            quic.learn(*other, &[theirs.local_addr()]);
            theirs.learn(node, &[quic.local_addr()]);
        }
        self.keys.insert(node, key);
        self.running.insert(node, (quic.clone(), stop));
        Seat {
            node,
            link: QuicLink(quic),
            incoming: inbound.gossip,
        }
    }

    /// The transport says good-bye to its peers, which a killed process would not; who judges by silence and probes
    /// cannot tell.
    async fn kill(&mut self, node: NodeId) {
        if let Some((quic, stop)) = self.running.remove(&node) {
            quic.close("gone").await;
            stop.cancel();
        }
    }
}
