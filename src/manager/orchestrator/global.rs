//! Services of one task on every node that fits, and jobs of the same kind.
//!
//! The slot is the node. A node that is drained, down or does not fit any more has its task shut down, and gets another
//! when that is over; one that is paused, or not heard of yet, keeps what it has and gets nothing new.

use super::slots::{self, Loss};
use super::{Fits, new_task};
use crate::manager::draft::Draft;
use crate::model::{NodeId, Service, Slot, TaskState};

/// Brings each node to one task, or to none.
pub(super) fn reconcile(draft: &mut Draft<'_>, service: &Service, fits: Fits<'_>) {
    let slots = slots::by_slot(draft, service.id);
    for (slot, tasks) in slots.iter() {
        let Slot::Node(node) = *slot else {
            continue;
        };
        let desired = match slots::loss(draft, node) {
            // There will never be another task to take the place of these.
            Some(Loss::Gone) => TaskState::Remove,
            Some(Loss::Down | Loss::Drained) => TaskState::Shutdown,
            None if !fits_here(draft, service, node, fits) => TaskState::Shutdown,
            None => continue,
        };
        for task in tasks {
            // What a job has completed stays completed.
            let done = draft.state_of(task) == TaskState::Complete && slots::is_wanted(task);
            let is_job = task.iteration.is_some();
            if desired == TaskState::Remove || !(done && is_job) {
                draft.want(task.id, desired);
            }
        }
    }
    let nodes: Vec<NodeId> = draft.view.state.nodes.keys().copied().collect();
    for node in nodes {
        let slot = Slot::Node(node);
        let free = slots
            .get(&slot)
            .is_none_or(|tasks| !slots::is_settled(draft, service, tasks));
        let welcome = slots::is_usable(draft, node) && fits_here(draft, service, node, fits);
        if free && welcome {
            new_task(draft, service, slot, None);
        }
    }
}

fn fits_here(draft: &Draft<'_>, service: &Service, node: NodeId, fits: Fits<'_>) -> bool {
    let node = draft.view.state.nodes.get(&node);
    node.is_some_and(|node| fits(node, &service.spec))
}
