//! The session: one long-lived stream from each node to the leader.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Json;
use super::assignment::{Assigned, Assignments, Dependencies, Report};
use crate::model::plane::PlaneUpdate;
use crate::model::{NodeDescription, NodeId, Role, Standing};

/// From a node to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upward {
    /// First on the stream, and again when something of it changes.
    Register {
        /// What the machine is.
        description: Box<Json<NodeDescription>>,
        /// Where it can be reached.
        addresses: Vec<SocketAddr>,
        /// Hex SHA-256 of the public key of the root that issued its certificate.
        issuer: String,
    },
    /// How its tasks are: all of them first, then each change.
    Statuses(Report),
    /// The daemon stops and will be back; nothing is to be moved meanwhile.
    Restarting,
    /// The node leaves the cluster.
    Leaving,
}

/// From the leader to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Downward {
    /// First on the stream, and again when something of it changes.
    Membership {
        /// The leader's term; lower ones are void.
        term: u64,
        /// What the node is now.
        role: Role,
        /// Whether it may vote.
        standing: Standing,
        /// The roots to trust, PEM.
        roots_pem: String,
        /// Hex SHA-256 of the public key of the root that issues now; a node with another's certificate renews.
        issuer: String,
        /// Nodes that were removed and may hold a certificate that has not ended.
        removed: Vec<NodeId>,
    },
    /// What it is to run: a complete set first, then each change.
    Assignments(Assignments),
    /// The node was removed from the cluster and is to stop.
    Removed,
    /// Tasks that belong to the complete set that follows, where one message cannot hold it.
    More(Vec<Json<Assigned>>),
    /// Secrets and configs that the tasks which follow name, and those that are no longer needed. A complete set of
    /// tasks with none of these before it names none.
    Dependencies(Dependencies),
    /// What packets need to know of networks and services. A complete set comes before the first tasks.
    Plane(Json<PlaneUpdate>),
}
