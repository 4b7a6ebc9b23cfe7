//! Founding a cluster: its root, its secrets, its first node, as the first proposal of its store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::clock;
use super::join::reason;
use super::member::{MemberConfig, told_addresses};
use crate::cluster::store::State;
use crate::identity::ca::{Authority, Grant, check_own_root};
use crate::identity::files::CertificateDir;
use crate::identity::key::NodeKey;
use crate::identity::token::new_secret;
use crate::manager::networks;
use crate::manager::settings::check_spec;
use crate::model::node::CertificateRecord;
use crate::model::{
    Availability, Change, Cluster, ClusterId, ClusterSpec, Expect, JoinSecrets, NetworkId, Node,
    NodeDescription, NodeSpec, Proposal, Role, Standing,
};

/// What `init` was asked.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where to listen; `None` for the daemon's own setting.
    pub listen: Option<SocketAddr>,
    /// What to advertise; `None` for the daemon's own setting.
    pub advertise: Option<SocketAddr>,
    /// The settings.
    pub spec: ClusterSpec,
    /// Whether this node takes tasks.
    pub availability: Availability,
    /// Pools for networks without a subnet.
    pub address_pools: Vec<String>,
    /// Prefix length of subnets.
    pub subnet_size: u32,
    /// UDP port of the data plane.
    pub data_path_port: u16,
    /// The user's own root: certificate and key, PEM.
    pub own_root: Option<(String, String)>,
}

/// Why no cluster was founded.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct FoundError(pub String);

impl FoundError {
    fn of(error: impl std::error::Error + 'static) -> Self {
        Self(reason(&error))
    }
}

/// Makes the root and this node's identity, writes the latter to disk, and returns the store's first entry.
pub fn prepare(
    config: &MemberConfig,
    order: Order,
    description: NodeDescription,
) -> Result<Proposal, FoundError> {
    check_spec(&order.spec).map_err(FoundError::of)?;
    let now = clock::now();
    let authority = match &order.own_root {
        None => Authority::generate(now),
        Some((cert, key)) => check_own_root(cert, key, now).and_then(|root| Authority::load(&root)),
    }
    .map_err(FoundError::of)?;
    let key = NodeKey::generate().map_err(FoundError::of)?;
    let id = ClusterId::from_bits(rand::rng().random());
    let grant = Grant {
        cluster: id,
        standing: Standing::Eligible,
        now,
        validity: Duration::from_nanos(order.spec.cert_expiry_ns.unsigned_abs()),
    };
    let csr = key.csr_der().map_err(FoundError::of)?;
    let issued = authority.issue(&csr, &grant).map_err(FoundError::of)?;
    let root = authority.root().clone();
    let files = CertificateDir::new(&config.data_root);
    files.save_key(&key.to_pem()).map_err(FoundError::of)?;
    files
        .save_certificates(&issued.chain_pem, &root.cert_pem)
        .map_err(FoundError::of)?;
    let cluster = Cluster {
        id,
        spec: order.spec,
        root,
        join: JoinSecrets {
            worker: new_secret(),
            manager: new_secret(),
            peer: new_secret(),
        },
        address_pools: order.address_pools,
        subnet_size: order.subnet_size,
        data_path_port: order.data_path_port,
        ..Cluster::default()
    };
    let node = Node {
        id: key.node_id(),
        spec: NodeSpec {
            availability: order.availability,
            ..NodeSpec::default()
        },
        standing: Standing::Eligible,
        role: Role::Manager,
        description,
        addresses: told_addresses(config),
        certificate: CertificateRecord {
            issuer: issued.issuer,
            not_after: issued.not_after,
        },
        ..Node::default()
    };
    let ingress = ingress(&cluster);
    let mut changes = vec![
        Change::PutCluster(Expect::Absent, Box::new(cluster)),
        Change::PutNode(Expect::Absent, Box::new(node)),
    ];
    changes.extend(ingress);
    Ok(Proposal { at: now, changes })
}

/// The network that carries published ports; none where the user's pools have no room for it.
fn ingress(cluster: &Cluster) -> Option<Change> {
    let state = State {
        cluster: Some(Arc::new(cluster.clone())),
        ..State::default()
    };
    let id = NetworkId::from_bits(rand::rng().random());
    let network = networks::ingress(&state, id).ok()?;
    Some(Change::PutNetwork(Expect::Absent, Box::new(network)))
}
