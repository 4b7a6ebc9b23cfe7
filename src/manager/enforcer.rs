//! Ends tasks of a node that may no longer run there, and gives up those of a node that is gone for good.
//!
//! The leader's loop calls [`enforce`] when a node or a service has changed, and [`orphan`] for nodes that are down or
//! removed. What its node has not been told of is rejected; what it may have begun it is to shut down, since nobody but
//! its agent may say that a task has ended whose container can still run. Neither replaces anything: the orchestrator
//! and the restart policy do.

use std::sync::Arc;
use std::time::Duration;

use super::draft::Draft;
use super::orchestrator::Fits;
use crate::model::task_spec::Reservation;
use crate::model::{Availability, Node, NodeId, Task, TaskId, TaskState, TaskStatus, Timestamp};

/// How long a node may be down until its tasks are given up.
pub const GIVE_UP: Duration = Duration::from_secs(24 * 3600);

/// What a task is told that may not stay where it is.
const MESSAGE: &str = "task rejected by constraint enforcer";

/// Why.
const WHY: &str = "assigned node no longer meets constraints";

/// Ends tasks of a node that may no longer run there: its constraints do not hold any more, or the node has become
/// smaller than what its tasks have reserved. What is paused or drained is left as it is.
pub fn enforce(draft: &mut Draft<'_>, node: NodeId, fits: Fits<'_>) {
    let Some(node) = draft.view.state.nodes.get(&node).cloned() else {
        return;
    };
    if node.spec.availability != Availability::Active {
        return;
    }
    let (mut cpus, mut memory) = (0_i64, 0_i64);
    for task in tasks_on(draft, node.id) {
        let wanted = (TaskState::Assigned..=TaskState::Complete).contains(&task.desired);
        if !wanted || draft.state_of(&task) >= TaskState::Complete {
            continue;
        }
        // What has not been placed there for good takes no room.
        let needs = match draft.state_of(&task) < TaskState::Assigned {
            true => Reservation::default(),
            false => reservation(draft, &task),
        };
        let more = (
            cpus.saturating_add(needs.nano_cpus),
            memory.saturating_add(needs.memory_bytes),
        );
        if is_allowed(draft, &node, &task, fits) && has_room(&node, &needs, more) {
            (cpus, memory) = more;
        } else {
            reject(draft, task.id);
        }
    }
}

/// Gives up the tasks of a node that was removed, or that has been down since `down_since` and for long enough.
pub fn orphan(draft: &mut Draft<'_>, node: NodeId, down_since: Option<Timestamp>) {
    let removed = !draft.view.state.nodes.contains_key(&node);
    let long = down_since.is_some_and(|since| draft.now().since(since) >= GIVE_UP);
    if !(removed || long) {
        return;
    }
    let message = match removed {
        true => "Task belonged to a node that has been deleted",
        false => TaskState::Orphaned.message(),
    };
    for task in tasks_on(draft, node) {
        let state = draft.state_of(&task);
        // One that has not begun there holds nothing, and is not its node's yet.
        if state >= TaskState::Assigned && !state.is_terminal() {
            end(draft, task.id, TaskState::Orphaned, message, "");
        }
    }
}

fn tasks_on(draft: &Draft<'_>, node: NodeId) -> Vec<Arc<Task>> {
    let tasks = draft.view.state.work.tasks_on(node);
    tasks.filter_map(|task| draft.task(task.id)).collect()
}

fn reservation(draft: &Draft<'_>, task: &Task) -> Reservation {
    let template = draft.template(task.service, task.spec_version);
    let resources = template.and_then(|template| template.task.resources.as_ref());
    let reserved = resources.and_then(|resources| resources.reservations.clone());
    reserved.unwrap_or_default()
}

/// Whether the node is one for the task, by what the service says now.
fn is_allowed(draft: &Draft<'_>, node: &Node, task: &Task, fits: Fits<'_>) -> bool {
    let service = draft.service(task.service);
    service.is_none_or(|service| service.removed || fits(node, &service.spec))
}

/// Whether what a task needs is there, beside what those before it need. What it does not need may be short.
fn has_room(node: &Node, needs: &Reservation, (cpus, memory): (i64, i64)) -> bool {
    let has = node.description.resources;
    (needs.nano_cpus <= 0 || cpus <= has.nano_cpus)
        && (needs.memory_bytes <= 0 || memory <= has.memory_bytes)
}

/// Whether a status says why its task was to end, which the agent that ends it does not know.
pub(super) fn explains(status: &TaskStatus) -> bool {
    status.message == MESSAGE
}

fn reject(draft: &mut Draft<'_>, task: TaskId) {
    let Some(state) = draft.task(task).map(|task| draft.state_of(&task)) else {
        return;
    };
    match state < TaskState::Assigned {
        true => end(draft, task, TaskState::Rejected, MESSAGE, WHY),
        false => {
            end(draft, task, state, MESSAGE, WHY);
            draft.want(task, TaskState::Shutdown);
        }
    }
}

/// Writes down that a task has come so far, and why it ends.
fn end(draft: &mut Draft<'_>, task: TaskId, state: TaskState, message: &str, err: &str) {
    let at = draft.now();
    let seen = draft.task(task).map(|task| draft.status(&task));
    draft.edit_task(task, |task| {
        task.status = TaskStatus {
            state,
            at,
            message: message.into(),
            err: err.into(),
            ..seen.unwrap_or_default()
        };
    });
}

#[cfg(test)]
mod tests;
