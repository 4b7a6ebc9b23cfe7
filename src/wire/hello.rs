//! The introduction on a new connection, both ways.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::NodeId;

/// What each side says first. A connection is used for nothing else before both have spoken: a TLS 1.3 client
/// learns that its certificate was refused only when it first reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who speaks; must equal the certificate's.
    pub node: NodeId,
    /// Random, new at each start of the process: two of one node at a time mean a copied data directory.
    pub instance: u64,
    /// Lowest and highest protocol version.
    pub protocol: (u16, u16),
    /// Where the speaker believes it can be reached.
    pub addresses: Vec<SocketAddr>,
    /// Where the speaker sees the other side.
    pub observed: Option<SocketAddr>,
}

/// The protocol version that two ranges share: the highest in both.
pub fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0 && highest >= theirs.0).then_some(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(common_version((1, 3), (2, 5)), Some(3));
        assert_eq!(common_version((1, 1), (1, 1)), Some(1));
        assert_eq!(common_version((1, 2), (3, 4)), None);
        assert_eq!(common_version((3, 4), (1, 2)), None);
    }
}
