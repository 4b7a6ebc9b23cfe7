//! The process of a task begins at most once, on the one node that the task has, whatever becomes of daemons and
//! leaders.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Entry, Record};
use super::tasks_by_version;
use crate::model::{NodeId, TaskId};

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut nodes: BTreeMap<TaskId, BTreeSet<NodeId>> = BTreeMap::new();
    for task in tasks_by_version(records).into_values() {
        nodes.entry(task.id).or_default().extend(task.node);
    }
    let mut broken = Vec::new();
    for record in records {
        let Entry::Processes { node, task, begun } = &record.entry else {
            continue;
        };
        // Other things have IDs as well, and containers name them.
        let Some(own) = nodes.get(task) else {
            continue;
        };
        if *begun > 1 {
            broken.push(format!("task {task} began {begun} times on {node}"));
        }
        if *begun > 0 && !own.contains(node) {
            broken.push(format!(
                "task {task} began on {node}, which was never its node"
            ));
        }
    }
    broken
}
