//! What is written down of a task was taken there by the one who may: the leader's stages up to the node, the agent from
//! there on. Nothing that an agent alone can know is written down before it has said so.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{Entry, Record};
use super::tasks_by_version;
use crate::model::{TaskId, TaskState};

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut said: BTreeSet<(TaskId, TaskState)> = BTreeSet::new();
    for record in records {
        if let Entry::Told(_, task, status) = &record.entry {
            said.insert((*task, status.state));
        }
    }
    let mut last: BTreeMap<TaskId, TaskState> = BTreeMap::new();
    let mut broken = Vec::new();
    for (version, task) in tasks_by_version(records) {
        let to = task.status.state;
        let from = last.insert(task.id, to);
        if from == Some(to) {
            continue;
        }
        let own = match (from, to) {
            (None, TaskState::New | TaskState::Pending | TaskState::Assigned) => true,
            (
                Some(TaskState::New | TaskState::Pending),
                TaskState::Pending | TaskState::Assigned,
            ) => true,
            (Some(TaskState::Pending), TaskState::Rejected) => true,
            (Some(from), TaskState::Orphaned) => from >= TaskState::Assigned && !from.is_terminal(),
            _ => false,
        };
        if !own && !said.contains(&(task.id, to)) {
            broken.push(format!(
                "version {version} says that task {} went from {from:?} to {to}, which its agent never said",
                task.id
            ));
        }
    }
    broken
}
