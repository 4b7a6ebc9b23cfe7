//! What `GET /skein/status` says: this node, its cluster's health, its peers. Skein's own, not Docker's.

use serde::Serialize;

use crate::api::backend::{ClusterStatus, Local, LocalState, PeerStatus};
use crate::model::facts::Phase;
use crate::model::{NodeId, Standing};

/// The whole answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct StatusDto {
    node: LocalDto,
    leader: Option<String>,
    term: u64,
    voters: Vec<String>,
    learners: Vec<String>,
    peers: Vec<PeerDto>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LocalDto {
    #[serde(rename = "ID")]
    id: Option<String>,
    hostname: String,
    state: LocalState,
    control_available: bool,
    addr: Option<String>,
    error: String,
    data_root: String,
    engine_version: String,
    warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PeerDto {
    #[serde(rename = "ID")]
    id: String,
    hostname: String,
    addresses: Vec<String>,
    standing: Standing,
    phase: Phase,
    alive: bool,
    /// Nanoseconds for which it has been alive or dead.
    since: u64,
    last_log: Option<LogPosition>,
    engine_version: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogPosition {
    /// Greater in every later epoch and term; means nothing else.
    rank: u64,
    index: u64,
}

impl StatusDto {
    /// Puts the two halves together.
    pub(in crate::api) fn of(local: Local, status: ClusterStatus) -> Self {
        let ids = |nodes: Vec<NodeId>| nodes.iter().map(NodeId::to_string).collect();
        Self {
            node: LocalDto {
                id: local.node.map(|node| node.to_string()),
                hostname: local.description.hostname,
                state: local.state,
                control_available: local.control,
                addr: local.addr.map(|addr| addr.to_string()),
                error: local.error,
                data_root: local.data_root.display().to_string(),
                engine_version: local.description.engine_version,
                warnings: local.warnings,
            },
            leader: status.leader.map(|node| node.to_string()),
            term: status.term,
            voters: ids(status.voters),
            learners: ids(status.learners),
            peers: status.peers.into_iter().map(PeerDto::from).collect(),
        }
    }
}

impl From<PeerStatus> for PeerDto {
    fn from(peer: PeerStatus) -> Self {
        Self {
            id: peer.node.to_string(),
            hostname: peer.hostname,
            addresses: peer.addresses.iter().map(ToString::to_string).collect(),
            standing: peer.standing,
            phase: peer.phase,
            alive: peer.alive,
            since: u64::try_from(peer.since.as_nanos()).unwrap_or(u64::MAX),
            last_log: peer
                .last_log
                .map(|(rank, index)| LogPosition { rank, index }),
            engine_version: peer.engine_version,
        }
    }
}
