//! Versions only rise: of the state on each replica while it lives, and of each object from one change to the next. An
//! object keeps the time of its creation.

use std::collections::BTreeMap;

use super::super::history::{Entry, Life, Record};
use super::nodes_by_version;
use crate::model::NodeId;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut shown: BTreeMap<Life, u64> = BTreeMap::new();
    for record in records {
        if let Entry::Shows(life, state) = &record.entry {
            let before = shown.insert(*life, state.version).unwrap_or(0);
            if state.version < before {
                broken.push(format!(
                    "{life:?} shows version {} after version {before}",
                    state.version
                ));
            }
            let beyond = state
                .nodes
                .values()
                .find(|node| node.meta.version > state.version);
            if let Some(node) = beyond {
                broken.push(format!(
                    "{life:?} shows node {} of version {} in state {}",
                    node.id, node.meta.version, state.version
                ));
            }
        }
    }
    let mut created = BTreeMap::<NodeId, _>::new();
    for (version, node) in nodes_by_version(records) {
        let first = *created.entry(node.id).or_insert(node.meta.created_at);
        if first != node.meta.created_at {
            broken.push(format!(
                "node {} was created at {first}, says version {version} no longer",
                node.id
            ));
        }
    }
    broken
}
