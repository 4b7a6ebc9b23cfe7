//! How far a task is only rises, and so does how far it is to go; it has one node for its whole life. Of its agent's own
//! words this holds as well, over all lives of the daemon.

use std::collections::BTreeMap;

use super::super::history::{Entry, Record};
use super::tasks_by_version;
use crate::model::{NodeId, Task, TaskId, TaskState};

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut last: BTreeMap<TaskId, std::sync::Arc<Task>> = BTreeMap::new();
    for (version, task) in tasks_by_version(records) {
        if let Some(old) = last.insert(task.id, task.clone()) {
            let rises = task.status.state >= old.status.state && task.desired >= old.desired;
            let stays = old.node.is_none() || old.node == task.node;
            if !rises || !stays {
                broken.push(format!(
                    "version {version} of task {} is {} to be {} on {:?}, and was {} to be {} on {:?}",
                    task.id,
                    task.status.state,
                    task.desired,
                    task.node,
                    old.status.state,
                    old.desired,
                    old.node
                ));
            }
        }
    }
    let mut said: BTreeMap<(NodeId, TaskId), TaskState> = BTreeMap::new();
    for record in records {
        if let Entry::Told(life, task, status) = &record.entry {
            let before = said.insert((life.node, *task), status.state);
            if before.is_some_and(|before| before > status.state) {
                broken.push(format!(
                    "{life:?} says that task {task} is {}, and said more before",
                    status.state
                ));
            }
        }
    }
    broken
}
