//! What each node's data plane is built from: the cluster's intent, which the leader sends, and the endpoints, which
//! nodes tell of themselves.
//!
//! The leader chooses every address ([`manager::allocator`](crate::manager)); nodes keep the last they were told, so that
//! packets flow while nobody leads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::network::Subnet;
use super::{NetworkId, NodeId, ServiceId};

/// A task's place in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Which.
    pub network: NetworkId,
    /// Its addresses there: one of each family that the network has.
    pub addresses: Vec<IpAddr>,
    /// Further names of it there.
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// One address of a container, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The network; `None` for the node's own.
    pub network: Option<NetworkId>,
    /// Its name.
    pub name: String,
    /// The address.
    pub addr: IpAddr,
    /// The range that it is of.
    pub subnet: Subnet,
    /// Further names of the container there.
    pub aliases: Vec<String>,
}

/// An address that stands for all tasks of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// Where.
    pub network: NetworkId,
    /// Which.
    pub addr: IpAddr,
}

/// What is carried to a port.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// What a word means; TCP when it is none.
    pub fn read(word: &str) -> Self {
        match word {
            "udp" => Self::Udp,
            "sctp" => Self::Sctp,
            _ => Self::Tcp,
        }
    }

    /// `tcp`, `udp` or `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A published port of a service, all of its numbers settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Published {
    /// What is carried.
    pub protocol: Protocol,
    /// In the container.
    pub target: u16,
    /// On the machines.
    pub published: u16,
    /// Only on the machine where a task runs, and for that task alone.
    #[serde(default)]
    pub host: bool,
}

/// How a published port reaches tasks: the service's label `skein.mesh`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mesh {
    /// Tasks of all nodes, which see the client's own address.
    #[default]
    Keep,
    /// Tasks of all nodes, which see the address of the node that was asked.
    Snat,
    /// Tasks of the node that is asked.
    Local,
}

/// The label of a service that says how its published ports reach its tasks.
pub const MESH: &str = "skein.mesh";

impl Mesh {
    /// What a word means; `None` when it is none.
    pub fn read(word: &str) -> Option<Self> {
        match word {
            "keep" => Some(Self::Keep),
            "snat" => Some(Self::Snat),
            "local" => Some(Self::Local),
            _ => None,
        }
    }

    /// What the labels of a service say.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let word = labels.get(MESH).and_then(|word| Self::read(word));
        word.unwrap_or_default()
    }
}

/// A network, as far as packets are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaneNetwork {
    /// Which.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its addresses: one range of each family that it has, or more.
    pub subnets: Vec<Subnet>,
    /// Nothing outside is reached from it.
    #[serde(default)]
    pub internal: bool,
    /// What leaves the machine is encrypted.
    #[serde(default)]
    pub encrypted: bool,
    /// It carries published ports, and nothing else.
    #[serde(default)]
    pub ingress: bool,
    /// Bytes of the longest packet; what the way between machines allows when zero.
    #[serde(default)]
    pub mtu: u32,
}

/// A service, as far as packets are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaneService {
    /// Which.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// The networks that it is attached to, and its further names there.
    pub networks: Vec<(NetworkId, Vec<String>)>,
    /// The addresses that stand for all of its tasks; none in a network where names give the tasks themselves.
    pub vips: Vec<Vip>,
    /// What it publishes.
    pub ports: Vec<Published>,
    /// How.
    #[serde(default)]
    pub mesh: Mesh,
}

/// A range of a network's addresses of which a node has the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Block {
    /// Of which network.
    pub network: NetworkId,
    /// The addresses.
    pub prefix: Subnet,
    /// Where they are.
    pub node: NodeId,
}

/// What is new of the cluster's intent, or all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaneUpdate {
    /// Whether this is all there is, with the updates that came before it in the session: a node forgets the rest.
    pub complete: bool,
    /// Networks that are new or have changed.
    pub networks: Vec<PlaneNetwork>,
    /// Services that are new or have changed.
    pub services: Vec<PlaneService>,
    /// Networks whose blocks have changed, each with all of its blocks.
    pub blocks: Vec<(NetworkId, Vec<Block>)>,
    /// Networks that are gone, with their blocks.
    pub gone_networks: Vec<NetworkId>,
    /// Services that are gone.
    pub gone_services: Vec<ServiceId>,
}

impl PlaneUpdate {
    /// Both in one.
    pub fn and_then(&mut self, later: Self) {
        if later.complete {
            *self = later;
            return;
        }
        let new: BTreeSet<NetworkId> = later.networks.iter().map(|one| one.id).collect();
        let gone: BTreeSet<NetworkId> = later.gone_networks.iter().copied().collect();
        let moved: BTreeSet<NetworkId> = later.blocks.iter().map(|one| one.0).collect();
        self.networks
            .retain(|one| !new.contains(&one.id) && !gone.contains(&one.id));
        self.gone_networks
            .retain(|one| !new.contains(one) && !gone.contains(one));
        self.blocks
            .retain(|one| !moved.contains(&one.0) && !gone.contains(&one.0));
        self.networks.extend(later.networks);
        self.gone_networks.extend(later.gone_networks);
        self.blocks.extend(later.blocks);
        let new: BTreeSet<ServiceId> = later.services.iter().map(|one| one.id).collect();
        let gone: BTreeSet<ServiceId> = later.gone_services.iter().copied().collect();
        self.services
            .retain(|one| !new.contains(&one.id) && !gone.contains(&one.id));
        self.gone_services
            .retain(|one| !new.contains(one) && !gone.contains(one));
        self.services.extend(later.services);
        self.gone_services.extend(later.gone_services);
    }
}

/// A task that takes traffic now. Gossiped by the node that runs it, for as long as it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Of which service; none for a container that a user has made.
    #[serde(default)]
    pub service: Option<ServiceId>,
    /// The container's name.
    pub name: String,
    /// Where it is reached.
    pub attachments: Vec<Attachment>,
}
