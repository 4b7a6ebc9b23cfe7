//! The cluster object: settings, roots of trust, join secrets.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::task_spec::Driver;
use super::{ClusterId, Meta};

/// What a join token admits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinKind {
    /// Never votes.
    Worker,
    /// Always wants to vote.
    Manager,
    /// May vote: the cluster decides. The token that `skein init` prints.
    Peer,
}

/// A secret text that no log or debug print shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The 25-character secret parts of the three join tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSecrets {
    /// Admits workers.
    pub worker: Secret,
    /// Admits managers.
    pub manager: Secret,
    /// Admits eligible peers.
    pub peer: Secret,
}

/// A root of trust with the key that signs under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootCa {
    /// The self-signed certificate, PEM.
    pub cert_pem: String,
    /// Its PKCS#8 key, PEM.
    pub key_pem: Secret,
    /// This root's key certified by the root before it, PEM. Sent in every chain, so that a node which was away
    /// during a rotation still finds its way. Empty for a first root.
    #[serde(default)]
    pub cross_pem: String,
}

/// A change of roots on its way: both are trusted, the new one issues, until every live node is renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRotation {
    /// The root that takes over.
    pub next: RootCa,
}

/// Docker's swarm spec. Durations are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSpec {
    /// Always `default`.
    pub name: String,
    /// User labels.
    pub labels: BTreeMap<String, String>,
    /// Finished tasks kept for each slot; negative keeps all.
    pub task_history_limit: i64,
    /// Stored and shown for Docker's clients; Skein chooses its own timings.
    pub raft: RaftSpec,
    /// Upper bound of the time between two signs of life of a node.
    pub heartbeat_period_ns: i64,
    /// Life of a node certificate; at least one hour.
    pub cert_expiry_ns: i64,
    /// External signers, stored and shown.
    pub external_cas: Vec<serde_json::Value>,
    /// Raised by `docker swarm ca --rotate`.
    pub force_rotate: u64,
    /// Managers need an unlock key after a restart.
    pub auto_lock: bool,
    /// The log driver of tasks that name none.
    pub log_driver: Option<serde_json::Value>,
}

impl ClusterSpec {
    /// Where the output of tasks goes that name no driver.
    pub fn default_log_driver(&self) -> Option<Driver> {
        let driver = self.log_driver.clone()?;
        serde_json::from_value(driver).ok()
    }
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: "default".into(),
            labels: BTreeMap::new(),
            task_history_limit: 5,
            raft: RaftSpec::default(),
            heartbeat_period_ns: 5_000_000_000,
            cert_expiry_ns: 90 * 24 * 3600 * 1_000_000_000,
            external_cas: Vec::new(),
            force_rotate: 0,
            auto_lock: false,
            log_driver: None,
        }
    }
}

/// The raft numbers of Docker's swarm spec, with Docker's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaftSpec {
    /// Entries between two snapshots.
    pub snapshot_interval: u64,
    /// Snapshots kept beside the newest.
    pub keep_old_snapshots: u64,
    /// Entries kept for slow followers.
    pub log_entries_for_slow_followers: u64,
    /// Ticks without a leader before an election.
    pub election_tick: i64,
    /// Ticks between heartbeats.
    pub heartbeat_tick: i64,
}

impl Default for RaftSpec {
    fn default() -> Self {
        Self {
            snapshot_interval: 10_000,
            keep_old_snapshots: 0,
            log_entries_for_slow_followers: 500,
            election_tick: 10,
            heartbeat_tick: 1,
        }
    }
}

/// The one cluster object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its identity.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// Settings.
    pub spec: ClusterSpec,
    /// The root that all trust.
    pub root: RootCa,
    /// Another root on its way in.
    #[serde(default)]
    pub rotation: Option<RootRotation>,
    /// What admits new nodes.
    pub join: JoinSecrets,
    /// The key that unlocks managers when autolock is on; empty otherwise.
    #[serde(default)]
    pub unlock_key: Secret,
    /// Pools for networks that name no subnet.
    #[serde(default)]
    pub address_pools: Vec<String>,
    /// Prefix length of a subnet cut from a pool.
    #[serde(default = "default_subnet_size")]
    pub subnet_size: u32,
    /// UDP port of the data plane.
    #[serde(default = "default_data_path_port")]
    pub data_path_port: u16,
}

/// Docker's default.
pub const fn default_subnet_size() -> u32 {
    24
}

/// VXLAN's port, Docker's default.
pub const fn default_data_path_port() -> u16 {
    4789
}
