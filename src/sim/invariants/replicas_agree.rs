//! Two replicas that show the same version show the same state, whenever and in whichever life they show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::history::{Entry, Life, Record};
use super::nodes_by_version;
use crate::cluster::store::{Changed, State};

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut states: BTreeMap<u64, (Life, Arc<State>)> = BTreeMap::new();
    let nodes = nodes_by_version(records);
    for record in records {
        match &record.entry {
            Entry::Shows(life, state) => {
                let (first, shown) = states
                    .entry(state.version)
                    .or_insert_with(|| (*life, state.clone()));
                if shown != state {
                    broken.push(format!(
                        "{first:?} and {life:?} show version {} differently",
                        state.version
                    ));
                }
            }
            Entry::Applied(life, event) => {
                if let Changed::Node {
                    new: Some(node), ..
                } = &event.changed
                    && nodes.get(&node.meta.version) != Some(node)
                {
                    broken.push(format!(
                        "{life:?} applied another version {} than the others",
                        node.meta.version
                    ));
                }
            }
            _ => {}
        }
    }
    broken
}
