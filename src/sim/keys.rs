//! Who the machines are: the same keys in every run, in the order of the node IDs that follow from them.
//!
//! Where nodes are equal the scheduler goes by the bits of their IDs, so these belong to what a seed means.

use crate::identity::key::NodeKey;

/// One key after another.
const KEYS: &str = include_str!("../../certs/machines.pem");

/// Between two keys.
const END: &str = "-----END PRIVATE KEY-----\n";

/// Keys of so many nodes, in the order of the nodes' IDs.
pub(super) fn sorted(count: usize) -> Vec<NodeKey> {
    let keys = KEYS.split_inclusive(END).take(count);
    let mut keys: Vec<NodeKey> = keys
        .map(|pem| NodeKey::from_pem(pem).expect("the keys are whole"))
        .collect();
    assert_eq!(keys.len(), count, "there are keys for all machines");
    keys.sort_by_key(NodeKey::node_id);
    keys
}
