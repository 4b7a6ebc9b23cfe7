//! Removes what nobody needs any more.
//!
//! A task that is to be removed goes in two steps: its agent stops it, and only then is it forgotten, since whatever it
//! holds is held for as long as there is a record of it. What has ended is kept for people to look at, and for the
//! restart policy to count, up to a limit for each slot. Called by the leader's loop before anything else.

use super::draft::Draft;
use super::orchestrator::slots::{self, Tasks};
use crate::model::{ClusterSpec, Service, ServiceId, Task, TaskState};

/// Removes history beyond the limit, tasks that are to be removed and have ended, and a removed service with the last
/// of its tasks.
pub fn reap(draft: &mut Draft<'_>, service: ServiceId) {
    let Some(service) = draft.service(service) else {
        return;
    };
    for task in draft.tasks_of(service.id).iter() {
        if service.removed {
            draft.want(task.id, TaskState::Remove);
        }
        let leaves = service.removed || task.desired == TaskState::Remove;
        if leaves && holds_nothing(draft, task) {
            draft.remove_task(task.id);
        }
    }
    if service.removed {
        if draft.tasks_of(service.id).is_empty() {
            draft.remove_service(service.id);
        }
        return;
    }
    if let Some(limit) = limit(draft, &service) {
        for tasks in slots::by_slot(draft, service.id).values() {
            trim(draft, tasks, limit);
        }
    }
}

/// Whether a task has nothing on any node: it never came to one, or has ended there.
fn holds_nothing(draft: &Draft<'_>, task: &Task) -> bool {
    let state = draft.state_of(task);
    state < TaskState::Assigned || state >= TaskState::Complete
}

/// How many tasks of a slot are kept; `None` is all of them.
fn limit(draft: &Draft<'_>, service: &Service) -> Option<usize> {
    let policy = service.spec.task_template.restart_policy.as_ref();
    let attempts = policy.and_then(|policy| policy.max_attempts).unwrap_or(0);
    if attempts > 0 {
        return usize::try_from(attempts).ok()?.checked_add(1);
    }
    let cluster = draft.view.state.cluster.as_ref();
    let usual = || ClusterSpec::default().task_history_limit;
    let limit = cluster.map_or_else(usual, |cluster| cluster.spec.task_history_limit);
    usize::try_from(limit).ok()
}

/// Forgets the oldest tasks of a slot that are of no use. The one that the slot is judged by stays: without it, what
/// has come to its end would begin again.
fn trim(draft: &mut Draft<'_>, tasks: &Tasks, limit: usize) {
    let judged = slots::newest(tasks).map(|task| task.id);
    let surplus = tasks.len().saturating_sub(limit);
    let old: Vec<_> = tasks
        .iter()
        .filter(|task| !slots::is_wanted(task) && holds_nothing(draft, task))
        .map(|task| task.id)
        .filter(|id| Some(*id) != judged)
        .take(surplus)
        .collect();
    for id in old {
        draft.remove_task(id);
    }
}

#[cfg(test)]
mod tests;
