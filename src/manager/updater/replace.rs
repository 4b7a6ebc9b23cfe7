//! Puts a new task into a slot, and lets go of the old ones as soon as they may go.

use super::places::{self, Place};
use crate::manager::draft::Draft;
use crate::manager::orchestrator::{new_task, slots};
use crate::manager::restart::LONGEST_STOP;
use crate::model::service_spec::Order;
use crate::model::task::record::StartRule;
use crate::model::{Service, TaskId, TaskState};

/// Makes the task that a slot is to have, unless it is there already, and tells which it is.
///
/// Stop-first, all old ones are to end and the new one starts when they have. Start-first, the one that runs
/// stays until the new one does.
pub(super) fn replace(
    draft: &mut Draft<'_>,
    service: &Service,
    place: &Place,
    order: Order,
) -> TaskId {
    let covers = match order {
        Order::StartFirst => covers(draft, place),
        Order::StopFirst => Vec::new(),
    };
    let before = before(draft, place);
    for old in &place.dirty {
        if !covers.contains(&old.id) {
            draft.want(old.id, TaskState::Shutdown);
        }
    }
    if let Some(clean) = &place.clean {
        return clean.id;
    }
    let before = before.filter(|old| !slots::has_ended(draft, *old));
    let rule = before.filter(|_| covers.is_empty()).map(|old| StartRule {
        not_before: draft.now(),
        after: Some(old),
        at_last: draft.now().after(LONGEST_STOP),
    });
    new_task(draft, service, place.slot, rule)
}

/// The old tasks that stay until the new one runs: the youngest that runs. When none is known to, all that may, since
/// a new leader may not have heard of it yet.
fn covers(draft: &Draft<'_>, place: &Place) -> Vec<TaskId> {
    let mut old = place.dirty.iter().rev();
    match old.find(|task| draft.state_of(task) == TaskState::Running) {
        Some(running) => vec![running.id],
        None => {
            let old = place
                .dirty
                .iter()
                .filter(|task| places::may_run(draft, task));
            old.map(|task| task.id).collect()
        }
    }
}

/// The youngest task whose process may be there. One that was held back has none, and waits for that one itself.
fn before(draft: &Draft<'_>, place: &Place) -> Option<TaskId> {
    let mut tasks = place.tasks.iter().rev();
    let may_run = tasks.find(|task| {
        let held_back = task.desired == TaskState::Ready;
        !held_back && places::may_run(draft, task) && !slots::has_ended(draft, task.id)
    });
    may_run.map(|task| task.id)
}
