//! The types that openraft works with here, and how each is written down.
//!
//! Nothing of openraft's own is stored or sent: entries, votes and memberships have records of ours,
//! so that another version of openraft reads what this one wrote. [`super::log`], [`super::snapshot`]
//! and [`super::rpc`] use them; they hold no decision.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use openraft::type_config::alias::{
    EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::{EntryPayload, Membership};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::machine::Machine;
use crate::model::{NodeId, Rejection};

openraft::declare_raft_types!(
    /// Our instance of openraft's types.
    pub(crate) Types:
        D = super::command::Command,
        R = Outcome,
        NodeId = NodeId,
        Node = (),
);

pub(super) type Raft = openraft::Raft<Types, Machine>;
pub(super) type Entry = EntryOf<Types>;
pub(super) type LogId = LogIdOf<Types>;
pub(super) type Vote = VoteOf<Types>;
pub(super) type StoredMembership = StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = SnapshotMetaOf<Types>;
pub(super) type Snapshot = SnapshotOf<Types, Bytes>;
type LeaderId = openraft::type_config::alias::LeaderIdOf<Types>;

/// What applying an entry came to: the store's version after it, or why nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome(pub(super) Result<u64, Rejection>);

/// Which life of the cluster a replica belongs to.
///
/// A recovery from a lost quorum begins a new one. What was written in an older epoch cannot be
/// continued: a replica that meets a leader of a newer epoch starts again from nothing.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub(crate) struct Epoch {
    /// Recoveries so far, and one for the bootstrap; zero before that.
    pub(super) count: u64,
    /// Random, so that two recoveries from the same epoch differ.
    pub(super) id: u64,
}

/// An entry's place: who led when it was written, and its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogRef {
    pub(super) term: u64,
    pub(super) node: NodeId,
    pub(super) index: u64,
}

/// Terms and indices beyond these are refused: no cluster gets there, and raft counts on from them.
const MAX_TERM: u64 = 1 << 40;
const MAX_INDEX: u64 = 1 << 56;

impl LogRef {
    /// Whether a real cluster can have got there.
    pub(super) fn is_plausible(&self) -> bool {
        self.term < MAX_TERM && self.index < MAX_INDEX
    }
}

impl From<LogId> for LogRef {
    fn from(id: LogId) -> Self {
        Self {
            term: id.leader_id.term,
            node: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<LogRef> for LogId {
    fn from(at: LogRef) -> Self {
        Self {
            leader_id: LeaderId {
                term: at.term,
                node_id: at.node,
            },
            index: at.index,
        }
    }
}

/// A vote: for whom in which term, and whether a quorum has granted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(super) term: u64,
    pub(super) node: NodeId,
    pub(super) committed: bool,
}

impl Ballot {
    /// Whether a real cluster can have got there.
    pub(super) fn is_plausible(&self) -> bool {
        self.term < MAX_TERM
    }
}

impl From<Vote> for Ballot {
    fn from(vote: Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: vote.leader_id.node_id,
            committed: vote.committed,
        }
    }
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        Self {
            leader_id: LeaderId {
                term: ballot.term,
                node_id: ballot.node,
            },
            committed: ballot.committed,
        }
    }
}

/// Who holds a replica. Two sets of voters while a change is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(super) voters: Vec<BTreeSet<NodeId>>,
    pub(super) learners: BTreeSet<NodeId>,
}

impl Members {
    pub(super) fn of(membership: &Membership<NodeId, ()>) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            learners: membership.learner_ids().collect(),
        }
    }

    /// `None` when no openraft membership can be like this, which only a foreign writer causes.
    pub(super) fn into_membership(self) -> Option<Membership<NodeId, ()>> {
        let nodes: std::collections::BTreeMap<NodeId, ()> = self
            .voters
            .iter()
            .flatten()
            .chain(&self.learners)
            .map(|node| (*node, ()))
            .collect();
        if self.voters.is_empty() && nodes.is_empty() {
            return Some(Membership::default());
        }
        Membership::new(self.voters, nodes).ok()
    }
}

/// One entry as it is stored and sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    pub(super) at: LogRef,
    pub(super) payload: PayloadRecord,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PayloadRecord {
    /// A new leader's first entry.
    Blank,
    /// A proposal, encoded once by its proposer.
    Command(Blob),
    /// Who holds a replica from here on.
    Members(Members),
}

impl From<Entry> for EntryRecord {
    fn from(entry: Entry) -> Self {
        Self {
            at: entry.log_id.into(),
            payload: match entry.payload {
                EntryPayload::Blank => PayloadRecord::Blank,
                EntryPayload::Normal(command) => PayloadRecord::Command(Blob(command.into_bytes())),
                EntryPayload::Membership(members) => PayloadRecord::Members(Members::of(&members)),
            },
        }
    }
}

impl EntryRecord {
    /// The entry; `None` when its membership is impossible.
    pub(super) fn into_entry(self) -> Option<Entry> {
        let payload = match self.payload {
            PayloadRecord::Blank => EntryPayload::Blank,
            PayloadRecord::Command(blob) => {
                EntryPayload::Normal(super::command::Command::from_bytes(blob.0))
            }
            PayloadRecord::Members(members) => EntryPayload::Membership(members.into_membership()?),
        };
        Some(Entry {
            log_id: self.at.into(),
            payload,
        })
    }
}

/// Bytes that are copied as a whole and not one by one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Blob(pub(super) Bytes);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytewise;
        impl<'de> Visitor<'de> for Bytewise {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Bytewise)
    }
}
