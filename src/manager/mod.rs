//! The work of the elected leader.
//!
//! Pure parts decide ([`admission`], [`settings`], [`nodes`], [`rotation`], [`status`]); [`term`] holds everything that
//! one term of leadership owns, and [`lead`] starts it when this node is elected and drops it when it is not.
//! Nothing here outlives a term, and nothing here acts without a committed entry.

pub mod admission;
pub mod allocator;
pub mod dependencies;
pub mod dirt;
pub mod dispatch;
pub mod draft;
pub mod enforcer;
pub mod lead;
pub mod measure;
pub mod networks;
pub mod nodes;
pub mod orchestrator;
pub mod pass;
pub mod picture;
pub mod plane;
pub mod reaper;
pub mod rebalance;
pub mod restart;
pub mod rotation;
pub mod scheduler;
pub mod services;
pub mod sessions;
pub mod settings;
pub mod status;
pub mod term;
pub mod updater;
pub mod voters;
pub mod work;

use crate::model::{NodeId, Rejection, ServiceId};

/// Why the leader refuses a request. The words reach the user; tools match on some of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It contradicts what is.
    #[error("{0}")]
    Conflict(String),
    /// It is nothing that can be done at all, though the words for it exist.
    #[error("{0}")]
    Unsupported(String),
    /// No such node.
    #[error("node {0} not found")]
    NoSuchNode(NodeId),
    /// No such service.
    #[error("service {0} not found")]
    NoSuchService(ServiceId),
    /// No such object of another kind.
    #[error("{0}")]
    NotFound(String),
    /// Nobody may do that here.
    #[error("{0}")]
    Forbidden(String),
    /// The object has changed since the client read it.
    #[error("update out of sequence")]
    OutOfSequence,
    /// This node does not lead, or has no quorum. Nothing was done.
    #[error(
        "The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online."
    )]
    NoLeader,
    /// The leader's term ended, or its majority was lost, while the change was written. It may or may not be made.
    #[error(
        "the leader was lost while it made this change, which may or may not have been made; look before you try again"
    )]
    Unconfirmed,
    /// The store failed in a way that a client cannot mend.
    #[error("{0}")]
    Internal(String),
}

impl From<Rejection> for AdminError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::OutOfSequence => Self::OutOfSequence,
            Rejection::NameTaken(_) | Rejection::Taken(..) | Rejection::NetworkTaken(_) => {
                Self::Conflict(rejection.to_string())
            }
            Rejection::Exists
            | Rejection::NotFound
            | Rejection::Bound(_)
            | Rejection::Removed(_) => Self::Invalid(rejection.to_string()),
        }
    }
}
