//! Messages of `skein-join/1`: what a node without a valid certificate may say.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Json;
use crate::model::cluster::Secret;
use crate::model::{Availability, ClusterId, NodeDescription, NodeId, Standing, Timestamp};

/// The one request of a join connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum JoinRequest {
    /// A new node asks to be let in.
    Join(Box<JoinBody>),
    /// A known node, whose certificate has ended, asks for another. The signature on the request proves its key.
    Renew {
        /// PKCS#10, DER.
        csr_der: Vec<u8>,
    },
}

/// What a new node brings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinBody {
    /// The token's secret part.
    pub secret: Secret,
    /// PKCS#10, DER, signed by the node's key.
    pub csr_der: Vec<u8>,
    /// What the machine is.
    pub description: Json<NodeDescription>,
    /// Whether it wants tasks.
    pub availability: Availability,
    /// Where it believes it can be reached.
    pub addresses: Vec<SocketAddr>,
    /// Its clock, to tell it when it is wrong.
    pub clock: Timestamp,
}

/// The one answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum JoinReply {
    /// Welcome.
    Admitted(Box<Admission>),
    /// Ask there: this node cannot admit (a plain worker).
    Elsewhere(Vec<SocketAddr>),
    /// No, and why; the words are shown to the user.
    Refused(String),
    /// Not at the moment (no leader); asking again may help.
    Later(String),
}

/// All that a new member needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Admission {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member's ID, from its key.
    pub node: NodeId,
    /// Whether it may vote.
    pub standing: Standing,
    /// Its certificate and what leads from it to the root, PEM.
    pub chain_pem: String,
    /// The roots to trust, PEM.
    pub roots_pem: String,
    /// Some members and their addresses.
    pub peers: Vec<(NodeId, Vec<SocketAddr>)>,
}
