//! What a node says of itself by gossip: hints that inform and never authorise.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::plane::Endpoint;
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
    /// [`super::NodeFacts::endpoints`], in parts: a value fits one message, and a change is one of them.
    pub const ENDPOINTS: [&str; 64] = [
        "ep0", "ep1", "ep2", "ep3", "ep4", "ep5", "ep6", "ep7", "ep8", "ep9", "ep10", "ep11",
        "ep12", "ep13", "ep14", "ep15", "ep16", "ep17", "ep18", "ep19", "ep20", "ep21", "ep22",
        "ep23", "ep24", "ep25", "ep26", "ep27", "ep28", "ep29", "ep30", "ep31", "ep32", "ep33",
        "ep34", "ep35", "ep36", "ep37", "ep38", "ep39", "ep40", "ep41", "ep42", "ep43", "ep44",
        "ep45", "ep46", "ep47", "ep48", "ep49", "ep50", "ep51", "ep52", "ep53", "ep54", "ep55",
        "ep56", "ep57", "ep58", "ep59", "ep60", "ep61", "ep62", "ep63",
    ];
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
    /// What takes traffic there; `None` until it has said so.
    pub endpoints: Option<Vec<Endpoint>>,
}
