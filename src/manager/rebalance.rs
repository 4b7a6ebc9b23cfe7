//! Moves tasks of a service from nodes that have many of them to nodes that have few. Off unless somebody asks for it.
//!
//! A user asks by the label [`LABEL`] for always, or for once by [`Service::rebalance`]. One task is moved at a time:
//! another one is started where it is to go, and only when that runs, it is ended. Nothing is moved while anything else
//! happens to the service, nor sooner after the last move than its update policy lets two slots follow each other.
//! Each move makes the service more even, in the things that it is spread over first, so that they come to an end.
//! The leader's loop calls [`rebalance`] after the updater; what is under way is seen in the tasks alone.

mod asked;
mod spread;

pub use asked::{Even, Planned, ask, look};

use std::collections::BTreeMap;
use std::time::Duration;

use self::spread::Spread;
use super::draft::Draft;
use super::orchestrator::slots::{self, Tasks};
use super::orchestrator::{Fits, new_task};
use super::updater::dirty;
use crate::model::service_spec::{Mode, UpdatePolicy};
use crate::model::{NodeId, Service, ServiceId, Slot, TaskId, TaskState, Timestamp};

/// The label of a service that is to be kept even.
pub const LABEL: &str = "skein.rebalance";

/// What the label has to say.
pub const AUTO: &str = "auto";

/// How long a node is left alone on which a task of the service has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(3600);

/// Whether a node has room for one more task of this version of a service.
pub type Takes<'t> = &'t mut dyn FnMut(ServiceId, u64, NodeId) -> bool;

/// A task that is to be on another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of which service.
    pub service: ServiceId,
    /// Its place in it.
    pub slot: Slot,
    /// Which.
    pub task: TaskId,
    /// Where it is.
    pub from: NodeId,
    /// Where its successor is to be.
    pub to: NodeId,
}

/// What a move makes better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uneven {
    /// Between which branches of what the service is spread over; `None` between nodes.
    pub level: Option<usize>,
    /// Tasks where the moved one is.
    pub here: usize,
    /// Tasks where it goes.
    pub there: usize,
}

/// Goes on with the move that is under way, or begins with the next one if that was asked for.
pub fn rebalance(draft: &mut Draft<'_>, service: ServiceId, fits: Fits<'_>, takes: Takes<'_>) {
    let Some(service) = draft.service(service) else {
        return;
    };
    if service.removed || !is_movable(&service) {
        return;
    }
    let slots = slots::by_slot(draft, service.id);
    if go_on(draft, &service, &slots) || !is_asked(&service) {
        return;
    }
    match rest(draft, &service, &slots) {
        Rest::Never => return,
        Rest::From(at) if draft.now() < at => {
            draft.wait(service.id, Some(at), "the next move of a task");
            return;
        }
        Rest::From(_) => {}
    }
    let spread = Spread::of(draft, &service, &slots, fits);
    let next = spread.next(|version, node| takes(service.id, version, node));
    match next {
        Some((next, _)) => {
            let task = new_task(draft, &service, next.slot, None);
            draft.edit_task(task, |task| task.node = Some(next.to));
        }
        None if service.rebalance => {
            let mut service = Service::clone(&service);
            service.rebalance = false;
            draft.put_service(service);
        }
        None => {}
    }
}

/// The moves that make a service even, in order, as things are, the first `most` of them: what a user is shown who asks
/// what would be done.
pub fn plan(
    draft: &Draft<'_>,
    service: ServiceId,
    fits: Fits<'_>,
    takes: Takes<'_>,
    most: usize,
) -> Vec<Planned> {
    let Some(service) = draft.service(service) else {
        return Vec::new();
    };
    if service.removed || !is_movable(&service) {
        return Vec::new();
    }
    let slots = slots::by_slot(draft, service.id);
    let mut spread = Spread::of(draft, &service, &slots, fits);
    let mut moves = Vec::new();
    while moves.len() < most
        && let Some((step, uneven)) = spread.next(|version, node| takes(service.id, version, node))
    {
        spread.take(&step);
        moves.push(Planned::new(draft, &service, &spread, step, uneven));
    }
    moves
}

/// Only what is anywhere can be elsewhere, and what is to end is not worth it.
fn is_movable(service: &Service) -> bool {
    matches!(service.spec.mode.read(), Mode::Replicated { .. })
}

fn is_asked(service: &Service) -> bool {
    let label = service.spec.labels.get(LABEL);
    service.rebalance || label.is_some_and(|label| label == AUTO)
}

/// Ends what has been moved, and gives up what cannot be; whether a move is under way still.
fn go_on(draft: &mut Draft<'_>, service: &Service, slots: &BTreeMap<Slot, Tasks>) -> bool {
    let mut is_moving = false;
    for tasks in slots.values() {
        let mut live: Tasks = tasks.clone();
        live.retain(|task| slots::is_wanted(task) && draft.is_live(task));
        let Some((new, old)) = live.split_last() else {
            continue;
        };
        if old.is_empty() || live.iter().any(|task| dirty::differs(draft, service, task)) {
            continue;
        }
        is_moving = true;
        if draft.state_of(new) == TaskState::Running {
            for old in old {
                draft.want(old.id, TaskState::Shutdown);
            }
        } else if is_hopeless(draft, new) {
            draft.want(new.id, TaskState::Shutdown);
        } else {
            draft.wait(
                service.id,
                None,
                format!("task {} to run, which is moved", new.id),
            );
        }
    }
    is_moving
}

/// Whether a moved task has lost its node before it ran, or is not let onto it.
fn is_hopeless(draft: &Draft<'_>, task: &crate::model::Task) -> bool {
    let is_refused = draft.state_of(task) == TaskState::Pending && !task.status.err.is_empty();
    let is_lost = task
        .node
        .is_none_or(|node| slots::loss(draft, node).is_some());
    is_refused || is_lost
}

/// From when on the next task may be moved.
enum Rest {
    /// Not before something else has happened.
    Never,
    From(Timestamp),
}

/// All slots have their one task, which runs, and nothing is being replaced.
fn rest(draft: &Draft<'_>, service: &Service, slots: &BTreeMap<Slot, Tasks>) -> Rest {
    let update = service.update.as_ref();
    let is_settled = update.is_none_or(|update| update.completed_at.is_some());
    if !is_settled {
        return Rest::Never;
    }
    let policy = UpdatePolicy::read(service.spec.update_config.as_ref());
    let span = policy.monitor.max(policy.delay);
    let mut from = Timestamp::default();
    for tasks in slots.values() {
        let mut wanted = tasks.iter().filter(|task| slots::is_wanted(task));
        let Some(task) = wanted.next() else {
            continue;
        };
        let runs = draft.state_of(task) == TaskState::Running;
        if wanted.next().is_some() || !runs || dirty::differs(draft, service, task) {
            return Rest::Never;
        }
        from = from.max(task.meta.created_at.after(span));
    }
    Rest::From(from)
}

#[cfg(test)]
mod tests;
