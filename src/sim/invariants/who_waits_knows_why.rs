//! No task waits for a node without saying why, in any state that is written down.

use super::super::history::Record;
use super::tasks_by_version;
use crate::model::TaskState;

pub(super) fn check(records: &[Record]) -> Vec<String> {
    let tasks = tasks_by_version(records).into_iter();
    let silent = tasks.filter(|(_, task)| {
        let waits = task.status.state <= TaskState::Pending && task.desired <= TaskState::Complete;
        waits && task.status.err.is_empty()
    });
    silent
        .map(|(version, task)| format!("task {} waits in version {version}, silently", task.id))
        .collect()
}
