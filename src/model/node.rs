//! A node: what the cluster has decided about a machine, and what is seen of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::task_spec::GenericResource;
use super::{Meta, NodeId, Timestamp};

/// Docker's two roles. A node that votes is a manager; every other is a worker.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks.
    #[default]
    Worker,
    /// Votes, and may lead.
    Manager,
}

/// What a node may become. It is what its certificate says: `swarm-manager` or `swarm-worker`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Never votes, answers for itself alone.
    #[default]
    Worker,
    /// May be made a manager by the cluster itself, and answers any command.
    Eligible,
}

/// Whether the scheduler may use the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// New tasks are welcome.
    #[default]
    Active,
    /// What runs, runs on; nothing new comes.
    Pause,
    /// Service tasks are moved away.
    Drain,
}

/// The part of a node that its operator writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// An optional name beside the hostname.
    #[serde(default)]
    pub name: String,
    /// Labels for placement; `zone` also spreads the voters.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether the scheduler may use it.
    #[serde(default)]
    pub availability: Availability,
}

/// A member machine, as decided by the cluster and kept in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Who it is: the hash of its key.
    pub id: NodeId,
    /// Version and times.
    pub meta: Meta,
    /// What its operator says.
    pub spec: NodeSpec,
    /// Whether it may vote at all.
    pub standing: Standing,
    /// What it is: the leader writes `Manager` once the node votes, `Worker` once it does not.
    #[serde(default)]
    pub role: Role,
    /// The role that an operator has fixed by promote, demote or a manager token. `None` lets the cluster choose.
    #[serde(default)]
    pub pinned: Option<Role>,
    /// What the machine said of itself when it last registered.
    pub description: NodeDescription,
    /// Where it was last reached; hints, best first.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
    /// The certificate it was last given.
    #[serde(default)]
    pub certificate: CertificateRecord,
}

impl Node {
    /// The role that the node is shown with: what an operator has made it, even while it is becoming so, else what it
    /// is.
    pub fn shown_role(&self) -> Role {
        self.pinned.unwrap_or(self.role)
    }
}

/// What the cluster remembers of a certificate that it issued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// Hex SHA-256 of the issuing root's public key, which tells whether a root rotation has reached the node.
    pub issuer: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// What a machine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Its hostname.
    pub hostname: String,
    /// Operating system and architecture.
    pub platform: Platform,
    /// What it has to give to tasks.
    pub resources: Resources,
    /// Skein's version on it.
    pub engine_version: String,
    /// What runs its containers, `containerd 1.6.20`; empty while nothing does.
    #[serde(default)]
    pub runtime: String,
    /// Labels of the engine (`skein daemon --label`).
    #[serde(default)]
    pub engine_labels: BTreeMap<String, String>,
    /// Lowest and highest protocol version it speaks.
    #[serde(default)]
    pub protocol: (u16, u16),
    /// What its operator counts beside processors and memory.
    #[serde(default)]
    pub generic_resources: Vec<GenericResource>,
}

/// Operating system and architecture, as Docker names them (`linux`, `x86_64`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `x86_64`, `aarch64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
}

/// What a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processors, in billionths.
    pub nano_cpus: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
}

/// How a node is seen by the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Not heard of in this term yet.
    #[default]
    Unknown,
    /// Not reachable.
    Down,
    /// In session with the leader.
    Ready,
    /// It said good-bye to its session and looks for another leader.
    Disconnected,
}

/// What the leader observes of a node; never stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The verdict.
    pub state: NodeState,
    /// Why, in words; empty when ready.
    pub message: String,
    /// The address it was last seen at.
    pub addr: Option<SocketAddr>,
}
