//! Replaces tasks that have ended or whose node is gone, and lets the new ones start when it is time.
//!
//! A replacement is made at once, so that it can be placed and prepared while the delay runs; what it still waits for
//! is a [`StartRule`] in the task itself, where a new leader finds it. In each slot the old task is let go in the same
//! pass in which the new one is made. Called by the leader's loop after the orchestrator and the updater.

pub(crate) mod policy;

use std::sync::Arc;
use std::time::Duration;

use super::draft::Draft;
use super::orchestrator::slots::{self, Loss};
use super::orchestrator::{new_task, target};
use super::updater::dirty;
use crate::model::task::record::StartRule;
use crate::model::{Service, ServiceId, Slot, Task, TaskState, Timestamp};

/// How long a new task waits for the one before it to stop.
pub(crate) const LONGEST_STOP: Duration = Duration::from_secs(60);

/// Replaces tasks that have ended or whose node is gone, as the restart policy says, and lets prepared ones start when
/// their [`StartRule`] has come true.
pub fn restart(draft: &mut Draft<'_>, service: ServiceId) {
    let Some(service) = draft.service(service) else {
        return;
    };
    if service.removed {
        return;
    }
    for tasks in slots::by_slot(draft, service.id).values() {
        for task in tasks.iter().filter(|task| slots::is_wanted(task)) {
            replace(draft, &service, tasks, task);
        }
    }
    for task in draft.tasks_of(service.id).iter() {
        start(draft, &service, task);
    }
}

/// Lets go of a task that has ended or lost its node, and puts another in its place if there is to be one.
fn replace(draft: &mut Draft<'_>, service: &Service, slot: &[Arc<Task>], task: &Arc<Task>) {
    let state = draft.state_of(task);
    let ended = state.is_terminal();
    let loss = task.node.and_then(|node| slots::loss(draft, node));
    let done = task.iteration.is_some() && state == TaskState::Complete;
    if done || !(ended || loss.is_some()) {
        return;
    }
    let leads = leads(draft, service, slot, task);
    if leads
        && loss.is_none()
        && let Some((until, what)) = delayed(draft, service, task)
    {
        // It failed before it was its time to start: the next one would at once do the same.
        draft.wait(service.id, Some(until), what);
        return;
    }
    let follows = leads && policy::may_follow(draft, service, slot, task);
    draft.want(task.id, TaskState::Shutdown);
    if follows && !is_relieved(draft, service, slot, task) && may_start_on(draft, task.slot) {
        let rule = rule(draft, service, task, loss);
        new_task(draft, service, task.slot, rule);
    }
}

/// Whether a task is the one that its slot is about: the youngest that is what the service is now, else the youngest.
/// Where several have ended at once, one task follows all of them.
fn leads(draft: &Draft<'_>, service: &Service, slot: &[Arc<Task>], task: &Task) -> bool {
    let wanted = slot.iter().rev().filter(|other| slots::is_wanted(other));
    let right = wanted
        .clone()
        .find(|other| !dirty::differs(draft, service, other));
    let first = right.or_else(|| wanted.clone().next());
    first.is_some_and(|first| first.id == task.id)
}

/// Whether another task of the slot has taken over already, or is about to. What is not what the service is now takes
/// over nothing from what is.
fn is_relieved(draft: &Draft<'_>, service: &Service, slot: &[Arc<Task>], task: &Task) -> bool {
    let others = slot.iter().filter_map(|other| draft.task(other.id));
    others.filter(|other| other.id != task.id).any(|other| {
        let newer =
            || other.spec_version > task.spec_version && dirty::differs(draft, service, task);
        draft.is_live(&other) && (!dirty::differs(draft, service, &other) || newer())
    })
}

/// Whether the next task of a slot can be where the slot is; for one that is anywhere the scheduler decides.
fn may_start_on(draft: &Draft<'_>, slot: Slot) -> bool {
    match slot {
        Slot::Number(_) => true,
        // A node that takes nothing new gets its task from the orchestrator when it does again.
        Slot::Node(node) => slots::is_usable(draft, node),
    }
}

/// What the task that follows `task` has to wait for. The delay is there for tasks that end too soon, and so it does
/// not hold back what only lost its node; but what had to wait before goes on waiting.
fn rule(
    draft: &Draft<'_>,
    service: &Service,
    task: &Task,
    loss: Option<Loss>,
) -> Option<StartRule> {
    let now = draft.now();
    let pending = task.start.map_or(now, |rule| rule.not_before.max(now));
    let not_before = match loss {
        Some(_) => pending,
        None => pending.after(policy::delay(draft, service, task)),
    };
    let after = (!slots::has_ended(draft, task.id)).then_some(task.id);
    let rule = StartRule {
        not_before,
        after,
        at_last: now.after(LONGEST_STOP),
    };
    (not_before > now || after.is_some()).then_some(rule)
}

/// Lets a task start, or notes what it waits for.
fn start(draft: &mut Draft<'_>, service: &Service, task: &Task) {
    if task.desired != TaskState::Ready {
        return;
    }
    match held_back(draft, service, task) {
        None => draft.want(task.id, target(service)),
        Some((until, what)) => draft.wait(service.id, Some(until), what),
    }
}

/// What a task waits for, and when that is over at the latest.
fn held_back(draft: &Draft<'_>, service: &Service, task: &Task) -> Option<(Timestamp, String)> {
    let (rule, now) = (task.start?, draft.now());
    delayed(draft, service, task).or_else(|| {
        let old = rule.after.filter(|old| !slots::has_ended(draft, *old))?;
        let waits = now < rule.at_last && rule.at_last <= now.after(LONGEST_STOP);
        waits.then(|| (rule.at_last, format!("task {old} to stop")))
    })
}

/// Whether a task waits for its delay, and until when. A time that is further away than any rule makes it was told by
/// another clock, and is no reason to wait.
fn delayed(draft: &Draft<'_>, service: &Service, task: &Task) -> Option<(Timestamp, String)> {
    let (rule, now) = (task.start?, draft.now());
    let longest = policy::delay(draft, service, task).max(LONGEST_STOP);
    let waits = now < rule.not_before && rule.not_before <= now.after(longest);
    waits.then(|| (rule.not_before, "the restart delay".into()))
}

#[cfg(test)]
mod tests;
