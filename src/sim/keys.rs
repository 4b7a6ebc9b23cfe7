//! Who the machines are: keys made for each run and sorted by the node IDs that follow from them.
//!
//! The keys differ from run to run, the order of the machines' IDs does not, and only their order may matter.

use crate::identity::key::NodeKey;

/// Keys of so many nodes, in the order of the nodes' IDs.
pub(super) fn sorted(count: usize) -> Vec<NodeKey> {
    let mut keys: Vec<NodeKey> = (0..count)
        .map(|_| NodeKey::generate().expect("the system gives randomness"))
        .collect();
    keys.sort_by_key(NodeKey::node_id);
    keys
}
