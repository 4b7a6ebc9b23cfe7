//! A service's tasks by the places that they fill, and what is to be known of each place.
//!
//! Successive tasks fill a slot: at most one of them is wanted, but for the time in which one replaces another. Every
//! stage that makes or ends tasks looks at slots through here, so that all of them agree on which are filled. Reads
//! only.

use std::rc::Rc;
use std::sync::Arc;

use crate::manager::draft::{BySlot, Draft};
use crate::manager::restart::policy;
use crate::model::{Availability, NodeId, NodeState, Service, ServiceId, Task, TaskId, TaskState};

/// The tasks of one slot, oldest first; those that are to be removed are not among them.
pub(crate) type Tasks = Vec<Arc<Task>>;

/// Why a node has lost its tasks for good or for as long as it is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its operator wants none there.
    Drained,
    /// It cannot be reached.
    Down,
    /// It was removed.
    Gone,
}

/// Every slot in which there is a task that is not to be removed.
pub(crate) fn by_slot(draft: &Draft<'_>, service: ServiceId) -> Rc<BySlot> {
    draft.slots_of(service, |tasks| {
        let mut slots = BySlot::new();
        for task in tasks {
            if task.desired < TaskState::Remove {
                slots.entry(task.slot).or_default().push(task.clone());
            }
        }
        for tasks in slots.values_mut() {
            tasks.sort_by_key(|task| age(task));
        }
        slots
    })
}

/// Orders the tasks of a slot, oldest first. One that is not in the store yet is the youngest.
fn age(task: &Task) -> impl Ord + use<> {
    let new = task.meta.version == 0;
    (new, task.meta.created_at, task.spec_version, task.id)
}

/// Whether a task is still asked for, however it is.
pub(crate) fn is_wanted(task: &Task) -> bool {
    task.desired <= TaskState::Complete
}

/// The task that a slot is judged by: the youngest that is wanted, else the youngest.
pub(crate) fn newest(tasks: &Tasks) -> Option<&Arc<Task>> {
    let wanted = tasks.iter().rev().find(|task| is_wanted(task));
    wanted.or_else(|| tasks.last())
}

/// Whether a slot is taken: a task in it is wanted, or the last one ended and its policy says to leave it at that.
pub(crate) fn is_held(draft: &Draft<'_>, service: &Service, tasks: &Tasks) -> bool {
    newest(tasks)
        .is_some_and(|task| is_wanted(task) || !policy::may_follow(draft, service, tasks, task))
}

/// As [`is_held`] for a slot that belongs to a node: only what ended by itself there keeps it, since a node that was
/// away or drained gets its task back.
pub(crate) fn is_settled(draft: &Draft<'_>, service: &Service, tasks: &Tasks) -> bool {
    newest(tasks).is_some_and(|task| {
        let ended = policy::ended_by_itself(draft.state_of(task));
        is_wanted(task) || ended && !policy::may_follow(draft, service, tasks, task)
    })
}

/// Whether nothing of a task runs, or can be seen to run, any more. One that is gone from the store has ended.
pub(crate) fn has_ended(draft: &Draft<'_>, task: TaskId) -> bool {
    let Some(task) = draft.task(task) else {
        return true;
    };
    let state = draft.state_of(&task);
    let never_began = state < TaskState::Assigned && !is_wanted(&task);
    let lost = task.node.and_then(|node| loss(draft, node));
    state.is_terminal() || never_began || matches!(lost, Some(Loss::Down | Loss::Gone))
}

/// Why `node` keeps no tasks; `None` when it does, which is also so for one that was not heard of yet in this term, or
/// that has said that it will be back.
pub(crate) fn loss(draft: &Draft<'_>, node: NodeId) -> Option<Loss> {
    let Some(decided) = draft.view.state.nodes.get(&node) else {
        return Some(Loss::Gone);
    };
    if state_of(draft, node) == NodeState::Down {
        return Some(Loss::Down);
    }
    (decided.spec.availability == Availability::Drain).then_some(Loss::Drained)
}

/// Whether a node is a member and has not been heard of in this term: what it has may be further than is known.
pub(crate) fn is_unheard(draft: &Draft<'_>, node: NodeId) -> bool {
    draft.view.state.nodes.contains_key(&node) && state_of(draft, node) == NodeState::Unknown
}

/// Whether a node may be given a task.
pub(crate) fn is_usable(draft: &Draft<'_>, node: NodeId) -> bool {
    let decided = draft.view.state.nodes.get(&node);
    let welcome = decided.is_some_and(|node| {
        node.spec.availability == Availability::Active && !node.description.runtime.is_empty()
    });
    welcome && state_of(draft, node) == NodeState::Ready
}

fn state_of(draft: &Draft<'_>, node: NodeId) -> NodeState {
    let seen = draft.view.nodes.get(&node);
    seen.map_or(NodeState::Unknown, |seen| seen.state)
}
