//! What a node says of itself by gossip: hints that inform and never authorise.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{NodeDescription, NodeId, Standing};

/// The keys of one node's gossip state; each value is the JSON of one field of [`NodeFacts`].
pub mod key {
    /// [`super::NodeFacts::addresses`].
    pub const ADDRESSES: &str = "addr";
    /// [`super::NodeFacts::description`].
    pub const DESCRIPTION: &str = "node";
    /// [`super::NodeFacts::standing`].
    pub const STANDING: &str = "standing";
    /// [`super::NodeFacts::leader`].
    pub const LEADER: &str = "leader";
    /// [`super::NodeFacts::last_log`].
    pub const LAST_LOG: &str = "log";
    /// [`super::NodeFacts::phase`].
    pub const PHASE: &str = "phase";
}

/// Whom a node believes to lead, and since which term. The highest term wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaderHint {
    /// Raft's term.
    pub term: u64,
    /// The leader of that term.
    pub leader: NodeId,
}

/// Where a node is in its life, as it announces it itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// At work.
    #[default]
    Up,
    /// Back in a moment: nothing is to be rescheduled.
    Restarting,
    /// Gone by its own will.
    Left,
}

/// One node's gossip state, decoded. A key that is missing or does not parse leaves its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Where it can be reached, best first.
    pub addresses: Vec<SocketAddr>,
    /// What the machine is.
    pub description: Option<NodeDescription>,
    /// Whether it may vote.
    pub standing: Standing,
    /// Whom it believes to lead.
    pub leader: Option<LeaderHint>,
    /// Term and index of the last entry in its log, when it holds a replica: who is newest can recover a lost quorum.
    pub last_log: Option<(u64, u64)>,
    /// Where it is in its life.
    pub phase: Phase,
}
