//! Services of a number of tasks that come to an end: slots 0 to one less than there are completions to be.
//!
//! Each slot completes once. So many are open at a time as may run; one that failed for good stays closed, so that a
//! job that cannot be done does not go on for ever.

use std::collections::BTreeMap;

use super::slots::{self, Tasks};
use super::{iteration, new_task};
use crate::manager::draft::Draft;
use crate::manager::restart::policy;
use crate::model::{Service, Slot, TaskState};

/// Removes what earlier runs have left.
pub(super) fn forget_older(draft: &mut Draft<'_>, service: &Service) {
    let now = iteration(service);
    for task in draft.tasks_of(service.id).iter() {
        if task.iteration != now {
            draft.want(task.id, TaskState::Remove);
        }
    }
}

/// Opens as many slots as may be open.
pub(super) fn reconcile(draft: &mut Draft<'_>, service: &Service, concurrent: u64, total: u64) {
    let slots = slots::by_slot(draft, service.id);
    let open = slots
        .values()
        .filter(|tasks| is_open(draft, service, tasks))
        .count() as u64;
    let room = usize::try_from(concurrent.saturating_sub(open)).unwrap_or(usize::MAX);
    let missing: Vec<Slot> = (0..total)
        .map(Slot::Number)
        .filter(|slot| is_missing(draft, service, &slots, *slot))
        .take(room)
        .collect();
    for slot in missing {
        new_task(draft, service, slot, None);
    }
}

/// Whether a task of the slot is still to complete: it is on its way, or another follows it.
fn is_open(draft: &Draft<'_>, service: &Service, tasks: &Tasks) -> bool {
    slots::newest(tasks).is_some_and(|task| {
        let state = draft.state_of(task);
        let again = || policy::may_follow(draft, service, tasks, task);
        slots::is_wanted(task) && (!state.is_terminal() || again())
    })
}

fn is_missing(
    draft: &Draft<'_>,
    service: &Service,
    slots: &BTreeMap<Slot, Tasks>,
    slot: Slot,
) -> bool {
    let tasks = slots.get(&slot);
    tasks.is_none_or(|tasks| !slots::is_held(draft, service, tasks))
}
