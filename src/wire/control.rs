//! Requests that only the leader can answer, and its answers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::join::{JoinBody, JoinReply};
use crate::model::NodeId;

/// Asked of the leader by another member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ControlRequest {
    /// A stranger at the asker's door wants in.
    Join {
        /// Its address, by which attempts are counted.
        from: SocketAddr,
        /// Its request.
        body: Box<JoinBody>,
    },
    /// A certificate for the key in this request: the asker's own, or a known node's at the asker's door.
    Certificate {
        /// PKCS#10, DER.
        csr_der: Vec<u8>,
    },
    /// The asker leaves for good, or for a while.
    Leave {
        /// The node's record stays, marked down, until it is removed.
        node: NodeId,
    },
}

/// The leader's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ControlReply {
    /// To `Join` and `Certificate`.
    Join(JoinReply),
    /// Done.
    Done,
    /// No, and why.
    Refused(String),
    /// Not the leader (any more); it may be this one.
    NotLeader(Option<NodeId>),
}
