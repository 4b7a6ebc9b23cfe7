//! A service's slots as an update sees them: what in each is as it is to be, and what is not.
//!
//! Reads only.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dirty::Versions;
use crate::manager::draft::Draft;
use crate::manager::orchestrator::Fits;
use crate::manager::orchestrator::slots::{self, Tasks};
use crate::manager::restart::policy;
use crate::model::service_spec::Order;
use crate::model::{Availability, NodeId, Service, Slot, Task, TaskState};

/// A slot.
pub(super) struct Place {
    pub(super) slot: Slot,
    /// All of its tasks, oldest first.
    pub(super) tasks: Tasks,
    /// The one of use that is what the service is now; of several the one that is furthest.
    pub(super) clean: Option<Arc<Task>>,
    /// Those that are what the service is now and have ended, which the restart policy has not replaced yet.
    pub(super) spent: Vec<Arc<Task>>,
    /// The wanted ones that are not, oldest first.
    pub(super) dirty: Vec<Arc<Task>>,
    /// No task is wanted: the last one has ended for good, and is not what the service is now.
    ended: bool,
    /// The task before the clean one was not what the service is now.
    pub(super) is_new: bool,
    /// The youngest task is what the service is now, and has done all that it was there for: none follows it.
    done: bool,
}

/// The slots that an update looks after: those that have lost their node, or whose node takes nothing new, are none of
/// its.
pub(super) fn of(draft: &Draft<'_>, service: &Service, fits: Fits<'_>) -> BTreeMap<Slot, Place> {
    let mut versions = Versions::of(service);
    let slots = slots::by_slot(draft, service.id);
    let slots = slots.iter().filter(|(slot, _)| takes_part(draft, **slot));
    slots
        .map(|(slot, tasks)| {
            let place = Place::new(draft, service, *slot, tasks.clone(), |task| {
                versions.is_dirty(draft, task, fits)
            });
            (*slot, place)
        })
        .collect()
}

impl Place {
    fn new(
        draft: &Draft<'_>,
        service: &Service,
        slot: Slot,
        tasks: Tasks,
        mut is_dirty: impl FnMut(&Task) -> bool,
    ) -> Self {
        let wanted = tasks.iter().filter(|task| slots::is_wanted(task)).cloned();
        let (dirty, clean): (Vec<_>, Vec<_>) = wanted.partition(|task| is_dirty(task));
        let (clean, spent): (Vec<_>, Vec<_>) =
            clean.into_iter().partition(|task| draft.is_live(task));
        let clean = clean.into_iter().max_by_key(|task| draft.state_of(task));
        let ended = clean.is_none()
            && dirty.is_empty()
            && is_over(draft, service, slot, &tasks)
            && slots::newest(&tasks).is_some_and(|task| is_dirty(task));
        let done = tasks.last().is_some_and(|task| {
            let complete = draft.state_of(task) == TaskState::Complete && !is_dirty(task);
            complete && !policy::may_follow(draft, service, &tasks, task)
        });
        let at = clean.as_ref();
        let at = at.and_then(|clean| tasks.iter().position(|task| task.id == clean.id));
        let before = at.and_then(|at| tasks.get(at.checked_sub(1)?));
        Self {
            is_new: before.is_some_and(|task| is_dirty(task)),
            slot,
            tasks,
            clean,
            spent,
            dirty,
            ended,
            done,
        }
    }

    /// Whether something in it is to be replaced, or is being.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.ended
    }

    /// Whether the new task runs, or was done before anybody saw it run, so that the old ones may go.
    pub(super) fn is_handed_over(&self, draft: &Draft<'_>) -> bool {
        let clean = self.clean.as_ref();
        self.done || clean.is_some_and(|clean| draft.state_of(clean) == TaskState::Running)
    }

    /// Whether one of the old tasks runs.
    pub(super) fn runs(&self, draft: &Draft<'_>) -> bool {
        let mut dirty = self.dirty.iter();
        dirty.any(|task| draft.state_of(task) == TaskState::Running)
    }
}

/// Whether a task may be running for all that is known.
pub(super) fn may_run(draft: &Draft<'_>, task: &Task) -> bool {
    (TaskState::Assigned..=TaskState::Running).contains(&draft.state_of(task))
}

/// Whether a slot without a wanted task stays without one unless the service changes.
fn is_over(draft: &Draft<'_>, service: &Service, slot: Slot, tasks: &Tasks) -> bool {
    match slot {
        Slot::Number(_) => slots::is_held(draft, service, tasks),
        Slot::Node(_) => slots::is_settled(draft, service, tasks),
    }
}

/// A node that is paused keeps what it has, and one that is drained or away has nothing to be replaced.
fn takes_part(draft: &Draft<'_>, slot: Slot) -> bool {
    match slot {
        Slot::Number(_) => true,
        Slot::Node(node) => slots::loss(draft, node).is_none() && is_open(draft, node),
    }
}

fn is_open(draft: &Draft<'_>, node: NodeId) -> bool {
    let decided = draft.view.state.nodes.get(&node);
    decided.is_some_and(|node| {
        node.spec.availability == Availability::Active && !node.description.runtime.is_empty()
    })
}

/// Where new tasks can go: nothing that runs is stopped for a task that no node is there for, as in the first moments
/// of a leader that has heard of no node yet.
pub(super) struct Ready {
    anywhere: bool,
    order: Order,
}

impl Ready {
    pub(super) fn new(draft: &Draft<'_>, order: Order) -> Self {
        let mut nodes = draft.view.state.nodes.keys();
        let anywhere = nodes.any(|node| slots::is_usable(draft, *node));
        Self { anywhere, order }
    }

    /// Whether a slot's turn may come.
    pub(super) fn can_begin(&self, draft: &Draft<'_>, place: &Place) -> bool {
        match place.slot {
            Slot::Node(node) => slots::is_usable(draft, node),
            Slot::Number(_) => {
                let loses = place.dirty.iter().any(|task| may_run(draft, task));
                self.anywhere || self.order == Order::StartFirst || !loses
            }
        }
    }
}
