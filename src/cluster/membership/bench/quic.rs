//! Carries the gossip that is measured over the real transport, on the loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::memory::Traffic;
use super::super::{GossipLink, PROBE_DEADLINE, Probe};
use super::{BenchError, Carrier, Seat};
use crate::cluster::transport::{Transport, TransportConfig};
use crate::identity::{Authority, Credentials, Grant, NodeKey};
use crate::model::{ClusterId, NodeId, Standing, Timestamp};

/// Certificates of a measurement last this long.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Real QUIC with certificates, each node on a port of its own.
#[derive(Debug)]
pub struct OverQuic {
    authority: Authority,
    now: Timestamp,
    /// Keys are made as they are needed, and kept for later lives.
    keys: BTreeMap<usize, NodeKey>,
    running: BTreeMap<usize, Transport>,
    /// Sent by those that were killed.
    before: Traffic,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A node's end of the transport.
#[derive(Clone, Debug)]
pub struct QuicLink(Transport);

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

impl OverQuic {
    /// A new cluster's root; `now` begins its certificates.
    pub fn new(now: Timestamp) -> Result<Self, BenchError> {
        Ok(Self {
            authority: Authority::generate(now).map_err(carrier)?,
            now,
            keys: BTreeMap::new(),
            running: BTreeMap::new(),
            before: Traffic::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    fn credentials(&self, key: &NodeKey) -> Result<Credentials, BenchError> {
        let grant = Grant {
            cluster: ClusterId::from_bits(1),
            standing: Standing::Eligible,
            now: self.now,
            validity: VALIDITY,
        };
        let request = key.csr_der().map_err(carrier)?;
        let issued = self.authority.issue(&request, &grant).map_err(carrier)?;
        let root = &self.authority.root().cert_pem;
        Credentials::from_pem(&key.to_pem(), &issued.chain_pem, root).map_err(carrier)
    }
}

impl Carrier for OverQuic {
    type Link = QuicLink;

    async fn seat(&mut self, index: usize, generation: u64) -> Result<Seat<QuicLink>, BenchError> {
        let key = match self.keys.remove(&index) {
            Some(key) => key,
            None => NodeKey::generate().map_err(carrier)?,
        };
        let credentials = Arc::new(self.credentials(&key)?);
        let config = TransportConfig {
            listen: SocketAddr::from((host(index), 0)),
            instance: generation << 32 | index as u64,
            advertise: Vec::new(),
        };
        let (_, credentials) = watch::channel(credentials);
        let stop = self.stop.child_token();
        let (transport, inbound) =
            Transport::start(config, credentials, Arc::new(|_| false), &self.tasks, stop)
                .map_err(carrier)?;
        let node = transport.node();
        for other in self.running.values() {
            transport.learn(other.node(), &[other.local_addr()]);
            other.learn(node, &[transport.local_addr()]);
        }
        self.keys.insert(index, key);
        self.running.insert(index, transport.clone());
        Ok(Seat {
            node,
            link: QuicLink(transport),
            incoming: inbound.gossip,
        })
    }

    /// The transport says good-bye, which a killed process would not; gossip does not listen to that.
    async fn kill(&mut self, index: usize) {
        if let Some(transport) = self.running.remove(&index) {
            let sent = sent(&transport);
            self.before.messages += sent.messages;
            self.before.bytes += sent.bytes;
            transport.close("measured").await;
        }
    }

    /// Messages of gossip, and bytes of everything on the wire.
    fn traffic(&self) -> Traffic {
        let running = self.running.values().map(sent);
        running.fold(self.before, |sum, node| Traffic {
            messages: sum.messages + node.messages,
            bytes: sum.bytes + node.bytes,
        })
    }
}

impl Drop for OverQuic {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Each node has an address of its own, as each would have: handshakes are limited by source.
fn host(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, (index / 250) as u8, (index % 250) as u8 + 1)
}

fn sent(transport: &Transport) -> Traffic {
    let stats = transport.stats();
    Traffic {
        messages: stats.gossip_sent,
        bytes: stats.bytes_sent,
    }
}

fn carrier(error: impl std::error::Error + Send + Sync + 'static) -> BenchError {
    BenchError::Carrier(Box::new(error))
}
