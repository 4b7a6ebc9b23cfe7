//! The rooms that a membership stands on, built one on top of the other: identity, transport, gossip, store.
//!
//! [`Member::start`](super::member::Member::start) lays the [`Ground`] from what is on disk and builds the [`Rooms`]
//! on it. When one of them cannot be built, those below it are taken down again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::links::QuicLink;
use super::local::{MemberDir, Memory};
use super::member::{MemberConfig, StartError};
use super::{clock, join};
use crate::cluster::membership::{KnownPeers, Membership, MembershipConfig};
use crate::cluster::store::{Store, StoreConfig};
use crate::cluster::transport::{InboundStream, JoinStream, Transport, TransportConfig};
use crate::identity::credentials::Credentials;
use crate::identity::files::{CertificateDir, StoredIdentity};
use crate::identity::key::NodeKey;
use crate::identity::tls::RemovedNodes;
use crate::model::{NodeId, Proposal, Standing};

/// An expired certificate is renewed at start within this, or the node says that it cannot.
const RENEW_DEADLINE: Duration = Duration::from_secs(20);

/// Nodes that are shut out, as far as this node knows.
#[derive(Clone, Debug, Default)]
pub struct ShutOut(Arc<RwLock<BTreeSet<NodeId>>>);

impl ShutOut {
    /// Replaces the list; the newcomers on it are returned.
    pub fn set(&self, nodes: BTreeSet<NodeId>) -> Vec<NodeId> {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = nodes.difference(&list).copied().collect();
        *list = nodes;
        fresh
    }

    /// The question that handshakes ask.
    pub fn question(&self) -> RemovedNodes {
        let list = self.0.clone();
        Arc::new(move |node| {
            list.read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&node)
        })
    }
}

/// What is on disk of a membership, made good for a start.
pub(super) struct Ground {
    pub(super) config: MemberConfig,
    pub(super) cache: KnownPeers,
    pub(super) generation: u64,
    pub(super) credentials: Arc<Credentials>,
    pub(super) known: BTreeMap<NodeId, Vec<SocketAddr>>,
}

impl Ground {
    /// Reads everything; a certificate that ended while the node was off is renewed on the way.
    pub(super) async fn lay(
        config: MemberConfig,
        peers: Vec<(NodeId, Vec<SocketAddr>)>,
    ) -> Result<Self, StartError> {
        let dir = MemberDir::new(&config.data_root);
        let cache = KnownPeers::new(dir.peers());
        let identity = Identity::load(&config)?;
        let mut known = cache.load(identity.credentials.cluster()).unwrap_or_else(|error| {
            warn!(error = %join::reason(&error), "known peers are not readable and are found anew");
            BTreeMap::new()
        });
        known.extend(peers);
        let credentials = Arc::new(identity.in_time(&config, &known).await?);
        let generation = next_generation(&dir)?;
        Ok(Self {
            config,
            cache,
            generation,
            credentials,
            known,
        })
    }
}

/// The rooms, at work.
pub(super) struct Rooms {
    pub(super) transport: Transport,
    pub(super) membership: Membership,
    pub(super) store: Option<Store>,
    pub(super) credentials: watch::Sender<Arc<Credentials>>,
    pub(super) shut_out: ShutOut,
    pub(super) streams: mpsc::Receiver<InboundStream>,
    pub(super) joins: mpsc::Receiver<JoinStream>,
    pub(super) stop: CancellationToken,
    pub(super) tracker: TaskTracker,
}

impl Rooms {
    /// Builds all rooms; `first` creates the cluster.
    pub(super) async fn build(
        ground: &Ground,
        advertise: Vec<SocketAddr>,
        first: Option<Proposal>,
    ) -> Result<Self, StartError> {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let shut_out = ShutOut::default();
        let (credentials, watched) = watch::channel(ground.credentials.clone());
        let config = TransportConfig {
            listen: ground.config.listen,
            instance: rand::rng().random(),
            advertise,
        };
        let (transport, inbound) = Transport::start(
            config,
            watched,
            shut_out.question(),
            &tracker,
            stop.child_token(),
        )
        .map_err(StartError::of)?;
        for (peer, addresses) in &ground.known {
            transport.learn(*peer, addresses);
        }
        let upper = Upper {
            ground,
            transport: &transport,
            stop: &stop,
            tracker: &tracker,
        };
        match upper.build(inbound.gossip, first).await {
            Ok((membership, store)) => Ok(Self {
                transport,
                membership,
                store,
                credentials,
                shut_out,
                streams: inbound.streams,
                joins: inbound.joins,
                stop,
                tracker,
            }),
            Err(error) => {
                stop.cancel();
                transport.close("this node could not start").await;
                Err(error)
            }
        }
    }
}

/// What the rooms above the transport are built from.
struct Upper<'a> {
    ground: &'a Ground,
    transport: &'a Transport,
    stop: &'a CancellationToken,
    tracker: &'a TaskTracker,
}

impl Upper<'_> {
    async fn build(
        &self,
        gossip: mpsc::Receiver<(NodeId, Bytes)>,
        first: Option<Proposal>,
    ) -> Result<(Membership, Option<Store>), StartError> {
        let node = self.ground.credentials.node();
        let link = QuicLink(self.transport.clone());
        let config = MembershipConfig {
            node,
            cluster: self.ground.credentials.cluster(),
            generation: self.ground.generation,
            seeds: self
                .ground
                .known
                .keys()
                .copied()
                .filter(|peer| *peer != node)
                .collect(),
        };
        let membership = Membership::start(
            config,
            link.clone(),
            gossip,
            link.clone(),
            self.tracker,
            self.stop.child_token(),
        )
        .await
        .map_err(StartError::of)?;
        let dir = MemberDir::new(&self.ground.config.data_root).store();
        if self.ground.credentials.standing() == Standing::Worker {
            // A node that was demoted keeps nothing of what only managers may hold.
            match std::fs::remove_dir_all(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StartError(format!(
                        "{} cannot be removed: {error}",
                        dir.display()
                    )));
                }
                _ => return Ok((membership, None)),
            }
        }
        let config = StoreConfig::new(dir, node);
        let store = Store::open(
            config,
            Arc::new(link),
            self.tracker,
            self.stop.child_token(),
        )
        .await
        .map_err(StartError::of)?;
        if let Some(first) = first {
            store.bootstrap(first).await.map_err(StartError::of)?;
        }
        Ok((membership, Some(store)))
    }
}

/// What is on disk of who the node is.
struct Identity {
    stored: StoredIdentity,
    credentials: Credentials,
}

impl Identity {
    fn load(config: &MemberConfig) -> Result<Self, StartError> {
        let files = CertificateDir::new(&config.data_root);
        let stored = files.load().map_err(StartError::of)?.ok_or_else(|| {
            StartError(
                "the node's certificate is missing: run \"skein leave --force\" and join again"
                    .into(),
            )
        })?;
        let credentials =
            Credentials::from_pem(&stored.key_pem, &stored.chain_pem, &stored.roots_pem)
                .map_err(StartError::of)?;
        Ok(Self {
            stored,
            credentials,
        })
    }

    /// The credentials; a certificate that ended while the node was off is renewed first.
    async fn in_time(
        self,
        config: &MemberConfig,
        known: &BTreeMap<NodeId, Vec<SocketAddr>>,
    ) -> Result<Credentials, StartError> {
        if !self.credentials.is_expired(clock::now()) {
            return Ok(self.credentials);
        }
        warn!(ended = %self.credentials.not_after(), "the node's certificate has ended; asking for another");
        let key = NodeKey::from_pem(&self.stored.key_pem).map_err(StartError::of)?;
        let addresses = known.values().flatten().copied().collect();
        let admission = join::renew(addresses, &key, &self.stored.roots_pem, RENEW_DEADLINE)
            .await
            .map_err(|error| {
                StartError(format!(
                    "the node's certificate has ended and was not renewed: {error}"
                ))
            })?;
        let renewed = Credentials::from_pem(
            &self.stored.key_pem,
            &admission.chain_pem,
            &admission.roots_pem,
        )
        .map_err(StartError::of)?;
        if renewed.cluster() != self.credentials.cluster() {
            return Err(StartError(
                "the member that answered belongs to another cluster".into(),
            ));
        }
        CertificateDir::new(&config.data_root)
            .save_certificates(&admission.chain_pem, &admission.roots_pem)
            .map_err(StartError::of)?;
        Ok(renewed)
    }
}

/// A number above that of every earlier start, even when the clock was set back.
fn next_generation(dir: &MemberDir) -> Result<u64, StartError> {
    let memory = dir.load()?.unwrap_or_default();
    let clock = u64::try_from(clock::now().nanos()).unwrap_or_default();
    let generation = clock.max(memory.generation + 1);
    dir.save(&Memory {
        generation,
        ..memory
    })?;
    Ok(generation)
}
